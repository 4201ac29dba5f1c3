// SPDX-License-Identifier: MIT
/*
 * Pieces: bytes in order that lie in several buffers, as far as C needs to know
 * (_receive/pieces.py has the rest); and ChunkFeed, the iterator that gives a stream's chunks.
 * While turns are quiet a chunk costs no call of Python.
 *
 * A chunk leaves the inbox in the same call that hands it on: no signal handler comes between.
 */
#include "core.h"

#include "queue.h"

struct pieces {
	PyObject_HEAD
	PyObject *pieces, *spent, *incoming;	/* lists; of a chunk incoming is NULL */
	Py_ssize_t nbytes, most_buffers, viewed_bytes;
	char runs, limited, patient, released;
};

static int pieces_traverse(PyObject *self, visitproc visit, void *arg)
{
	struct pieces *p = (struct pieces *)self;

	Py_VISIT(Py_TYPE(self));
	Py_VISIT(p->pieces);
	Py_VISIT(p->spent);
	Py_VISIT(p->incoming);
	return 0;
}

static int pieces_clear(PyObject *self)
{
	struct pieces *p = (struct pieces *)self;

	Py_CLEAR(p->pieces);
	Py_CLEAR(p->spent);
	Py_CLEAR(p->incoming);
	return 0;
}

static void pieces_dealloc(PyObject *self)
{
	PyTypeObject *type = Py_TYPE(self);

	PyObject_GC_UnTrack(self);
	pieces_clear(self);
	PyObject_GC_Del(self);
	Py_DECREF(type);
}

/* Each goes back, or with its last view; the second time nothing happens. */
static int let_go_all(PyObject *list)
{
	Py_ssize_t i;

	for (i = 0; list && PyList_Check(list) && i < PyList_Size(list); i++) {
		PyObject *item = PyList_GetItem(list, i), *none;

		if (Py_TYPE(item) == run_lease_type) {
			run_lease_let_go(item);
		} else if (PyObject_TypeCheck(item, lease_type)) {
			Py_INCREF(item);
			none = PyObject_CallMethod(item, "_let_go", NULL);
			Py_DECREF(item);
			if (!none)
				return -1;
			Py_DECREF(none);
		}
	}
	return 0;
}

static int set_empty(PyObject *list)
{
	return list && PyList_Check(list) ? PyList_SetSlice(list, 0, PyList_Size(list), NULL) : 0;
}

PyDoc_STRVAR(let_go_doc,
"_let_go()\n--\n\nGive all pieces back, those that are viewed with their last view.");

static PyObject *pieces_let_go(PyObject *self, PyObject *unused)
{
	struct pieces *p = (struct pieces *)self;

	(void)unused;
	if (let_go_all(p->pieces) || let_go_all(p->spent) || set_empty(p->pieces) ||
	    set_empty(p->spent))
		return NULL;
	p->nbytes = 0;
	p->runs = 0;
	p->released = 1;
	Py_RETURN_NONE;
}

static PyMethodDef pieces_methods[] = {
	{"_let_go", pieces_let_go, METH_NOARGS, let_go_doc},
	{NULL, NULL, 0, NULL},
};

#define FIELD(name, of, type, doc) {name, type, offsetof(struct pieces, of), 0, doc}

static PyMemberDef pieces_members[] = {
	FIELD("_pieces", pieces, T_OBJECT_EX, NULL),
	FIELD("_spent", spent, T_OBJECT_EX, NULL),
	FIELD("_nbytes", nbytes, T_PYSSIZET, NULL),
	FIELD("_runs", runs, T_BOOL, NULL),
	FIELD("_released", released, T_BOOL, NULL),
	FIELD("incoming", incoming, T_OBJECT_EX,
	      "What the connection brought, in order; append it here."),
	FIELD("most_buffers", most_buffers, T_PYSSIZET,
	      "With more, relieve() copies them out of the area."),
	FIELD("limited", limited, T_BOOL,
	      "Whether the request reached its limit, and is to be resumed."),
	FIELD("patient", patient, T_BOOL, "Whether its reader waits for ever."),
	FIELD("viewed_bytes", viewed_bytes, T_PYSSIZET, "Bytes handed out where they lay."),
	{NULL, 0, 0, 0, NULL},
};

static PyType_Slot pieces_slots[] = {
	{Py_tp_doc, "Bytes in order that lie in several buffers."},
	{Py_tp_dealloc, pieces_dealloc},
	{Py_tp_traverse, pieces_traverse},
	{Py_tp_clear, pieces_clear},
	{Py_tp_methods, pieces_methods},
	{Py_tp_members, pieces_members},
	{0, NULL},
};

PyType_Spec pieces_spec = {
	.name = "pyzcrx._lease.Pieces",
	.basicsize = sizeof(struct pieces),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
	.slots = pieces_slots,
};

/* ---- the next chunk --------------------------------------------------- */

static int is_empty_list(PyObject *list)
{
	return list && PyList_Check(list) && !PyList_Size(list);
}

/* Whether no inbox may have more than it should, and nothing was copied. */
static int at_ease(const struct core *k)
{
	Py_ssize_t i, n = PyList_Size(k->accounts);

	for (i = 0; i < n; i++) {
		const struct account *a = (struct account *)PyList_GetItem(k->accounts, i);

		/* No inbox has more than are out. */
		if (a->count || a->leased > a->crowded_above)
			return 0;
	}
	return 1;
}

/*
 * A quiet turn, whose data is in the inboxes of its requests then, and in the queue as events.
 * 1; 0: Python must go on; -1 with an exception.
 */
static int quiet_turn(struct core *k, struct queue *q)
{
	struct pz_columns *c = turn_columns(k->turn);
	int done = core_turn(k, -1);
	PyObject *fresh;
	Py_ssize_t i, n;

	if (done <= 0)
		return done;
	if (!c->n_data) {	/* a second is over, or a signal came */
		c->fresh = 0;
		return PyErr_CheckSignals() ? -1 : 1;
	}
	if (queue_reserve(q, (Py_ssize_t)c->n_data)) {
		PyErr_NoMemory();
		return -1;
	}
	fresh = PyList_New(0);
	if (!fresh)
		return -1;
	done = core_lease_runs(k, fresh);
	n = PyList_Size(fresh);
	for (i = 0; i < n; i++)
		queue_put(q, PyList_GetItem(fresh, i));
	Py_DECREF(fresh);
	if (done != LEASED)	/* a bad place is met again */
		return done == NO_PLACE ? 0 : -1;
	c->fresh = 0;
	return 1;
}

/* The bytes of a list of leases alone; -1 if there is anything else. */
static Py_ssize_t leased_bytes(PyObject *list, char *runs)
{
	Py_ssize_t i, n = PyList_Size(list), bytes = 0;

	for (i = 0; i < n; i++) {
		PyObject *item = PyList_GetItem(list, i);

		if (Py_TYPE(item) == run_lease_type)
			*runs = 1;
		else if (!PyObject_TypeCheck(item, lease_type))
			return -1;
		bytes += ((struct span *)item)->length;
	}
	return bytes;
}

/* All that came in, as a chunk; NULL without an exception where there is more than leases. */
static PyObject *chunk_of(struct pieces *in, PyTypeObject *type)
{
	PyObject *incoming, *spent;
	Py_ssize_t bytes;
	struct pieces *p;
	char runs = 0;

	bytes = leased_bytes(in->incoming, &runs);
	if (bytes <= 0)
		return NULL;
	p = (struct pieces *)PyType_GenericAlloc(type, 0);
	spent = PyList_New(0);
	incoming = PyList_GetSlice(in->incoming, 0, PyList_Size(in->incoming));
	if (!p || !spent || !incoming ||
	    PyList_SetSlice(in->incoming, 0, PyList_Size(in->incoming), NULL)) {
		Py_XDECREF((PyObject *)p);
		Py_XDECREF(spent);
		Py_XDECREF(incoming);
		return NULL;
	}
	p->pieces = incoming;
	p->spent = spent;
	p->nbytes = bytes;
	p->runs = runs;
	in->viewed_bytes += bytes;
	return (PyObject *)p;
}

struct chunks {
	PyObject_HEAD
	PyObject *ring, *inbox, *kind, *queue;
	PyObject *more;		/* NULL once the end was reached */
};

static PyObject *chunks_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	PyObject *ring, *inbox, *kind, *queue, *more;
	struct chunks *f;

	(void)kwargs;
	if (!PyArg_ParseTuple(args, "O!O!O!O!O:ChunkFeed", core_type, &ring, pieces_type, &inbox,
			      &PyType_Type, &kind, queue_type, &queue, &more))
		return NULL;
	if (!PyType_IsSubtype((PyTypeObject *)kind, pieces_type))
		return PyErr_Format(PyExc_TypeError, "a chunk is of a type of Pieces");
	f = (struct chunks *)PyType_GenericAlloc(type, 0);
	if (!f)
		return NULL;
	f->ring = Py_NewRef(ring);
	f->inbox = Py_NewRef(inbox);
	f->kind = Py_NewRef(kind);
	f->queue = Py_NewRef(queue);
	f->more = Py_NewRef(more);
	return (PyObject *)f;
}

/* NULL without an exception: Python must go on. */
static PyObject *quiet_chunk(struct chunks *f)
{
	struct pieces *in = (struct pieces *)f->inbox;
	struct core *k = (struct core *)f->ring;
	int done = 1;

	if (!core_is_quiet(k) || !in->patient || in->limited ||
	    !is_empty_list(in->pieces) || !is_empty_list(in->spent))
		return NULL;
	while (done > 0 && is_empty_list(in->incoming)) {
		done = quiet_turn(k, (struct queue *)f->queue);
		if (done > 0 && !at_ease(k))
			return NULL;
	}
	if (done <= 0 || !in->incoming || !PyList_Check(in->incoming))
		return NULL;
	return chunk_of(in, (PyTypeObject *)f->kind);
}

static PyObject *chunks_next(PyObject *self)
{
	struct chunks *f = (struct chunks *)self;
	PyObject *found, *more;

	if (!f->more)
		return NULL;
	found = quiet_chunk(f);
	if (found || PyErr_Occurred())
		return found;
	more = Py_NewRef(f->more);	/* it may come here again, and reach the end */
	found = PyObject_CallNoArgs(more);
	Py_DECREF(more);
	if (!found && PyErr_ExceptionMatches(PyExc_StopIteration))
		Py_CLEAR(f->more);
	return found;
}

static int chunks_traverse(PyObject *self, visitproc visit, void *arg)
{
	struct chunks *f = (struct chunks *)self;

	Py_VISIT(Py_TYPE(self));
	Py_VISIT(f->ring);
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
	Py_CLEAR(f->inbox);
	Py_CLEAR(f->kind);
	Py_CLEAR(f->queue);
	Py_CLEAR(f->more);
	PyObject_GC_Del(self);
	Py_DECREF(type);
}

static PyType_Slot chunks_slots[] = {
	{Py_tp_doc, "ChunkFeed(ring, inbox, kind, queue, more)\n\n"
		    "Gives all that came for an inbox as Pieces of that kind, after a quiet turn where\n"
		    "there is nothing; events of other requests join the queue. Where a turn is not\n"
		    "quiet, or inboxes may have too much, it gives what more() does, to the end."},
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
