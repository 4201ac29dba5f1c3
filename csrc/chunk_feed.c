// SPDX-License-Identifier: MIT
/*
 * ChunkFeed: the iterator that gives a stream's chunks.  While turns are quiet a chunk costs no
 * call of Python.
 *
 * A chunk leaves the inbox in the same call that hands it on: no signal handler comes between.
 */
#include "pieces.h"
#include "queue.h"

struct chunks {
	PyObject_HEAD
	PyObject *ring, *request, *inbox, *kind, *queue;
	PyObject *more;		/* NULL once the end was reached */
};

static PyObject *chunks_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	PyObject *ring, *request, *inbox, *kind, *queue, *more;
	struct chunks *f;

	(void)kwargs;
	if (!PyArg_ParseTuple(args, "O!O!O!O!O!O:ChunkFeed", core_type, &ring, receiver_type, &request,
			      inbox_type, &inbox, &PyType_Type, &kind, queue_type, &queue, &more))
		return NULL;
	if (!PyType_IsSubtype((PyTypeObject *)kind, pieces_type))
		return PyErr_Format(PyExc_TypeError, "a chunk is of a type of Pieces");
	f = (struct chunks *)PyType_GenericAlloc(type, 0);
	if (!f)
		return NULL;
	f->ring = Py_NewRef(ring);
	f->request = Py_NewRef(request);
	f->inbox = Py_NewRef(inbox);
	f->kind = Py_NewRef(kind);
	f->queue = Py_NewRef(queue);
	f->more = Py_NewRef(more);
	return (PyObject *)f;
}

/* Whether Python knows of nothing that is to be done first. */
static int is_quiet(const struct core *k, const struct inbox *in)
{
	return core_is_quiet(k) && in->patient && !in->limited && is_empty_list(in->p.pieces) &&
	       is_empty_list(in->p.spent);
}

/* There may be a chunk: 1; 0: Python must go on; -1 with an exception. */
static int arrive(struct core *k, struct receiver *r, struct inbox *in, struct queue *queue)
{
	int done;

	/* A signal handler may take what came, at each turn, and close the stream. */
	while (is_quiet(k, in)) {
		if (is_empty_list(in->incoming)) {
			done = r->kept[KEPT_OVER] == Py_None ? core_collect(k, queue, NULL, -1) : 0;
			if (done != 1)
				return done < 0 ? -1 : 0;
		} else {
			done = core_renew(k, r, in);
			if (done <= 0)
				return done < 0 ? -1 : 1;
		}
	}
	return 0;
}

/* NULL without an exception: Python must go on. */
static PyObject *quiet_chunk(struct chunks *f)
{
	struct inbox *in = (struct inbox *)f->inbox;
	PyObject *chunk;

	if (arrive((struct core *)f->ring, (struct receiver *)f->request, in,
		   (struct queue *)f->queue) <= 0)
		return NULL;
	chunk = inbox_offer(in, (PyTypeObject *)f->kind);
	if (chunk && inbox_accept(in))
		Py_CLEAR(chunk);
	return chunk;
}

static PyObject *chunks_next(PyObject *self)
{
	struct chunks *f = (struct chunks *)self;
	PyObject *found;

	if (!f->more)
		return NULL;
	found = quiet_chunk(f);
	if (found || PyErr_Occurred())
		return found;
	found = call_more(f->more);
	if (!found && PyErr_ExceptionMatches(PyExc_StopIteration))
		Py_CLEAR(f->more);
	return found;
}

static int chunks_traverse(PyObject *self, visitproc visit, void *arg)
{
	struct chunks *f = (struct chunks *)self;

	Py_VISIT(Py_TYPE(self));
	Py_VISIT(f->ring);
	Py_VISIT(f->request);
	Py_VISIT(f->inbox);
	Py_VISIT(f->kind);
	Py_VISIT(f->queue);
	Py_VISIT(f->more);
	return 0;
}

static int chunks_clear(PyObject *self)
{
	/* The others stay to the end: chunks_next() looks at them, and no cycle needs them gone. */
	Py_CLEAR(((struct chunks *)self)->more);
	return 0;
}

static void chunks_dealloc(PyObject *self)
{
	PyTypeObject *type = Py_TYPE(self);
	struct chunks *f = (struct chunks *)self;

	PyObject_GC_UnTrack(self);
	Py_CLEAR(f->ring);
	Py_CLEAR(f->request);
	Py_CLEAR(f->inbox);
	Py_CLEAR(f->kind);
	Py_CLEAR(f->queue);
	Py_CLEAR(f->more);
	PyObject_GC_Del(self);
	Py_DECREF(type);
}

static PyType_Slot chunks_slots[] = {
	{Py_tp_doc, "ChunkFeed(ring, request, inbox, kind, queue, more)\n\n"
		    "Gives all that came for the request's inbox as Pieces of that kind, after a quiet\n"
		    "turn where there is nothing, and resumes the request where it reached its limit;\n"
		    "events of other requests join the queue. Where a turn is not quiet, or inboxes may\n"
		    "have too much, it gives what more() does, to the end."},
	{Py_tp_new, chunks_new},
	{Py_tp_dealloc, chunks_dealloc},
	{Py_tp_traverse, chunks_traverse},
	{Py_tp_clear, chunks_clear},
	{Py_tp_iter, PyObject_SelfIter},
	{Py_tp_iternext, chunks_next},
	{0, NULL},
};

PyType_Spec chunk_feed_spec = {
	.name = "pyzcrx._lease.ChunkFeed",
	.basicsize = sizeof(struct chunks),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
	.slots = chunks_slots,
};
