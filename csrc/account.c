// SPDX-License-Identifier: MIT
/*
 * Account: the references one ifq handed out, and those that came back.
 *
 * Everything here runs under the GIL.  That is why Account.push() is here and
 * not a cffi call, which would drop it: a buffer may be released by any thread
 * at any time, also while the ring's owner pushes.
 */
#include "lease.h"

#include "shim.h"

static void account_dealloc(PyObject *self)
{
	PyTypeObject *type = Py_TYPE(self);
	freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);

	PyMem_Free(((struct account *)self)->offs);
	Py_XDECREF((PyObject *)((struct account *)self)->signal);
	Py_CLEAR(((struct account *)self)->refill_ring);
	Py_CLEAR(((struct account *)self)->lease_kind);
	Py_CLEAR(((struct account *)self)->make_event);
	Py_CLEAR(((struct account *)self)->make_bare);
	Py_CLEAR(((struct account *)self)->memories);
	Py_CLEAR(((struct account *)self)->looks);
	release(self);
	Py_DECREF(type);
}

PyDoc_STRVAR(take_doc, "take(n)\n--\n\n"
"n references are out, as Core.count() counts them for a whole turn.");

static PyObject *account_take(PyObject *self, PyObject *arg)
{
	struct account *a = (struct account *)self;
	Py_ssize_t n = PyLong_AsSsize_t(arg);

	if (n == -1 && PyErr_Occurred())
		return NULL;
	a->leased += n;
	a->taken += n;
	Py_RETURN_NONE;
}

PyDoc_STRVAR(lease_run_doc,
"lease_run(into, make, request, type, memories, offs, lengths, start, stop, token)\n--\n\n"
"Lease the entries start to stop of the columns, which are of one request, append\n"
"make(request, lease) to into for each (None: the lease), and mark it in offs by all\n"
"ones; entries so marked are passed over, so it may be called again after it raised.\n"
"Gives stop, or the entry that names no place in memories.");

PyDoc_STRVAR(lease_as_doc,
"lease_as(type, event, bare, memories, looks)\n--\n\n"
"What Core.lease_runs() makes of an entry: a Lease of that type on the Span in memories that\n"
"it names, wrapped by event(request, lease), or by bare() where the request has an inbox\n"
"(None: not wrapped). Batch.view() slices the memoryview in looks that is in that place.");

PyDoc_STRVAR(snapshot_doc,
"snapshot()\n--\n\n"
"(taken, given, leased, buffers, held back, pushed), all of one moment.");

static PyObject *account_snapshot(PyObject *self, PyObject *unused)
{
	struct account *a = (struct account *)self;

	(void)unused;
	return Py_BuildValue("(KKnnnK)", a->taken, a->given, a->leased, a->buffers, a->count,
			     a->pushed);
}

PyDoc_STRVAR(held_doc, "held(token)\n--\n\nBytes of the leases of one request, copies too.");

static PyObject *account_held_by(PyObject *self, PyObject *arg)
{
	const struct lease *l = ((struct account *)self)->oldest;
	unsigned long long token = PyLong_AsUnsignedLongLong(arg);
	Py_ssize_t bytes = 0;

	if (PyErr_Occurred())
		return NULL;
	for (; l; l = l->newer)
		if (l->token == token)
			bytes += l->span.length;
	return PyLong_FromSsize_t(bytes);
}

PyDoc_STRVAR(oldest_doc, "oldest(n)\n--\n\nThe n leases that are out longest; -1: all.");

static PyObject *account_oldest(PyObject *self, PyObject *arg)
{
	struct lease *l = ((struct account *)self)->oldest;
	Py_ssize_t n = PyLong_AsSsize_t(arg);
	PyObject *list;

	if (n == -1 && PyErr_Occurred())
		return NULL;
	list = PyList_New(0);
	for (; list && l && n; l = l->newer, n--) {
		if (PyList_Append(list, (PyObject *)l)) {
			Py_DECREF(list);
			return NULL;
		}
	}
	return list;
}

static uint32_t push_returned(struct account *a)
{
	a->told = 0;
	if (!a->rq)
		return 0;
	if (a->count) {
		uint32_t n = a->count > UINT32_MAX ? UINT32_MAX : (uint32_t)a->count;

		n = pz_rq_push(a->rq, a->offs + a->start, n);
		a->start += n;
		a->count -= n;
		a->pushed += n;
		if (!a->count)
			a->start = 0;
	}
	return pz_rq_pending(a->rq);
}

PyDoc_STRVAR(push_doc,
"push()\n--\n\n"
"Move returned offsets to the refill queue, as many as find room, oldest first; gives\n"
"how many entries wait there then.");

static PyObject *account_push(PyObject *self, PyObject *unused)
{
	(void)unused;
	return PyLong_FromUnsignedLong(push_returned((struct account *)self));
}

int account_settled(struct account *a)
{
	uint32_t pending = push_returned(a);

	return !a->count && pending < a->act_at && a->leased <= a->most && !a->copies_bytes;
}

PyDoc_STRVAR(settle_doc,
"settle()\n--\n\n"
"As push; gives whether nothing else is to be done: nothing is held back, fewer than\n"
"act_at entries wait, no more than most references are out, and there are no copies.");

static PyObject *account_settle(PyObject *self, PyObject *unused)
{
	(void)unused;
	return PyBool_FromLong(account_settled((struct account *)self));
}

PyDoc_STRVAR(returned_doc,
"returned()\n--\n\nThe returned offsets that wait for the refill queue, oldest first.");

static PyObject *account_returned(PyObject *self, PyObject *unused)
{
	struct account *a = (struct account *)self;
	PyObject *list = PyList_New(a->count);
	Py_ssize_t i;

	(void)unused;
	for (i = 0; list && i < a->count; i++) {
		PyObject *off = PyLong_FromUnsignedLongLong(a->offs[a->start + i]);

		if (!off || PyList_SetItem(list, i, off)) {
			Py_DECREF(list);
			return NULL;
		}
	}
	return list;
}

static PyObject *account_histogram(PyObject *self, void *unused)
{
	struct account *a = (struct account *)self;
	PyObject *tuple = PyTuple_New(HISTOGRAM);
	int i;

	(void)unused;
	for (i = 0; tuple && i < HISTOGRAM; i++) {
		PyObject *n = PyLong_FromUnsignedLongLong(a->histogram[i]);

		if (!n || PyTuple_SetItem(tuple, i, n)) {
			Py_DECREF(tuple);
			return NULL;
		}
	}
	return tuple;
}

static PyObject *account_rq(PyObject *self, void *unused)
{
	PyObject *ring = ((struct account *)self)->refill_ring;

	(void)unused;
	if (!ring)
		Py_RETURN_NONE;
	Py_INCREF(ring);
	return ring;
}

static int account_set_rq(PyObject *self, PyObject *value, void *unused)
{
	struct account *a = (struct account *)self;
	PyObject *before = a->refill_ring;

	(void)unused;
	if (!value || (value != Py_None && !PyObject_TypeCheck(value, refill_ring_type))) {
		PyErr_SetString(PyExc_TypeError, "rq is a RefillRing or None");
		return -1;
	}
	a->refill_ring = value == Py_None ? NULL : value;
	a->rq = a->refill_ring ? refill_ring_rq(value) : NULL;
	Py_XINCREF(a->refill_ring);
	Py_XDECREF(before);
	return 0;
}

static PyObject *account_get_signal(PyObject *self, void *unused)
{
	PyObject *signal = (PyObject *)((struct account *)self)->signal;

	(void)unused;
	return Py_NewRef(signal ? signal : Py_None);
}

static int account_set_signal(PyObject *self, PyObject *value, void *unused)
{
	struct account *a = (struct account *)self;
	PyObject *before = (PyObject *)a->signal;

	(void)unused;
	if (!value || (value != Py_None && Py_TYPE(value) != descriptor_type)) {
		PyErr_SetString(PyExc_TypeError, "signal is a Descriptor or None");
		return -1;
	}
	a->signal = value == Py_None ? NULL : (struct descriptor *)Py_NewRef(value);
	a->told = 0;
	Py_XDECREF(before);
	return 0;
}

static PyMethodDef account_methods[] = {
	{"lease_run", account_lease_run, METH_VARARGS, lease_run_doc},
	{"lease_as", account_lease_as, METH_VARARGS, lease_as_doc},
	{"held", account_held_by, METH_O, held_doc},
	{"oldest", account_oldest, METH_O, oldest_doc},
	{"snapshot", account_snapshot, METH_NOARGS, snapshot_doc},
	{"take", account_take, METH_O, take_doc},
	{"push", account_push, METH_NOARGS, push_doc},
	{"returned", account_returned, METH_NOARGS, returned_doc},
	{"settle", account_settle, METH_NOARGS, settle_doc},
	{NULL, NULL, 0, NULL},
};

#define FIELD(name, type, flags, doc) \
	{#name, type, offsetof(struct account, name), flags, doc}

static PyMemberDef account_members[] = {
	FIELD(count, T_PYSSIZET, READONLY, "returned offsets that wait for the refill queue"),
	FIELD(leased, T_PYSSIZET, READONLY, "references out with the user"),
	FIELD(taken, T_ULONGLONG, READONLY, "references ever handed out"),
	FIELD(bytes, T_ULONGLONG, READONLY, "bytes that those had"),
	FIELD(given, T_ULONGLONG, READONLY, "references ever given back"),
	FIELD(forgotten, T_ULONGLONG, READONLY, "of those, by the garbage collector"),
	FIELD(held_max_ns, T_ULONGLONG, READONLY, "the longest that one was held"),
	FIELD(now_ns, T_ULONGLONG, 0, "the clock of the ring's last turn"),
	FIELD(pushed, T_ULONGLONG, READONLY, "references ever put into the refill queue"),
	FIELD(buffers, T_PYSSIZET, READONLY, "of the leased, those that are leases of their own"),
	FIELD(copies, T_PYSSIZET, READONLY, "leases on copies"),
	FIELD(copies_bytes, T_PYSSIZET, READONLY, "what those take"),
	FIELD(copied, T_ULONGLONG, READONLY, "leases on copies ever made"),
	FIELD(copied_bytes, T_ULONGLONG, READONLY, "bytes ever copied for leases"),
	FIELD(act_at, T_PYSSIZET, 0, "so many entries in the refill queue want policy"),
	FIELD(most, T_PYSSIZET, 0, "and more references out than this do"),
	FIELD(crowded_above, T_PYSSIZET, 0,
	      "and more than this do, after a turn for streams, where one has more than it may"),
	FIELD(spill_above, T_PYSSIZET, 0, "and more than this do, after a turn for streams"),
	FIELD(copy_above, T_PYSSIZET, 0, "with more references out than this, leases are copies"),
	FIELD(copy_fair, T_PYSSIZET, 0,
	      "copy_above for runs of requests that are not greedy, and most for others; -1: as it is"),
	FIELD(copies_limit, T_PYSSIZET, 0, "but copies take no more bytes than this"),
	FIELD(orphaned, T_BOOL, 0, "this is a forked child, which has not the memory"),
	FIELD(poison, T_BOOL, 0, "overwrite bytes before they go back to the kernel"),
	{NULL, 0, 0, 0, NULL},
};

static PyGetSetDef account_getset[] = {
	{"histogram", account_histogram, NULL,
	 "references by hold time: bucket i counts [2**i, 2**(i+1)) ns", NULL},
	{"signal", account_get_signal, account_set_signal,
	 "an eventfd (Descriptor) that polls readable once a reference came back, or None", NULL},
	{"rq", account_rq, account_set_rq,
	 "where what comes back goes: a RefillRing, or None", NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

static PyObject *account_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
	struct account *a;

	(void)args;
	(void)kwargs;
	a = (struct account *)alloc(type, 0);
	if (a) {
		a->copy_fair = -1;
		a->copy_above = a->copies_limit = a->act_at = a->most = PY_SSIZE_T_MAX;
		a->crowded_above = a->spill_above = PY_SSIZE_T_MAX;
	}
	return (PyObject *)a;
}

static PyType_Slot account_slots[] = {
	{Py_tp_new, account_new},
	{Py_tp_doc, "The references one ifq handed out, and those that came back."},
	{Py_tp_dealloc, account_dealloc},
	{Py_tp_methods, account_methods},
	{Py_tp_members, account_members},
	{Py_tp_getset, account_getset},
	{0, NULL},
};

PyType_Spec account_spec = {
	.name = "pyzcrx._lease.Account",
	.basicsize = sizeof(struct account),
	.flags = Py_TPFLAGS_DEFAULT,
	.slots = account_slots,
};

