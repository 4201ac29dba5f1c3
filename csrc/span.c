// SPDX-License-Identifier: MIT
/* Span: a stretch of memory that counts who looks at it. */
#include "lease.h"

static PyObject *span_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	static char *names[] = {"address", "length", "readonly", "memory", NULL};
	allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
	unsigned long long address;
	Py_ssize_t length;
	PyObject *memory = NULL, *self;
	int readonly = 0;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "Kn|pO!:Span", names, &address, &length,
					 &readonly, span_type, &memory))
		return NULL;
	self = alloc(type, 0);
	if (self && span_init((struct span *)self, address, length, readonly)) {
		Py_DECREF(self);
		return NULL;
	}
	if (self && memory) {
		Py_INCREF(memory);
		((struct span *)self)->memory = memory;
	}
	return self;
}

void span_dealloc(PyObject *self)
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
	{"leases", T_PYSSIZET, offsetof(struct span, leases), READONLY,
	 "how many leases on bytes of it are out, copies left aside"},
	{"__weaklistoffset__", T_PYSSIZET, offsetof(struct span, weakrefs), READONLY, NULL},
	{NULL, 0, 0, 0, NULL},
};

static PyGetSetDef span_getset[] = {
	{"address", span_address, NULL, "where it begins", NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot span_slots[] = {
	{Py_tp_doc, "Span(address, length, readonly=False, memory=...)\n\n"
		    "A stretch of memory that counts who looks at it; memory is the Span that\n"
		    "it lies in. Does not own it: whoever made it unmaps once it is gone."},
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
