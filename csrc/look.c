// SPDX-License-Identifier: MIT
/*
 * What a Batch shows of its turn: the bytes of an entry, and its runs, of which Runs makes an
 * object each (_receive/batch.py says what they are).
 *
 * Whatever is not plain, an entry of somebody else's or a batch that has ended, is for Python
 * to tell.
 */
#include "batch.h"

#include "shim.h"

/* The columns of a batch that is still to be looked at, in the thread of its ring; or NULL. */
static struct pz_columns *open_columns(const struct batch *b)
{
	struct core *k = (struct core *)b->ring;

	return b->open && k && k->turn && core_is_quiet(k) ? turn_columns(k->turn) : NULL;
}

/* A slice, as Python makes one. */
static PyObject *slice(PyObject *look, uint64_t at, uint32_t length)
{
	PyObject *start = PyLong_FromUnsignedLongLong(at);
	PyObject *stop = start ? PyLong_FromUnsignedLongLong(at + length) : NULL;
	PyObject *of = stop ? PySlice_New(start, stop, NULL) : NULL;
	PyObject *found = of ? PyObject_GetItem(look, of) : NULL;

	Py_XDECREF(start);
	Py_XDECREF(stop);
	Py_XDECREF(of);
	return found;
}

/* NULL without an exception: Python must say what is wrong. */
static PyObject *view(const struct batch *b, PyObject *request, Py_ssize_t i)
{
	struct pz_columns *c = open_columns(b);
	const struct account *a;
	uint64_t index, at;
	PyObject *memory;

	if (!c || b->watch || i < 0 || i >= b->n || i >= (Py_ssize_t)c->capacity ||
	    !PyObject_TypeCheck(request, receiver_type) ||
	    c->token[i] != ((struct receiver *)request)->token)
		return NULL;
	a = turn_account(((struct core *)b->ring)->accounts, c->token[i]);
	index = c->off[i] >> PZ_AREA_SHIFT;
	at = c->off[i] & (((uint64_t)1 << PZ_AREA_SHIFT) - 1);
	if (!a || !a->looks || index >= (uint64_t)PyList_Size(a->looks) ||
	    index >= (uint64_t)PyList_Size(a->memories))
		return NULL;
	memory = PyList_GetItem(a->memories, (Py_ssize_t)index);
	if (!PyObject_TypeCheck(memory, span_type) || ((struct span *)memory)->unreadable ||
	    at + c->len[i] > (uint64_t)((struct span *)memory)->length)
		return NULL;
	return slice(PyList_GetItem(a->looks, (Py_ssize_t)index), at, c->len[i]);
}

PyObject *batch_view(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
	PyObject *found;
	Py_ssize_t i;

	if (n != 2)
		return PyErr_Format(PyExc_TypeError, "view() takes a request and an index");
	i = PyNumber_AsSsize_t(args[1], PyExc_OverflowError);
	if (i == -1)	/* no entry at any rate */
		PyErr_Clear();
	found = view((struct batch *)self, args[0], i);
	if (found || PyErr_Occurred())
		return found;
	return PyObject_CallMethod(self, "_view", "OO", args[0], args[1]);
}

/* ---- Runs ------------------------------------------------------------- */

struct runs {
	PyObject_HEAD
	PyObject *batch, *type, *receivers;	/* Batch, a type of tuple, list */
	Py_ssize_t next;
};

static PyObject *runs_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	PyObject *batch, *of, *receivers;
	struct runs *r;

	(void)kwargs;
	if (!PyArg_ParseTuple(args, "O!O!O!:Runs", batch_type, &batch, &PyType_Type, &of,
			      &PyTuple_Type, &receivers))
		return NULL;
	if (!PyType_IsSubtype((PyTypeObject *)of, &PyTuple_Type))
		return PyErr_Format(PyExc_TypeError, "Runs are of a type of tuple");
	r = (struct runs *)PyType_GenericAlloc(type, 0);
	if (!r)
		return NULL;
	r->batch = Py_NewRef(batch);
	r->type = Py_NewRef(of);
	r->receivers = Py_NewRef(receivers);
	return (PyObject *)r;
}

static PyObject *run_of(const struct runs *r, const struct pz_columns *c, Py_ssize_t run)
{
	PyObject *found = PyType_GenericAlloc((PyTypeObject *)r->type, 5);

	if (!found)
		return NULL;
	/* What there is of it goes with it. */
	if (PyTuple_SetItem(found, 0, Py_NewRef(PyTuple_GetItem(r->receivers, run))) ||
	    PyTuple_SetItem(found, 1, PyLong_FromUnsignedLong(c->run_start[run])) ||
	    PyTuple_SetItem(found, 2, PyLong_FromUnsignedLong(c->run_start[run + 1])) ||
	    PyTuple_SetItem(found, 3, PyLong_FromUnsignedLongLong(c->run_bytes[run])) ||
	    PyTuple_SetItem(found, 4, Py_NewRef(r->batch)) || PyErr_Occurred()) {
		Py_DECREF(found);
		return NULL;
	}
	return found;
}

static PyObject *runs_next(PyObject *self)
{
	struct runs *r = (struct runs *)self;
	struct batch *b = (struct batch *)r->batch;
	PyObject *none;

	if (!b || r->next >= PyTuple_Size(r->receivers))
		return NULL;
	if (!open_columns(b)) {	/* it may be asked at any time */
		none = PyObject_CallMethod(r->batch, "_check_open", NULL);
		if (!none)
			return NULL;
		Py_DECREF(none);
	}
	if (!b->ring || r->next >= (Py_ssize_t)turn_columns(((struct core *)b->ring)->turn)->capacity)
		return NULL;
	return run_of(r, turn_columns(((struct core *)b->ring)->turn), r->next++);
}

static int runs_traverse(PyObject *self, visitproc visit, void *arg)
{
	struct runs *r = (struct runs *)self;

	Py_VISIT(Py_TYPE(self));
	Py_VISIT(r->batch);
	Py_VISIT(r->type);
	Py_VISIT(r->receivers);
	return 0;
}

static int runs_clear(PyObject *self)
{
	Py_CLEAR(((struct runs *)self)->batch);
	return 0;
}

static void runs_dealloc(PyObject *self)
{
	PyTypeObject *type = Py_TYPE(self);

	PyObject_GC_UnTrack(self);
	runs_clear(self);
	Py_CLEAR(((struct runs *)self)->type);
	Py_CLEAR(((struct runs *)self)->receivers);
	PyObject_GC_Del(self);
	Py_DECREF(type);
}

static PyType_Slot runs_slots[] = {
	{Py_tp_doc, "Runs(batch, type, receivers)\n\n"
		    "Gives type(request, start, stop, size_bytes, batch), a type of tuple, for each run\n"
		    "of the batch, whose requests are the tuple receivers."},
	{Py_tp_new, runs_new},
	{Py_tp_dealloc, runs_dealloc},
	{Py_tp_traverse, runs_traverse},
	{Py_tp_clear, runs_clear},
	{Py_tp_iter, PyObject_SelfIter},
	{Py_tp_iternext, runs_next},
	{0, NULL},
};

PyType_Spec runs_spec = {
	.name = "pyzcrx._lease.Runs",
	.basicsize = sizeof(struct runs),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
	.slots = runs_slots,
};
