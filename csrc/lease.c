// SPDX-License-Identifier: MIT
/*
 * pyzcrx._lease: the three small types that cffi cannot do cheaply.
 *
 *   Span     a stretch of memory that counts who looks at it
 *   Account  the references one ifq handed out, and those that came back
 *   Lease    a Span over received bytes; giving it back puts its offset into
 *            the Account, and is refused while a view of it lives
 *
 * One exporter per lease: memoryview.release() succeeds while slices or numpy
 * arrays of the view live, but those hold the exporter, so the exporter knows.
 *
 * Everything here runs under the GIL.  That is why Account.push() is here and
 * not a cffi call, which would drop it: a buffer may be released by any thread
 * at any time, also while the ring's owner pushes.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>
#include <structmember.h>
#include <time.h>

#include "shim.h"

#define HISTOGRAM	48	/* bucket i: held for [2^i, 2^(i+1)) ns */

/* ---- Account ---------------------------------------------------------- */

struct account {
	PyObject_HEAD
	uint64_t *offs;			/* returned, not yet in the refill queue */
	Py_ssize_t start, count, room;
	Py_ssize_t leased;		/* out with the user */
	unsigned long long taken, given, forgotten;
	unsigned long long now_ns, held_max_ns;
	unsigned long long histogram[HISTOGRAM];
};

static int account_reserve(struct account *a, Py_ssize_t more)
{
	Py_ssize_t room = a->room ? a->room : 256;
	uint64_t *offs;

	if (a->start) {
		memmove(a->offs, a->offs + a->start, a->count * sizeof(*offs));
		a->start = 0;
	}
	while (room < a->count + more)
		room *= 2;
	if (room == a->room)
		return 0;
	offs = PyMem_Realloc(a->offs, room * sizeof(*offs));
	if (!offs)
		return -1;
	a->offs = offs;
	a->room = room;
	return 0;
}

static int account_put(struct account *a, uint64_t off)
{
	if (a->start + a->count == a->room && account_reserve(a, 1))
		return -1;
	a->offs[a->start + a->count++] = off;
	a->given++;
	return 0;
}

static unsigned long long monotonic_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ULL + now.tv_nsec;
}

static void account_held(struct account *a, unsigned long long since, Py_ssize_t n)
{
	unsigned long long now = monotonic_ns();
	unsigned long long ns = now > since ? now - since : 0;
	int bucket = ns ? 63 - __builtin_clzll(ns) : 0;

	if (ns > a->held_max_ns)
		a->held_max_ns = ns;
	a->histogram[bucket < HISTOGRAM ? bucket : HISTOGRAM - 1] += n;
}

static void account_dealloc(PyObject *self)
{
	PyTypeObject *type = Py_TYPE(self);
	freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);

	PyMem_Free(((struct account *)self)->offs);
	release(self);
	Py_DECREF(type);
}

PyDoc_STRVAR(give_back_doc,
"give_back(offs, tokens, token_mask, token_value, since_ns)\n--\n\n"
"Return every offset of offs ('Q') whose token fits, except all-ones ones;\n"
"gives their number.");

static PyObject *account_give_back(PyObject *self, PyObject *args)
{
	struct account *a = (struct account *)self;
	unsigned long long mask, value, since;
	Py_buffer offs, tokens;
	const uint64_t *off, *token;
	Py_ssize_t i, n, before = a->count;

	if (!PyArg_ParseTuple(args, "y*y*KKK", &offs, &tokens, &mask, &value, &since))
		return NULL;
	n = offs.len / (Py_ssize_t)sizeof(*off);
	off = offs.buf;
	token = tokens.buf;
	if (tokens.len != offs.len) {
		PyErr_SetString(PyExc_ValueError, "offs and tokens differ in length");
		goto out;
	}
	if (a->start + a->count + n > a->room && account_reserve(a, n)) {
		PyErr_NoMemory();
		goto out;
	}
	for (i = 0; i < n; i++) {
		if ((token[i] & mask) != value || off[i] == UINT64_MAX)
			continue;
		a->offs[a->start + a->count++] = off[i];
	}
	a->given += a->count - before;
	a->leased -= a->count - before;
	account_held(a, since, a->count - before);
out:
	PyBuffer_Release(&offs);
	PyBuffer_Release(&tokens);
	if (PyErr_Occurred())
		return NULL;
	return PyLong_FromSsize_t(a->count - before);
}

PyDoc_STRVAR(take_doc, "take(n)\n--\n\nn references were handed out by completions.");

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

PyDoc_STRVAR(push_doc,
"push(rq)\n--\n\n"
"Move returned offsets to the refill queue (address of a struct pz_rq), as many\n"
"as find room, oldest first; gives their number.");

static PyObject *account_push(PyObject *self, PyObject *arg)
{
	struct account *a = (struct account *)self;
	struct pz_rq *rq = PyLong_AsVoidPtr(arg);
	uint32_t n;

	if (!rq) {
		if (!PyErr_Occurred())
			PyErr_SetString(PyExc_ValueError, "push needs a refill queue");
		return NULL;
	}
	if (!a->count)
		return PyLong_FromLong(0);
	n = pz_rq_push(rq, a->offs + a->start, a->count > UINT32_MAX ? UINT32_MAX : a->count);
	a->start += n;
	a->count -= n;
	if (!a->count)
		a->start = 0;
	return PyLong_FromUnsignedLong(n);
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

static PyMethodDef account_methods[] = {
	{"give_back", account_give_back, METH_VARARGS, give_back_doc},
	{"take", account_take, METH_O, take_doc},
	{"push", account_push, METH_O, push_doc},
	{"returned", account_returned, METH_NOARGS, returned_doc},
	{NULL, NULL, 0, NULL},
};

#define FIELD(name, type, flags, doc) \
	{#name, type, offsetof(struct account, name), flags, doc}

static PyMemberDef account_members[] = {
	FIELD(count, T_PYSSIZET, READONLY, "returned offsets that wait for the refill queue"),
	FIELD(leased, T_PYSSIZET, READONLY, "references out with the user"),
	FIELD(taken, T_ULONGLONG, READONLY, "references ever handed out"),
	FIELD(given, T_ULONGLONG, READONLY, "references ever given back"),
	FIELD(forgotten, T_ULONGLONG, READONLY, "of those, by the garbage collector"),
	FIELD(held_max_ns, T_ULONGLONG, READONLY, "the longest that one was held"),
	FIELD(now_ns, T_ULONGLONG, 0, "the clock of the ring's last turn"),
	{NULL, 0, 0, 0, NULL},
};

static PyGetSetDef account_getset[] = {
	{"histogram", account_histogram, NULL,
	 "references by hold time: bucket i counts [2**i, 2**(i+1)) ns", NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot account_slots[] = {
	{Py_tp_doc, "The references one ifq handed out, and those that came back."},
	{Py_tp_dealloc, account_dealloc},
	{Py_tp_methods, account_methods},
	{Py_tp_members, account_members},
	{Py_tp_getset, account_getset},
	{0, NULL},
};

static PyType_Spec account_spec = {
	.name = "pyzcrx._lease.Account",
	.basicsize = sizeof(struct account),
	.flags = Py_TPFLAGS_DEFAULT,
	.slots = account_slots,
};

/* ---- Span ------------------------------------------------------------- */

struct span {
	PyObject_HEAD
	char *at;
	Py_ssize_t length, exports;
	PyObject *memory;		/* the Span this one lies in, or NULL */
	PyObject *weakrefs;
	char readonly;
};

static int span_init(struct span *s, unsigned long long address, Py_ssize_t length,
		     int readonly)
{
	if (!address || length < 0) {
		PyErr_SetString(PyExc_ValueError, "a span needs an address and a length >= 0");
		return -1;
	}
	s->at = (char *)(uintptr_t)address;
	s->length = length;
	s->readonly = readonly != 0;
	return 0;
}

static PyObject *span_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	static char *names[] = {"address", "length", "readonly", NULL};
	allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
	unsigned long long address;
	Py_ssize_t length;
	PyObject *self;
	int readonly = 0;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "Kn|p:Span", names,
					 &address, &length, &readonly))
		return NULL;
	self = alloc(type, 0);
	if (self && span_init((struct span *)self, address, length, readonly)) {
		Py_DECREF(self);
		return NULL;
	}
	return self;
}

static void span_dealloc(PyObject *self)
{
	PyTypeObject *type = Py_TYPE(self);
	freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
	struct span *s = (struct span *)self;
	PyObject *memory = s->memory;

	if (s->weakrefs)
		PyObject_ClearWeakRefs(self);
	release(self);
	Py_XDECREF(memory);
	Py_DECREF(type);
}

static int span_getbuffer(PyObject *self, Py_buffer *view, int flags)
{
	struct span *s = (struct span *)self;

	if (PyBuffer_FillInfo(view, self, s->at, s->length, s->readonly, flags))
		return -1;
	s->exports++;
	return 0;
}

static void span_releasebuffer(PyObject *self, Py_buffer *view)
{
	(void)view;
	((struct span *)self)->exports--;
}

static Py_ssize_t span_length(PyObject *self)
{
	return ((struct span *)self)->length;
}

static PyObject *span_address(PyObject *self, void *unused)
{
	(void)unused;
	return PyLong_FromVoidPtr(((struct span *)self)->at);
}

static PyMemberDef span_members[] = {
	{"exports", T_PYSSIZET, offsetof(struct span, exports), READONLY,
	 "how many views of it live"},
	{"__weaklistoffset__", T_PYSSIZET, offsetof(struct span, weakrefs), READONLY, NULL},
	{NULL, 0, 0, 0, NULL},
};

static PyGetSetDef span_getset[] = {
	{"address", span_address, NULL, "where it begins", NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot span_slots[] = {
	{Py_tp_doc, "A stretch of memory that counts who looks at it.\n\n"
		    "Does not own the memory: whoever made it unmaps once it is gone."},
	{Py_tp_new, span_new},
	{Py_tp_dealloc, span_dealloc},
	{Py_tp_members, span_members},
	{Py_tp_getset, span_getset},
	{Py_bf_getbuffer, span_getbuffer},
	{Py_bf_releasebuffer, span_releasebuffer},
	{Py_sq_length, span_length},
	{0, NULL},
};

static PyType_Spec span_spec = {
	.name = "pyzcrx._lease.Span",
	.basicsize = sizeof(struct span),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
	.slots = span_slots,
};

/* ---- Lease ------------------------------------------------------------ */

struct lease {
	struct span span;
	struct account *account;	/* NULL once given back */
	uint64_t off;
	unsigned long long since_ns;
};

static PyTypeObject *account_type, *span_type;

static PyObject *lease_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
	unsigned long long address, off;
	PyObject *account, *memory, *self;
	struct lease *l;
	Py_ssize_t length;

	(void)kwargs;
	if (!PyArg_ParseTuple(args, "O!O!KnK:Lease", account_type, &account, span_type,
			      &memory, &address, &length, &off))
		return NULL;
	self = alloc(type, 0);
	if (!self)
		return NULL;
	l = (struct lease *)self;
	if (span_init(&l->span, address, length, 1)) {
		Py_DECREF(self);
		return NULL;
	}
	Py_INCREF(memory);
	l->span.memory = memory;
	Py_INCREF(account);
	l->account = (struct account *)account;
	l->off = off;
	l->since_ns = l->account->now_ns;
	return self;
}

/* The reference goes back; only memory for the list of returns can fail. */
static int lease_give_back(struct lease *l)
{
	struct account *a = l->account;

	if (account_put(a, l->off))
		return -1;
	a->leased--;
	account_held(a, l->since_ns, 1);
	l->account = NULL;
	Py_DECREF(a);
	return 0;
}

static void lease_dealloc(PyObject *self)
{
	struct lease *l = (struct lease *)self;

	/* Forgotten: no view can live, each would hold us. */
	if (l->account) {
		l->account->forgotten++;
		lease_give_back(l);
	}
	span_dealloc(self);
}

static int lease_getbuffer(PyObject *self, Py_buffer *view, int flags)
{
	if (!((struct lease *)self)->account) {
		view->obj = NULL;
		PyErr_SetString(PyExc_BufferError,
				"the buffer was released: its bytes are the kernel's again");
		return -1;
	}
	return span_getbuffer(self, view, flags);
}

PyDoc_STRVAR(lease_return_doc,
"give_back()\n--\n\n"
"0: given back; 1: refused, views live; 2: it was given back before.");

static PyObject *lease_return(PyObject *self, PyObject *unused)
{
	struct lease *l = (struct lease *)self;
	long verdict = 0;

	(void)unused;
	if (!l->account)
		verdict = 2;
	else if (l->span.exports)
		verdict = 1;
	else if (lease_give_back(l))
		return PyErr_NoMemory();
	return PyLong_FromLong(verdict);
}

static PyObject *lease_released(PyObject *self, void *unused)
{
	(void)unused;
	return PyBool_FromLong(!((struct lease *)self)->account);
}

static PyMethodDef lease_methods[] = {
	{"give_back", lease_return, METH_NOARGS, lease_return_doc},
	{NULL, NULL, 0, NULL},
};

static PyMemberDef lease_members[] = {
	{"off", T_ULONGLONG, offsetof(struct lease, off), READONLY,
	 "the completion's offset, area token included"},
	{"since_ns", T_ULONGLONG, offsetof(struct lease, since_ns), READONLY,
	 "the ring's clock when it was handed out"},
	{NULL, 0, 0, 0, NULL},
};

static PyGetSetDef lease_getset[] = {
	{"released", lease_released, NULL, "whether it was given back", NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot lease_slots[] = {
	{Py_tp_doc, "Lease(account, memory, address, length, off)\n\n"
		    "Received bytes, read-only, until given back."},
	{Py_tp_new, lease_new},
	{Py_tp_dealloc, lease_dealloc},
	{Py_tp_methods, lease_methods},
	{Py_tp_members, lease_members},
	{Py_tp_getset, lease_getset},
	{Py_bf_getbuffer, lease_getbuffer},
	{Py_bf_releasebuffer, span_releasebuffer},
	{0, NULL},
};

static PyType_Spec lease_spec = {
	.name = "pyzcrx._lease.Lease",
	.basicsize = sizeof(struct lease),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
	.slots = lease_slots,
};

/* ---- module ----------------------------------------------------------- */

static struct PyModuleDef module = {
	PyModuleDef_HEAD_INIT,
	.m_name = "_lease",
	.m_doc = "Memory that knows who looks at it.",
	.m_size = -1,
};

static PyTypeObject *add_type(PyObject *m, const char *name, PyType_Spec *spec,
			      PyTypeObject *base)
{
	PyObject *type = PyType_FromSpecWithBases(spec, (PyObject *)base);

	if (!type || PyModule_AddObjectRef(m, name, type))
		return NULL;
	return (PyTypeObject *)type;
}

PyMODINIT_FUNC PyInit__lease(void);

PyMODINIT_FUNC PyInit__lease(void)
{
	PyObject *m = PyModule_Create(&module);

	if (!m)
		return NULL;
	account_type = add_type(m, "Account", &account_spec, NULL);
	span_type = account_type ? add_type(m, "Span", &span_spec, NULL) : NULL;
	if (!span_type || !add_type(m, "Lease", &lease_spec, span_type)) {
		Py_DECREF(m);
		return NULL;
	}
	return m;
}
