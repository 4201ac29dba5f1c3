// SPDX-License-Identifier: MIT
/*
 * What this module and the shim both work on.  Memory passes between the two as a buffer, in both
 * directions: an address that somebody made up reaches neither, and what one of them has is kept
 * for the other.
 *
 *   Shared      memory of ours, for the shim
 *   RefillRing  struct pz_rq, in a Span, which is over memory of the shim
 *   Turn        struct pz_columns, with its columns, in a Shared
 *
 * A Core has struct pz_ring in a Shared.
 */
#include "lease.h"

#include "shim.h"

/* ---- Shared ----------------------------------------------------------- */

struct shared {
	PyObject_HEAD
	void *memory;
	Py_ssize_t size;
};

PyObject *shared_new(size_t size)
{
	allocfunc alloc = (allocfunc)PyType_GetSlot(shared_type, Py_tp_alloc);
	struct shared *s = (struct shared *)alloc(shared_type, 0);

	if (!s)
		return NULL;
	s->memory = PyMem_Calloc(1, size);
	if (!s->memory) {
		Py_DECREF((PyObject *)s);
		return PyErr_NoMemory();
	}
	s->size = (Py_ssize_t)size;
	return (PyObject *)s;
}

void *shared_memory(PyObject *self)
{
	return ((struct shared *)self)->memory;
}

static void shared_dealloc(PyObject *self)
{
	PyTypeObject *type = Py_TYPE(self);
	freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);

	PyMem_Free(((struct shared *)self)->memory);
	release(self);
	Py_DECREF(type);
}

/* There are pointers in it, which are nobody's to write. */
static int shared_getbuffer(PyObject *self, Py_buffer *view, int flags)
{
	struct shared *s = (struct shared *)self;

	return PyBuffer_FillInfo(view, self, s->memory, s->size, 1, flags);
}

static PyType_Slot shared_slots[] = {
	{Py_tp_doc, "Memory that the shim works on, too: a buffer that Python cannot write."},
	{Py_tp_dealloc, shared_dealloc},
	{Py_bf_getbuffer, shared_getbuffer},
	{0, NULL},
};

PyType_Spec shared_spec = {
	.name = "pyzcrx._lease.Shared",
	.basicsize = sizeof(struct shared),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
	.slots = shared_slots,
};

/* ---- RefillRing ------------------------------------------------------- */

struct refill_ring {
	PyObject_HEAD
	struct pz_rq rq;
	PyObject *memory;	/* the Span it lies in */
};

struct pz_rq *refill_ring_rq(PyObject *self)
{
	return &((struct refill_ring *)self)->rq;
}

/* Whether n units lie wholly in the span, where such a unit may begin. */
static int inside(const struct span *s, Py_ssize_t at, Py_ssize_t n, Py_ssize_t unit)
{
	return at >= 0 && at <= s->length && n <= (s->length - at) / unit &&
	       !(((uintptr_t)s->at + (uintptr_t)at) % sizeof(uint32_t));
}

static PyObject *refill_ring_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	static char *names[] = {"memory", "entries", "head", "tail", "rqes", NULL};
	Py_ssize_t entries, head, tail, rqes;
	allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
	struct refill_ring *r;
	PyObject *memory;
	struct span *s;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!nnnn:RefillRing", names, span_type,
					 &memory, &entries, &head, &tail, &rqes))
		return NULL;
	s = (struct span *)memory;
	if (entries < 1 || entries > PZ_RQ_MAX_ENTRIES || (entries & (entries - 1)))
		return PyErr_Format(PyExc_ValueError, "%zd entries are not a power of two up to %d",
				    entries, PZ_RQ_MAX_ENTRIES);
	if (s->readonly || !inside(s, head, 1, sizeof(uint32_t)) ||
	    !inside(s, tail, 1, sizeof(uint32_t)) ||
	    !inside(s, rqes, entries, sizeof(struct pz_rqe)))
		return PyErr_Format(PyExc_ValueError,
				    "head %zd, tail %zd and %zd entries at %zd are not all in %zd "
				    "writable bytes", head, tail, entries, rqes, s->length);
	r = (struct refill_ring *)alloc(type, 0);
	if (!r)
		return NULL;
	r->rq.head = (uint32_t *)(s->at + head);
	r->rq.tail = (uint32_t *)(s->at + tail);
	r->rq.rqes = (struct pz_rqe *)(s->at + rqes);
	r->rq.entries = (uint32_t)entries;
	Py_INCREF(memory);
	r->memory = memory;
	return (PyObject *)r;
}

static void refill_ring_dealloc(PyObject *self)
{
	PyTypeObject *type = Py_TYPE(self);
	freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);

	Py_CLEAR(((struct refill_ring *)self)->memory);
	release(self);
	Py_DECREF(type);
}

PyDoc_STRVAR(push_doc,
"push(offs)\n--\n\nPush offsets (uint64), as many as find room; gives how many did.");

static PyObject *refill_ring_push(PyObject *self, PyObject *offs)
{
	Py_ssize_t n;
	Py_buffer view;
	uint32_t pushed;

	if (PyObject_GetBuffer(offs, &view, PyBUF_SIMPLE))
		return NULL;
	n = view.len / (Py_ssize_t)sizeof(uint64_t);
	pushed = pz_rq_push(refill_ring_rq(self), view.buf, n > UINT32_MAX ? UINT32_MAX : n);
	PyBuffer_Release(&view);
	return PyLong_FromUnsignedLong(pushed);
}

static PyObject *refill_ring_head(PyObject *self, void *unused)
{
	(void)unused;
	return PyLong_FromUnsignedLong(*refill_ring_rq(self)->head);
}

static PyObject *refill_ring_tail(PyObject *self, void *unused)
{
	(void)unused;
	return PyLong_FromUnsignedLong(*refill_ring_rq(self)->tail);
}

static PyObject *refill_ring_pending(PyObject *self, void *unused)
{
	(void)unused;
	return PyLong_FromUnsignedLong(pz_rq_pending(refill_ring_rq(self)));
}

static PyMethodDef refill_ring_methods[] = {
	{"push", refill_ring_push, METH_O, push_doc},
	{NULL, NULL, 0, NULL},
};

static PyGetSetDef refill_ring_getset[] = {
	{"head", refill_ring_head, NULL, "entries that the kernel took, modulo 2**32", NULL},
	{"tail", refill_ring_tail, NULL, "entries that were pushed, modulo 2**32", NULL},
	{"pending", refill_ring_pending, NULL, "entries that the kernel has not taken yet", NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot refill_ring_slots[] = {
	{Py_tp_doc, "RefillRing(memory, entries, head, tail, rqes)\n\n"
		    "A refill queue in a Span; head, tail and rqes are byte offsets in it."},
	{Py_tp_new, refill_ring_new},
	{Py_tp_dealloc, refill_ring_dealloc},
	{Py_tp_methods, refill_ring_methods},
	{Py_tp_getset, refill_ring_getset},
	{0, NULL},
};

PyType_Spec refill_ring_spec = {
	.name = "pyzcrx._lease.RefillRing",
	.basicsize = sizeof(struct refill_ring),
	.flags = Py_TPFLAGS_DEFAULT,
	.slots = refill_ring_slots,
};

/* ---- Turn ------------------------------------------------------------- */

#define TURN_MOST	65536	/* completions: the largest completion queue */

struct turn {
	PyObject_HEAD
	PyObject *shared;
	struct pz_columns *columns;	/* in there; the columns follow it */
	Py_ssize_t size;
};

struct pz_columns *turn_columns(PyObject *self)
{
	return ((struct turn *)self)->columns;
}

/* n entries of the memory that is left; every column begins at a word. */
static void *column(char **at, uint64_t n, size_t unit)
{
	void *found = *at;

	*at += (n * unit + 7) & ~(uint64_t)7;
	return found;
}

static PyObject *turn_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
	struct pz_columns *c;
	Py_ssize_t n, size;
	struct turn *t;
	char *at;

	(void)kwargs;
	if (!PyArg_ParseTuple(args, "n:Turn", &n))
		return NULL;
	if (n < 1 || n > TURN_MOST)
		return PyErr_Format(PyExc_ValueError, "a turn of %zd completions", n);
	t = (struct turn *)alloc(type, 0);
	if (!t)
		return NULL;
	/* Nine columns of at most a word each. */
	size = sizeof(*c) + 9 * 8 * (n + 1);
	t->shared = shared_new(size);
	if (!t->shared) {
		Py_DECREF((PyObject *)t);
		return NULL;
	}
	c = t->columns = shared_memory(t->shared);
	t->size = size;
	at = (char *)(c + 1);
	c->capacity = n;
	c->token = column(&at, n, sizeof(*c->token));
	c->off = column(&at, n, sizeof(*c->off));
	c->len = column(&at, n, sizeof(*c->len));
	c->run_token = column(&at, n, sizeof(*c->run_token));
	c->run_start = column(&at, n + 1, sizeof(*c->run_start));
	c->run_bytes = column(&at, n, sizeof(*c->run_bytes));
	c->other_token = column(&at, n, sizeof(*c->other_token));
	c->other_res = column(&at, n, sizeof(*c->other_res));
	c->other_flags = column(&at, n, sizeof(*c->other_flags));
	return (PyObject *)t;
}

static void turn_dealloc(PyObject *self)
{
	PyTypeObject *type = Py_TYPE(self);
	freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);

	Py_CLEAR(((struct turn *)self)->shared);
	release(self);
	Py_DECREF(type);
}

/* From the counts on: the pointers before them are nobody's to write. */
static int turn_getbuffer(PyObject *self, Py_buffer *view, int flags)
{
	struct turn *t = (struct turn *)self;

	return PyBuffer_FillInfo(view, self, &t->columns->n_data,
				 t->size - (Py_ssize_t)offsetof(struct pz_columns, n_data), 0, flags);
}

static PyMemberDef turn_members[] = {
	{"shared", T_OBJECT_EX, offsetof(struct turn, shared), READONLY,
	 "its struct pz_columns, for the shim"},
	{NULL, 0, 0, 0, NULL},
};

static PyType_Slot turn_slots[] = {
	{Py_tp_doc, "Turn(capacity)\n\n"
		    "What a turn of at most that many completions is drained into: struct\n"
		    "pz_columns. As a buffer: its counts, then its columns."},
	{Py_tp_new, turn_new},
	{Py_tp_dealloc, turn_dealloc},
	{Py_tp_members, turn_members},
	{Py_bf_getbuffer, turn_getbuffer},
	{0, NULL},
};

PyType_Spec turn_spec = {
	.name = "pyzcrx._lease.Turn",
	.basicsize = sizeof(struct turn),
	.flags = Py_TPFLAGS_DEFAULT,
	.slots = turn_slots,
};
