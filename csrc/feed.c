// SPDX-License-Identifier: MIT
/*
 * Feed: the iterator that hands events on.  While turns are quiet it takes them itself, and
 * neither a turn nor an event costs a call of Python.  A turn may bring a thousand buffers; their
 * events are made a piece at a time, so that they use the same memory one after the other, and
 * the garbage collector never finds a thousand of them.
 *
 * An event leaves the Queue in the same call that hands it on.
 */
#include "core.h"

#include "queue.h"

#define PIECE	32	/* events that are made at a time */

struct feed {
	PyObject_HEAD
	PyObject *queue, *more;		/* more is NULL once the end was reached */
	PyObject *ring, *pending;	/* Core, or NULL: more() takes each turn */
};

static PyObject *feed_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	PyObject *queue, *more, *ring = NULL, *pending = NULL;
	struct feed *f;

	(void)kwargs;
	if (!PyArg_ParseTuple(args, "O!O|O!O!:Feed", queue_type, &queue, &more, core_type, &ring,
			      &PyTuple_Type, &pending))
		return NULL;
	f = (struct feed *)PyType_GenericAlloc(type, 0);
	if (!f)
		return NULL;
	f->queue = Py_NewRef(queue);
	f->more = Py_NewRef(more);
	f->ring = pending ? Py_XNewRef(ring) : NULL;
	f->pending = Py_XNewRef(pending);
	return (PyObject *)f;
}

/* Whether nothing is to be copied, so that what a turn brought may wait in the columns. */
static int may_wait(const struct core *k)
{
	Py_ssize_t i, n = PyList_Size(k->accounts);

	for (i = 0; i < n; i++) {
		const struct account *a = (struct account *)PyList_GetItem(k->accounts, i);

		/* No turn brings more than the columns have room for. */
		if (a->copy_fair >= 0 ||
		    a->leased > a->copy_above - (Py_ssize_t)turn_columns(k->turn)->capacity)
			return 0;
	}
	return 1;
}

/*
 * A piece of the last turn, or of a quiet one that brought something.  What is left of it is
 * fresh, as after an interruption: whatever turns the ring next leases it first.  As queue_turn().
 */
static int quiet_events(struct core *k, struct queue *q)
{
	Py_ssize_t i, n, room;
	int done;

	if (!core_is_quiet(k))
		return 0;
	if (k->leased && turn_columns(k->turn)->fresh == PZ_COUNTED)
		return queue_lease(q, k, PIECE);
	room = may_wait(k) ? PIECE : PY_SSIZE_T_MAX;
	do {
		done = queue_turn(q, k, room, -1);
	} while (done > 0 && !q->count && !turn_columns(k->turn)->n_data);
	if (done <= 0 || room == PIECE)
		return done;
	n = PyList_Size(k->accounts);
	for (i = 0; i < n; i++)	/* there were copies: their places go back at once */
		if (((struct account *)PyList_GetItem(k->accounts, i))->count)
			return 0;
	return 1;
}

static PyObject *feed_next(PyObject *self)
{
	struct feed *f = (struct feed *)self;
	struct queue *q = (struct queue *)f->queue;
	int quiet;

	while (f->more) {
		PyObject *found;
		int go_on;

		if (q->count && queue_is_mine(q))
			return queue_take(q);
		quiet = f->ring && !q->count && queue_is_mine(q) && nothing_in(f->pending) ?
			quiet_events((struct core *)f->ring, q) : 0;
		if (quiet < 0)
			return NULL;
		if (quiet)
			continue;
		found = call_more(f->more);
		if (!found)
			return NULL;
		go_on = PyObject_IsTrue(found);
		Py_DECREF(found);
		if (go_on < 0)
			return NULL;
		if (!go_on)
			Py_CLEAR(f->more);
		else if (q->count && !queue_is_mine(q))
			return PyErr_Format(PyExc_RuntimeError, "the events are for another thread");
	}
	return NULL;
}

static int feed_traverse(PyObject *self, visitproc visit, void *arg)
{
	struct feed *f = (struct feed *)self;

	Py_VISIT(Py_TYPE(self));
	Py_VISIT(f->queue);
	Py_VISIT(f->more);
	Py_VISIT(f->ring);
	Py_VISIT(f->pending);
	return 0;
}

static int feed_clear(PyObject *self)
{
	/* The others stay to the end: feed_next() looks at them, and no cycle needs them gone. */
	Py_CLEAR(((struct feed *)self)->more);
	return 0;
}

static void feed_dealloc(PyObject *self)
{
	PyTypeObject *type = Py_TYPE(self);

	PyObject_GC_UnTrack(self);
	feed_clear(self);
	Py_CLEAR(((struct feed *)self)->queue);
	Py_CLEAR(((struct feed *)self)->ring);
	Py_CLEAR(((struct feed *)self)->pending);
	PyObject_GC_Del(self);
	Py_DECREF(type);
}

static PyType_Slot feed_slots[] = {
	{Py_tp_doc, "Feed(queue, more, ring=..., pending=...)\n\n"
		    "Takes from the queue; once that is empty, or not for this thread, calls more(),\n"
		    "which fills it and returns true, returns false at the end, or raises. With a\n"
		    "ring, a Core, it takes quiet turns itself while no container of the tuple\n"
		    "pending has anything."},
	{Py_tp_new, feed_new},
	{Py_tp_dealloc, feed_dealloc},
	{Py_tp_traverse, feed_traverse},
	{Py_tp_clear, feed_clear},
	{Py_tp_iter, PyObject_SelfIter},
	{Py_tp_iternext, feed_next},
	{0, NULL},
};

PyType_Spec feed_spec = {
	.name = "pyzcrx._lease.Feed",
	.basicsize = sizeof(struct feed),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
	.slots = feed_slots,
};
