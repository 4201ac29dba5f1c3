/* SPDX-License-Identifier: MIT */
/* Pieces, Chunk and Inbox, for their files (pieces.c, chunk.c, inbox.c, offer.c, chunk_feed.c). */
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
	Py_ssize_t most_buffers, viewed_bytes, gathered_bytes;
	Py_ssize_t at_once_bytes;	/* the limit that its request is armed with */
	Py_ssize_t among;		/* so many readers there were then; -1: Python must say */
	Py_ssize_t offered, entries;	/* leases at the front that were offered, and of the next */
	Py_ssize_t offered_bytes;
	unsigned long long notified;	/* the turn that it was notified of last (core.h) */
	unsigned long long counted;	/* and that its buffers were counted after */
	char copied;			/* as a copy: they go back */
	char limited, patient;
};

int pieces_traverse(PyObject *self, visitproc visit, void *arg);
int pieces_clear(PyObject *self);
/* Pieces._let_go() */
PyObject *pieces_let_go(PyObject *self, PyObject *unused);

/* Whether this is a list without items. */
int is_empty_list(PyObject *list);
/*
 * All that came in before an event, as Pieces of that type; NULL without an exception where Python
 * must go on.
 */
PyObject *inbox_offer(struct inbox *in, PyTypeObject *kind);
/* Buffers of the area that lie there. */
Py_ssize_t inbox_buffers(const struct inbox *in);
/* What was offered last leaves. -1 with an exception: nothing did. */
int inbox_accept(struct inbox *in);

/* Inbox._offer_chunk(kind), ._offer_bytes(most), ._offer_into(memory), .move(array, most, more) */
PyObject *inbox_offer_chunk(PyObject *self, PyObject *kind);
PyObject *inbox_offer_bytes(PyObject *self, PyObject *most);
PyObject *inbox_offer_into(PyObject *self, PyObject *args);
PyObject *inbox_move(PyObject *self, PyObject *args);

#endif
