// SPDX-License-Identifier: MIT
/*
 * Batch: a look at the columns of one turn (_receive/batch.py has the rest of it), and
 * Batches, the iterator that hands them on.
 *
 * While turns are quiet one costs no call of Python, from the batch before to the next.
 */
#include "batch.h"

static PyObject *batch_make(PyTypeObject *type, struct core *k, PyObject *events)
{
	const struct pz_columns *c = turn_columns(k->turn);
	struct batch *b = (struct batch *)PyType_GenericAlloc(type, 0);

	if (!b)
		return NULL;
	b->ring = Py_NewRef((PyObject *)k);
	b->events = Py_NewRef(events);
	b->n = c->n_data;
	b->size_bytes = c->bytes;
	b->open = 1;
	return (PyObject *)b;
}

static PyObject *batch_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	PyObject *ring, *events;

	(void)kwargs;
	if (!PyArg_ParseTuple(args, "O!O!:Batch", core_type, &ring, &PyList_Type, &events))
		return NULL;
	if (core_is_bare((struct core *)ring)) {
		PyErr_SetString(PyExc_ValueError, "the ring has no Turn");
		return NULL;
	}
	return batch_make(type, (struct core *)ring, events);
}

/* What was not taken goes back. 1: done; 0: Python must do it; -1 with an exception. */
static int batch_end(struct batch *b)
{
	struct core *k = (struct core *)b->ring;

	if (!b->open || !k || b->watch || !core_is_quiet(k))
		return 0;
	if (b->n && turn_give_back(turn_columns(k->turn), k->accounts))
		return -1;
	b->open = 0;
	core_forget(k);
	return 1;
}

int batch_expire(PyObject *batch)
{
	struct batch *b = (struct batch *)batch;
	PyObject *none;
	int done;

	if (!b->seen)	/* nobody has it yet: it comes first */
		return -1;
	Py_INCREF(batch);	/* the ring may have the only reference, and lets go of it here */
	done = b->open ? batch_end(b) : 1;
	if (done > 0) {
		b->expired = 1;
		Py_DECREF(batch);
		return 0;
	}
	none = done ? NULL : PyObject_CallMethod(batch, "_expire", NULL);
	Py_DECREF(batch);
	if (!none)
		return -1;
	Py_DECREF(none);
	return 0;
}

PyDoc_STRVAR(release_doc,
"release()\n--\n\n"
"Give every entry back that was not taken as a Buffer.\n\n"
"Raises DoubleRelease the second time, ClosedError after the next turn, WrongThread.");

static PyObject *batch_release(PyObject *self, PyObject *unused)
{
	int done = batch_end((struct batch *)self);

	(void)unused;
	if (done < 0)
		return NULL;
	if (!done)
		return PyObject_CallMethod(self, "_release", NULL);
	Py_RETURN_NONE;
}

PyDoc_STRVAR(view_doc,
"view(request, i)\n--\n\n"
"The bytes of entry *i*, which is of *request*: fast, and yours only until release.\n\n"
"Raises DoubleRelease where it was taken as a Buffer, which is then what to read.");

PyDoc_STRVAR(runs_doc,
"runs()\n--\n\n"
"The data by request, in order: an iterator of Runs. A request may have several.\n\n"
"Raises ClosedError after the batch's release.");

static int batch_traverse(PyObject *self, visitproc visit, void *arg)
{
	struct batch *b = (struct batch *)self;

	Py_VISIT(Py_TYPE(self));
	Py_VISIT(b->ring);
	Py_VISIT(b->events);
	Py_VISIT(b->watch);
	return 0;
}

static int batch_clear(PyObject *self)
{
	struct batch *b = (struct batch *)self;

	b->open = 0;
	Py_CLEAR(b->ring);
	Py_CLEAR(b->events);
	Py_CLEAR(b->watch);
	return 0;
}

static void batch_dealloc(PyObject *self)
{
	PyTypeObject *type = Py_TYPE(self);

	PyObject_GC_UnTrack(self);
	batch_clear(self);
	PyObject_GC_Del(self);
	Py_DECREF(type);
}

static Py_ssize_t batch_length(PyObject *self)
{
	return ((struct batch *)self)->n;
}

static PyMethodDef batch_methods[] = {
	{"release", batch_release, METH_NOARGS, release_doc},
	{"runs", batch_runs, METH_NOARGS, runs_doc},
	{"view", (PyCFunction)(void (*)(void))batch_view, METH_FASTCALL, view_doc},
	{"_views", batch_views, METH_O, "what Run.views() gives"},
	{NULL, NULL, 0, NULL},
};

#define FIELD(name, of, type, flags, doc) {name, type, offsetof(struct batch, of), flags, doc}

static PyMemberDef batch_members[] = {
	FIELD("_ring", ring, T_OBJECT_EX, READONLY, NULL),
	FIELD("_n", n, T_PYSSIZET, READONLY, NULL),
	FIELD("_watch", watch, T_OBJECT, 0, NULL),
	FIELD("_open", open, T_BOOL, 0, NULL),
	FIELD("_expired", expired, T_BOOL, 0, NULL),
	FIELD("_seen", seen, T_BOOL, 0, "whether it was handed on"),
	FIELD("size_bytes", size_bytes, T_ULONGLONG, READONLY, "Sum of the lengths."),
	FIELD("events", events, T_OBJECT_EX, 0,
	      "What else happened; End, Limit and Failed come after the data of their request."),
	{NULL, 0, 0, 0, NULL},
};

static PyType_Slot batch_slots[] = {
	{Py_tp_doc, "A look at the columns of one turn."},
	{Py_tp_new, batch_new},
	{Py_tp_dealloc, batch_dealloc},
	{Py_tp_traverse, batch_traverse},
	{Py_tp_clear, batch_clear},
	{Py_tp_methods, batch_methods},
	{Py_tp_members, batch_members},
	{Py_sq_length, batch_length},
	{0, NULL},
};

PyType_Spec batch_spec = {
	.name = "pyzcrx._lease.Batch",
	.basicsize = sizeof(struct batch),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
	.slots = batch_slots,
};

/* ---- Batches ---------------------------------------------------------- */

struct batches {
	PyObject_HEAD
	PyObject *ring, *type, *pending, *more;	/* more is NULL once the end was reached */
};

static PyObject *batches_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	PyObject *ring, *of, *pending, *more;
	struct batches *b;

	(void)kwargs;
	if (!PyArg_ParseTuple(args, "O!O!O!O:Batches", core_type, &ring, &PyType_Type, &of,
			      &PyTuple_Type, &pending, &more))
		return NULL;
	if (!PyType_IsSubtype((PyTypeObject *)of, batch_type))
		return PyErr_Format(PyExc_TypeError, "Batches are of a type of Batch");
	b = (struct batches *)PyType_GenericAlloc(type, 0);
	if (!b)
		return NULL;
	b->ring = Py_NewRef(ring);
	b->type = Py_NewRef(of);
	b->pending = Py_NewRef(pending);
	b->more = Py_NewRef(more);
	return (PyObject *)b;
}

/* A Batch of the last turn, with what is posted; NULL with an exception, and both stay. */
static PyObject *hand_on(struct core *k, PyTypeObject *type)
{
	PyObject *none_posted = PyList_New(0), *posted = k->posted;
	PyObject *batch = none_posted && posted ? batch_make(type, k, posted) : NULL;

	if (!batch) {
		Py_XDECREF(none_posted);
		return NULL;
	}
	k->posted = none_posted;
	Py_DECREF(posted);
	((struct batch *)batch)->seen = 1;
	Py_XDECREF(k->looked_at);
	k->looked_at = Py_NewRef(batch);
	turn_columns(k->turn)->fresh = 0;
	return batch;
}

/* The next one that needs no decision; NULL without an exception if there is one to take. */
static PyObject *quiet_batch(struct core *k, PyTypeObject *type)
{
	while (core_turn(k, -1, NULL) > 0) {
		struct pz_columns *c = turn_columns(k->turn);

		if (c->n_data || !is_empty(k->posted))
			return hand_on(k, type);
		c->fresh = 0;	/* a second is over, or a signal came */
		if (PyErr_CheckSignals())
			return NULL;
	}
	return NULL;
}

PyObject *call_more(PyObject *more)
{
	PyObject *found;

	Py_INCREF(more);
	found = PyObject_CallNoArgs(more);
	Py_DECREF(more);
	return found;
}

int nothing_in(PyObject *containers)
{
	Py_ssize_t i, n = PyTuple_Size(containers);

	for (i = 0; i < n; i++)
		if (!is_empty(PyTuple_GetItem(containers, i)))
			return 0;
	return 1;
}

static PyObject *batches_next(PyObject *self)
{
	struct batches *b = (struct batches *)self;
	PyObject *found = NULL;

	if (!b->more)
		return NULL;
	if (nothing_in(b->pending))
		found = quiet_batch((struct core *)b->ring, (PyTypeObject *)b->type);
	if (found || PyErr_Occurred())
		return found;
	found = call_more(b->more);
	if (found != Py_None)
		return found;
	Py_DECREF(found);
	Py_CLEAR(b->more);
	return NULL;
}

static int batches_traverse(PyObject *self, visitproc visit, void *arg)
{
	struct batches *b = (struct batches *)self;

	Py_VISIT(Py_TYPE(self));
	Py_VISIT(b->ring);
	Py_VISIT(b->type);
	Py_VISIT(b->pending);
	Py_VISIT(b->more);
	return 0;
}

static int batches_clear(PyObject *self)
{
	/* The others stay to the end: batches_next() looks at them, and no cycle needs them gone. */
	Py_CLEAR(((struct batches *)self)->more);
	return 0;
}

static void batches_dealloc(PyObject *self)
{
	PyTypeObject *type = Py_TYPE(self);
	struct batches *b = (struct batches *)self;

	PyObject_GC_UnTrack(self);
	Py_CLEAR(b->ring);
	Py_CLEAR(b->type);
	Py_CLEAR(b->pending);
	Py_CLEAR(b->more);
	PyObject_GC_Del(self);
	Py_DECREF(type);
}

static PyType_Slot batches_slots[] = {
	{Py_tp_doc, "Batches(ring, type, pending, more)\n\n"
		    "Takes quiet turns of the ring, each as a Batch of that type. Where one is not, or\n"
		    "a container of the tuple pending has something, calls more(): a Batch, or\n"
		    "None at the end."},
	{Py_tp_new, batches_new},
	{Py_tp_dealloc, batches_dealloc},
	{Py_tp_traverse, batches_traverse},
	{Py_tp_clear, batches_clear},
	{Py_tp_iter, PyObject_SelfIter},
	{Py_tp_iternext, batches_next},
	{0, NULL},
};

PyType_Spec batches_spec = {
	.name = "pyzcrx._lease.Batches",
	.basicsize = sizeof(struct batches),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
	.slots = batches_slots,
};
