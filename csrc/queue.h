/* SPDX-License-Identifier: MIT */
/* Queue, for those that fill it and hand on what it has (deliver.c, feed.c). */
#ifndef PYZCRX_QUEUE_H
#define PYZCRX_QUEUE_H

#include "core.h"

struct queue {
	PyObject_HEAD
	PyObject **items;		/* those that wait: count, from start on */
	Py_ssize_t start, count, room;
	uint64_t owner;			/* the thread that they are for; 0: nobody any more */
};

/* Room for n items more. -1 without memory; no exception is set. */
int queue_reserve(struct queue *q, Py_ssize_t n);
/* At the end, where there is room. */
void queue_put(struct queue *q, PyObject *item);
/* The first, of those that there are. */
PyObject *queue_take(struct queue *q);
/* The last goes again, if it is still there. */
void queue_drop(struct queue *q);
/*
 * A quiet turn (core_turn), whose data is in the queue as events then, so many at most; the posted
 * events once all of it is.  1; 0: Python must go on; -1 with an exception, at which nothing is
 * lost: what has no lease yet stays in the columns.
 */
int queue_turn(struct queue *q, struct core *k, Py_ssize_t room, long long timeout_ns);
/* The same of the turn that is in the columns. */
int queue_lease(struct queue *q, struct core *k, Py_ssize_t room);
/* Whether the calling thread is the one that they are for. */
int queue_is_mine(const struct queue *q);

#endif
