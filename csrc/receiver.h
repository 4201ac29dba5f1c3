/* SPDX-License-Identifier: MIT */
/* What Progress and Receiver have in common. */
#ifndef PYZCRX_RECEIVER_H
#define PYZCRX_RECEIVER_H

#include "lease.h"

/* The last step of a tp_dealloc. */
static inline void free_object(PyObject *self)
{
	PyTypeObject *type = Py_TYPE(self);
	freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);

	release(self);
	Py_DECREF(type);
}

/* value, NULL for nothing, in the place of what is there. */
static inline void replace(PyObject **place, PyObject *value)
{
	PyObject *before = *place;

	*place = Py_XNewRef(value);
	Py_XDECREF(before);
}

#endif
