// SPDX-License-Identifier: MIT
/*
 * pyzcrx._lease: the small types that cffi cannot do cheaply.
 *
 *   Span     a stretch of memory that counts who looks at it
 *   Account  the references one ifq handed out, and those that came back (account.c)
 *   Lease    a Span over received bytes; giving it back puts its offset into
 *            the Account, and is refused while a view of it lives
 *
 * and, so that a received buffer costs no call of Python (deliver.c):
 *
 *   Data     the event that brings a Lease
 *   Queue    events that wait to be handed on
 *   Feed     the iterator that hands them on
 *
 * One exporter per lease: memoryview.release() succeeds while slices or numpy
 * arrays of the view live, but those hold the exporter, so the exporter knows.
 *
 * A lease may also lie on a copy of the bytes, made when too many references
 * are out; its reference went back at once (Account.copy_above).
 */
#include "lease.h"

#include <string.h>

#define POISON	0xa5	/* what released memory holds in debug mode */

/* ---- Span ------------------------------------------------------------- */

/* Whether length bytes from start on lie in those of whole; sets an exception if not. */
static int fits(Py_ssize_t whole, Py_ssize_t start, Py_ssize_t length)
{
	if (start >= 0 && length >= 0 && start <= whole && length <= whole - start)
		return 1;
	PyErr_Format(PyExc_ValueError, "the memory has %zd bytes, not %zd from %zd on", whole,
		     length, start);
	return 0;
}

/*
 * The memory that a Span is made of, as its view; gives what keeps it there.  A Span lends
 * itself out uncounted: it counts views, not the spans in it.
 */
static PyObject *borrow(PyObject *memory, Py_buffer *view)
{
	int is_span = PyObject_TypeCheck(memory, span_type) &&
		      !PyObject_TypeCheck(memory, lease_type);
	PyObject *kept = is_span ? memory : PyMemoryView_FromObject(memory);

	if (!kept || PyObject_GetBuffer(kept, view, PyBUF_SIMPLE))
		goto fail;
	if (is_span)
		Py_INCREF(kept);
	PyBuffer_Release(view); /* a memoryview keeps the memory where it is */
	return kept;
fail:
	if (!is_span)
		Py_XDECREF(kept);
	return NULL;
}

static PyObject *span_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	static char *names[] = {"memory", "start", "length", "readonly", NULL};
	allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
	PyObject *memory, *kept, *self = NULL;
	Py_ssize_t start = 0, length = -1;
	Py_buffer view;
	int readonly = 0;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|nnp:Span", names, &memory, &start,
					 &length, &readonly))
		return NULL;
	kept = borrow(memory, &view);
	if (!kept)
		return NULL;
	if (length == -1)
		length = view.len - start;
	if (fits(view.len, start, length))
		self = alloc(type, 0);
	if (!self) {
		Py_DECREF(kept);
		return NULL;
	}
	((struct span *)self)->at = (char *)view.buf + start;
	((struct span *)self)->length = length;
	((struct span *)self)->readonly = readonly || view.readonly;
	((struct span *)self)->memory = kept;
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
	{Py_tp_doc, "Span(memory, start=0, length=-1, readonly=False)\n\n"
		    "A stretch of memory that counts who looks at it. memory is a buffer, or the\n"
		    "Span that it lies in; length -1: to its end."},
	{Py_tp_new, span_new},
	{Py_tp_dealloc, span_dealloc},
	{Py_tp_members, span_members},
	{Py_tp_getset, span_getset},
	{Py_bf_getbuffer, span_getbuffer},
	{Py_bf_releasebuffer, span_releasebuffer},
	{Py_sq_length, span_length},
	{0, NULL},
};

PyType_Spec span_spec = {
	.name = "pyzcrx._lease.Span",
	.basicsize = sizeof(struct span),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
	.slots = span_slots,
};

/* ---- Lease ------------------------------------------------------------ */

static void lease_link(struct lease *l, struct account *a)
{
	Py_INCREF((PyObject *)a);
	l->account = a;
	l->since_ns = a->now_ns;
	l->older = a->newest;
	*(a->newest ? &a->newest->newer : &a->oldest) = l;
	a->newest = l;
}

static void lease_unlink(struct lease *l)
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
	allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
	struct lease *l = (struct lease *)alloc(type, 0);

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

static void poison(const struct account *a, char *at, Py_ssize_t length)
{
	if (a->poison)
		memset(at, POISON, length);
}

/* The bytes move to memory of our own: 1; not wanted or no memory: 0; -1 as account_put. */
static int lease_copy(struct lease *l, struct account *a)
{
	char *copy;

	if (a->leased <= a->copy_above || l->span.length > a->copies_limit - a->copies_bytes)
		return 0;
	copy = PyMem_Malloc(l->span.length);
	if (!copy)
		return 0;
	if (account_put(a, l->off)) {
		PyMem_Free(copy);
		return -1;
	}
	memcpy(copy, l->span.at, l->span.length);
	poison(a, l->span.at, l->span.length);
	l->span.at = copy;
	l->copied = 1;
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
	if (!fits(s->length, start, length))
		return NULL;
	l = lease_alloc(type, s, (uintptr_t)s->at + start, length, off, token);
	if (l && lease_commit(l, (struct account *)account)) {
		Py_DECREF((PyObject *)l);
		return NULL;
	}
	return (PyObject *)l;
}

/* The reference goes back; only memory for the list of returns can fail. */
static int lease_give_back(struct lease *l)
{
	struct account *a = l->account;

	if (l->copied) {
		a->copies--;
		a->copies_bytes -= l->span.length;
		PyMem_Free(l->span.at);
	} else {
		if (account_put(a, l->off))
			return -1;
		poison(a, l->span.at, l->span.length);
		a->leased--;
		a->buffers--;
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
		l->account->forgotten += !l->copied;
		if (lease_give_back(l)) {
			/* No memory to note it: lost to the kernel until the ring goes. */
			l->account->leased--;
			l->account->buffers--;
			lease_unlink(l);
		}
	}
	span_dealloc(self);
}

/* Who knows the errors raises them. */
static int lease_refuse(PyObject *self, int verdict)
{
	PyObject *none = PyObject_CallMethod(self, "refused", "i", verdict);

	Py_XDECREF(none);
	if (none)
		PyErr_Format(PyExc_BufferError, "refused (%d)", verdict);
	return -1;
}

static int lease_getbuffer(PyObject *self, Py_buffer *view, int flags)
{
	if (!((struct lease *)self)->account) {
		view->obj = NULL;
		PyErr_SetString(PyExc_BufferError,
				"the buffer was released: its bytes are the kernel's again");
		return -1;
	}
	if (((struct lease *)self)->account->orphaned) {
		view->obj = NULL;
		return lease_refuse(self, 3);
	}
	return span_getbuffer(self, view, flags);
}

/* 0: given back; 1: refused, views live; 2: it was given back before; -1 with an exception. */
static int lease_try(struct lease *l)
{
	if (!l->account)
		return 2;
	if (l->span.exports)
		return 1;
	if (lease_give_back(l)) {
		PyErr_NoMemory();
		return -1;
	}
	return 0;
}

PyDoc_STRVAR(lease_return_doc,
"give_back()\n--\n\n"
"0: given back; 1: refused, views live; 2: it was given back before.");

static PyObject *lease_return(PyObject *self, PyObject *unused)
{
	int verdict = lease_try((struct lease *)self);

	(void)unused;
	return verdict < 0 ? NULL : PyLong_FromLong(verdict);
}

PyDoc_STRVAR(lease_release_doc,
"release()\n--\n\n"
"Give the bytes back to the kernel.\n\n"
"Raises ViewsAlive (a BufferError) while a view lives, DoubleRelease the\n"
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

PyDoc_STRVAR(lease_view_doc, "view()\n--\n\nThe bytes, without a copy.");

static PyObject *lease_view(PyObject *self, PyObject *unused)
{
	(void)unused;
	return PyMemoryView_FromObject(self);
}

static PyObject *lease_released(PyObject *self, void *unused)
{
	(void)unused;
	return PyBool_FromLong(!((struct lease *)self)->account);
}

static PyMethodDef lease_methods[] = {
	{"give_back", lease_return, METH_NOARGS, lease_return_doc},
	{"release", lease_release, METH_NOARGS, lease_release_doc},
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
	{"copied", T_BOOL, offsetof(struct lease, copied), READONLY,
	 "whether its bytes were copied, and its reference given back at once"},
	{NULL, 0, 0, 0, NULL},
};

static PyGetSetDef lease_getset[] = {
	{"released", lease_released, NULL, "whether it was given back", NULL},
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
	{Py_bf_releasebuffer, span_releasebuffer},
	{0, NULL},
};

PyType_Spec lease_spec = {
	.name = "pyzcrx._lease.Lease",
	.basicsize = sizeof(struct lease),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
	.slots = lease_slots,
};
