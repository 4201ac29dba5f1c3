/* SPDX-License-Identifier: MIT */
/* Batch, for its files (batch.c, look.c). */
#ifndef PYZCRX_BATCH_H
#define PYZCRX_BATCH_H

#include "core.h"

struct batch {
	PyObject_HEAD
	PyObject *ring;		/* Core */
	PyObject *events, *watch;
	Py_ssize_t n;		/* entries */
	unsigned long long size_bytes;
	char open, expired, seen;
};

/* Batch.view() */
PyObject *batch_view(PyObject *self, PyObject *const *args, Py_ssize_t n);
/* Batch.runs() */
PyObject *batch_runs(PyObject *self, PyObject *unused);
/* Batch._views() */
PyObject *batch_views(PyObject *self, PyObject *run);

#endif
