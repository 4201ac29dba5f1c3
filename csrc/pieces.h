/* SPDX-License-Identifier: MIT */
/* Pieces and Inbox, for their files (pieces.c, chunk_feed.c). */
#ifndef PYZCRX_PIECES_H
#define PYZCRX_PIECES_H

#include "lease.h"

struct pieces {
	PyObject_HEAD
	PyObject *pieces, *spent;	/* lists */
	Py_ssize_t nbytes;
	char runs, released;
};

struct inbox {
	struct pieces p;
	PyObject *incoming;		/* list */
	Py_ssize_t most_buffers, viewed_bytes;
	char limited, patient;
};

#endif
