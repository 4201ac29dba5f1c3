// SPDX-License-Identifier: MIT
/*
 * pyzcrx._lease: the small types that cffi cannot do cheaply.
 *
 *   Span     a stretch of memory that counts who looks at it (span.c)
 *   Account  the references one ifq handed out, and those that came back (account.c)
 *   Lease    a Span over received bytes; giving it back puts its offset into
 *            the Account, and is refused while a view of it lives (view.c)
 *
 * and, so that a received buffer costs no call of Python (deliver.c):
 *
 *   Data     the event that brings a Lease
 *   Queue    events that wait to be handed on
 *   Feed     the iterator that hands them on
 *
 * A lease may also lie on a copy of the bytes, made when too many references
 * are out; its reference went back at once (Account.copy_above).
 */
#include "lease.h"

#include <string.h>

#define POISON	0xa5	/* what released memory holds in debug mode */

static struct span *memory_of(const struct lease *l)
{
	return (struct span *)l->span.memory;
}

void lease_link(struct lease *l, struct account *a)
{
	Py_INCREF((PyObject *)a);
	l->account = a;
	l->since_ns = a->now_ns;
	l->older = a->newest;
	*(a->newest ? &a->newest->newer : &a->oldest) = l;
	a->newest = l;
}

void lease_link_before(struct lease *l, struct lease *newer)
{
	struct account *a = newer->account;

	Py_INCREF((PyObject *)a);
	l->account = a;
	l->since_ns = newer->since_ns;
	l->older = newer->older;
	l->newer = newer;
	*(l->older ? &l->older->newer : &a->oldest) = l;
	newer->older = l;
}

void lease_unlink(struct lease *l)
{
	struct account *a = l->account;

	*(l->older ? &l->older->newer : &a->oldest) = l->newer;
	*(l->newer ? &l->newer->older : &a->newest) = l->older;
	l->older = l->newer = NULL;
	l->account = NULL;
	Py_DECREF((PyObject *)a);
}

struct lease *lease_alloc(PyTypeObject *type, struct span *memory, uint64_t address,
			  Py_ssize_t length, uint64_t off, uint64_t token)
{
	struct lease *l = lease_reused(type);

	if (!l)
		l = (struct lease *)PyType_GenericAlloc(type, 0);
	if (!l)
		return NULL;
	l->span.at = (char *)(uintptr_t)address;
	l->span.length = length;
	l->span.readonly = 1;
	Py_INCREF((PyObject *)memory);
	l->span.memory = (PyObject *)memory;
	l->off = off;
	l->token = token;
	return l;
}

static void poison(const struct account *a, const struct lease *l)
{
	if (a->poison && !memory_of(l)->unreadable)
		memset(l->span.at, POISON, l->span.length);
}

/* The bytes move to memory of our own: 1; not wanted or no memory: 0; -1 as account_put. */
static int lease_copy(struct lease *l, struct account *a)
{
	char *copy;

	if (a->leased <= a->copy_above || l->span.length > a->copies_limit - a->copies_bytes ||
	    memory_of(l)->unreadable)
		return 0;
	copy = PyMem_Malloc(l->span.length);
	if (!copy)
		return 0;
	if (account_put(a, l->off)) {
		PyMem_Free(copy);
		return -1;
	}
	memcpy(copy, l->span.at, l->span.length);
	poison(a, l);
	l->span.at = copy;
	l->span.copied = 1;
	a->leased--;
	a->copies++;
	a->copied++;
	a->copies_bytes += l->span.length;
	a->copied_bytes += l->span.length;
	account_held(a, a->now_ns, 1);
	return 1;
}

int lease_commit(struct lease *l, struct account *a)
{
	int copied = lease_copy(l, a);

	if (copied < 0) {
		PyErr_NoMemory();
		return -1;
	}
	a->buffers += !copied;
	memory_of(l)->leases += !copied;
	lease_link(l, a);
	return 0;
}

static PyObject *lease_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	unsigned long long off, token = 0;
	PyObject *account, *memory;
	Py_ssize_t start, length;
	struct span *s;
	struct lease *l;

	(void)kwargs;
	if (!PyArg_ParseTuple(args, "O!O!nnK|K:Lease", account_type, &account, span_type,
			      &memory, &start, &length, &off, &token))
		return NULL;
	s = (struct span *)memory;
	if (s->readonly) { /* a Lease is: its bytes go with its release */
		PyErr_SetString(PyExc_ValueError, "a Lease is on writable memory");
		return NULL;
	}
	if (!span_fits(s->length, start, length))
		return NULL;
	l = lease_alloc(type, s, (uintptr_t)s->at + start, length, off, token);
	if (l && lease_commit(l, (struct account *)account)) {
		Py_DECREF((PyObject *)l);
		return NULL;
	}
	return (PyObject *)l;
}

int lease_give_back(struct lease *l)
{
	struct account *a = l->account;

	if (l->span.copied) {
		a->copies--;
		a->copies_bytes -= l->span.length;
		PyMem_Free(l->span.at);
	} else {
		if (account_put(a, l->off))
			return -1;
		poison(a, l);
		a->leased--;
		a->buffers--;
		memory_of(l)->leases--;
		account_held(a, l->since_ns, 1);
	}
	lease_unlink(l);
	return 0;
}

static void lease_dealloc(PyObject *self)
{
	struct lease *l = (struct lease *)self;

	/* Forgotten: no view can live, each would hold us. */
	if (l->account) {
		l->account->forgotten += !l->span.copied && !l->span.released;
		if (lease_give_back(l)) {
			/* No memory to note it: lost to the kernel until the ring goes. */
			l->account->leased--;
			l->account->buffers--;
			memory_of(l)->leases--;
			lease_unlink(l);
		}
	}
	if (l->shown)
		PyMem_Free(l->shown);
	if (!lease_keep(l))
		span_dealloc(self);
}

/* Who knows the errors raises them. */
int lease_refuse(PyObject *self, int verdict)
{
	PyObject *none = PyObject_CallMethod(self, "_refused", "i", verdict);

	Py_XDECREF(none);
	if (none)
		PyErr_Format(PyExc_BufferError, "refused (%d)", verdict);
	return -1;
}

/* 0: released; VIEWED or RELEASED_BEFORE: not released; -1 with an exception. */
static int lease_try(struct lease *l)
{
	if (!l->account || l->span.released)
		return RELEASED_BEFORE;
	if (l->span.pinned)
		return VIEWED;
	if (lease_give_back(l)) {
		PyErr_NoMemory();
		return -1;
	}
	l->span.released = 1;
	return 0;
}

PyDoc_STRVAR(lease_return_doc,
"give_back()\n--\n\n"
"0: released; 1: refused, views live; 2: it was released before.");

static PyObject *lease_return(PyObject *self, PyObject *unused)
{
	int verdict = lease_try((struct lease *)self);

	(void)unused;
	return verdict < 0 ? NULL : PyLong_FromLong(verdict);
}

PyDoc_STRVAR(lease_release_doc,
"release()\n--\n\n"
"Give the bytes back to the kernel.\n\n"
"Raises BufferInUse (a BufferError) while a view lives, DoubleRelease the\n"
"second time.");

static PyObject *lease_release(PyObject *self, PyObject *unused)
{
	int verdict = lease_try((struct lease *)self);

	(void)unused;
	if (verdict < 0)
		return NULL;
	if (verdict) {
		lease_refuse(self, verdict);
		return NULL;
	}
	Py_RETURN_NONE;
}

PyDoc_STRVAR(lease_let_go_doc,
"let_go()\n--\n\n"
"As release(), but while views live wait for the last to go; never raises.");

void lease_let_go(struct lease *l)
{
	if (l->account && !l->span.pinned)
		(void)lease_give_back(l); /* without memory to note it: as it dies */
	l->span.released = 1;
}

static PyObject *lease_method_let_go(PyObject *self, PyObject *unused)
{
	(void)unused;
	lease_let_go((struct lease *)self);
	Py_RETURN_NONE;
}

PyDoc_STRVAR(lease_view_doc, "view()\n--\n\nThe bytes, without a copy.");

static PyObject *lease_view(PyObject *self, PyObject *unused)
{
	(void)unused;
	return PyMemoryView_FromObject(self);
}

static PyObject *lease_released(PyObject *self, void *unused)
{
	struct lease *l = (struct lease *)self;

	(void)unused;
	return PyBool_FromLong(!l->account || l->span.released);
}

static PyMethodDef lease_methods[] = {
	{"_give_back", lease_return, METH_NOARGS, lease_return_doc},
	{"release", lease_release, METH_NOARGS, lease_release_doc},
	{"_let_go", lease_method_let_go, METH_NOARGS, lease_let_go_doc},
	{"view", lease_view, METH_NOARGS, lease_view_doc},
	{NULL, NULL, 0, NULL},
};

static PyMemberDef lease_members[] = {
	{"off", T_ULONGLONG, offsetof(struct lease, off), READONLY,
	 "the completion's offset, area token included"},
	{"since_ns", T_ULONGLONG, offsetof(struct lease, since_ns), READONLY,
	 "the ring's clock when it was handed out"},
	{"token", T_ULONGLONG, offsetof(struct lease, token), READONLY,
	 "the request that brought it; 0: not known"},
	{"copied", T_BOOL, offsetof(struct lease, span.copied), READONLY,
	 "whether its bytes were copied, and its reference given back at once"},
	{NULL, 0, 0, 0, NULL},
};

static PyObject *lease_exports(PyObject *self, void *unused)
{
	struct lease *l = (struct lease *)self;

	(void)unused;
	return PyLong_FromSsize_t(l->span.pinned ? Py_REFCNT(&l->pin) : 0);
}

static PyGetSetDef lease_getset[] = {
	{"exports", lease_exports, NULL,
	 "how many views of it live, and objects that took its address from one", NULL},
	{"released", lease_released, NULL,
	 "whether it was released; what still views it keeps the bytes", NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot lease_slots[] = {
	{Py_tp_doc, "Lease(account, memory, start, length, off, token=0)\n\n"
		    "Received bytes, read-only, until given back."},
	{Py_tp_new, lease_new},
	{Py_tp_dealloc, lease_dealloc},
	{Py_tp_methods, lease_methods},
	{Py_tp_members, lease_members},
	{Py_tp_getset, lease_getset},
	{Py_bf_getbuffer, lease_getbuffer},
	{0, NULL},
};

PyType_Spec lease_spec = {
	.name = "pyzcrx._lease.Lease",
	.basicsize = sizeof(struct lease),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
	.slots = lease_slots,
};
