// SPDX-License-Identifier: MIT
/*
 * What a Batch shows of its turn: the bytes of an entry, and its runs, of which Runs makes a
 * tuple each (_receive/batch.py says what they are).
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

/* The same, or what Python says of it. */
static PyObject *any_view(PyObject *self, PyObject *request, Py_ssize_t i, PyObject *index)
{
	PyObject *found = view((struct batch *)self, request, i);

	if (found || PyErr_Occurred())
		return found;
	return index ? PyObject_CallMethod(self, "_view", "OO", request, index) :
		       PyObject_CallMethod(self, "_view", "On", request, i);
}

PyObject *batch_view(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
	Py_ssize_t i;

	if (n != 2)
		return PyErr_Format(PyExc_TypeError, "view() takes a request and an index");
	i = PyNumber_AsSsize_t(args[1], PyExc_OverflowError);
	if (i == -1)	/* no entry at any rate */
		PyErr_Clear();
	return any_view(self, args[0], i, args[1]);
}

/* ---- Runs ------------------------------------------------------------- */

enum {
	RUN_REQUEST,
	RUN_START,
	RUN_STOP,
	RUN_SIZE_BYTES,
	RUN_BATCH,
	RUN_FIELDS,
};

PyObject *batch_views(PyObject *self, PyObject *run)
{
	PyObject *request, *views, *each;
	Py_ssize_t i, stop;
	int appended;

	if (!PyTuple_Check(run) || PyTuple_Size(run) != RUN_FIELDS)
		return PyErr_Format(PyExc_TypeError, "views are of a run");
	request = PyTuple_GetItem(run, RUN_REQUEST);
	i = PyNumber_AsSsize_t(PyTuple_GetItem(run, RUN_START), PyExc_OverflowError);
	if (i == -1 && PyErr_Occurred())
		return NULL;
	stop = PyNumber_AsSsize_t(PyTuple_GetItem(run, RUN_STOP), PyExc_OverflowError);
	if (stop == -1 && PyErr_Occurred())
		return NULL;
	views = PyList_New(0);
	for (; views && i < stop; i++) {
		each = any_view(self, request, i, NULL);
		appended = each && !PyList_Append(views, each);
		Py_XDECREF(each);
		if (!appended)
			Py_CLEAR(views);
	}
	return views;
}

struct runs {
	PyObject_HEAD
	PyObject *batch, *type, *receivers;	/* Batch, a type of tuple, tuple */
	Py_ssize_t next;
};

/* The batch's ring, while the batch may be looked at; NULL with an exception. */
static struct core *open_ring(PyObject *batch)
{
	struct batch *b = (struct batch *)batch;

	if (!open_columns(b)) {	/* Python knows why, or it is only not quiet */
		PyObject *none = PyObject_CallMethod(batch, "_check_open", NULL);

		if (!none)
			return NULL;
		Py_DECREF(none);
		if (!b->ring) {
			PyErr_SetString(PyExc_ValueError, "the batch is being cleared");
			return NULL;
		}
	}
	return (struct core *)b->ring;
}

PyObject *batch_runs(PyObject *self, PyObject *unused)
{
	static PyObject *name;
	struct core *k = open_ring(self);
	PyObject *receivers, *kind;
	struct runs *r = NULL;

	(void)unused;
	if (!k || (!name && !(name = PyUnicode_InternFromString("_kind"))) || core_name(k))
		return NULL;
	kind = PyObject_GetAttr(self, name);
	receivers = kind ? PyList_AsTuple(k->receivers) : NULL;
	if (receivers && !(PyType_Check(kind) &&
			   PyType_IsSubtype((PyTypeObject *)kind, &PyTuple_Type)))
		PyErr_SetString(PyExc_TypeError, "runs are of a type of tuple");
	else if (receivers)
		r = (struct runs *)PyType_GenericAlloc(runs_type, 0);
	if (!r) {
		Py_XDECREF(kind);
		Py_XDECREF(receivers);
		return NULL;
	}
	r->batch = Py_NewRef(self);
	r->type = kind;
	r->receivers = receivers;
	return (PyObject *)r;
}

static PyObject *run_of(const struct runs *r, const struct pz_columns *c, Py_ssize_t run)
{
	PyObject *found = PyType_GenericAlloc((PyTypeObject *)r->type, RUN_FIELDS);

	if (!found)
		return NULL;
	/* What there is of it goes with it. */
	if (PyTuple_SetItem(found, RUN_REQUEST, Py_NewRef(PyTuple_GetItem(r->receivers, run))) ||
	    PyTuple_SetItem(found, RUN_START, PyLong_FromUnsignedLong(c->run_start[run])) ||
	    PyTuple_SetItem(found, RUN_STOP, PyLong_FromUnsignedLong(c->run_start[run + 1])) ||
	    PyTuple_SetItem(found, RUN_SIZE_BYTES, PyLong_FromUnsignedLongLong(c->run_bytes[run])) ||
	    PyTuple_SetItem(found, RUN_BATCH, Py_NewRef(r->batch)) || PyErr_Occurred()) {
		Py_DECREF(found);
		return NULL;
	}
	return found;
}

static PyObject *runs_next(PyObject *self)
{
	struct runs *r = (struct runs *)self;
	const struct pz_columns *c;
	struct core *k;

	if (!r->batch || r->next >= PyTuple_Size(r->receivers))
		return NULL;
	k = open_ring(r->batch);	/* it may be asked at any time */
	if (!k)
		return NULL;
	c = turn_columns(k->turn);
	return r->next < (Py_ssize_t)c->capacity ? run_of(r, c, r->next++) : NULL;
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
	{Py_tp_doc, "Batch._kind(request, start, stop, size_bytes, batch), a type of tuple, for each run\n"
		    "of a batch."},
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
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
	.slots = runs_slots,
};
