// SPDX-License-Identifier: MIT
/* Span: a stretch of memory that counts who looks at it. */
#include "lease.h"

/* Whether length bytes from start on lie in those of whole; sets an exception if not. */
int span_fits(Py_ssize_t whole, Py_ssize_t start, Py_ssize_t length)
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
	static char *names[] = {"memory", "start", "length", "readonly", "unreadable", NULL};
	allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
	PyObject *memory, *kept, *self = NULL;
	Py_ssize_t start = 0, length = -1;
	Py_buffer view;
	int readonly = 0, unreadable = 0;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|nnpp:Span", names, &memory, &start,
					 &length, &readonly, &unreadable))
		return NULL;
	kept = borrow(memory, &view);
	if (!kept)
		return NULL;
	if (length == -1)
		length = view.len - start;
	if (span_fits(view.len, start, length))
		self = alloc(type, 0);
	if (!self) {
		Py_DECREF(kept);
		return NULL;
	}
	((struct span *)self)->at = (char *)view.buf + start;
	((struct span *)self)->length = length;
	((struct span *)self)->readonly = readonly || view.readonly;
	((struct span *)self)->unreadable = (char)unreadable;
	((struct span *)self)->memory = kept;
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

int span_refuse(Py_buffer *view)
{
	PyObject *errors = PyImport_ImportModule("pyzcrx.errors");
	PyObject *type = errors ? PyObject_GetAttrString(errors, "UnreadableMemory") : NULL;

	view->obj = NULL;
	if (type)
		PyErr_SetString(type, "the CPU cannot read this memory, it is another device's "
				"(Area.from_dmabuf()): use its offsets, off and length, there");
	Py_XDECREF(type);
	Py_XDECREF(errors);
	return -1;
}

static int span_getbuffer(PyObject *self, Py_buffer *view, int flags)
{
	struct span *s = (struct span *)self;

	if (s->unreadable)
		return span_refuse(view);
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
	{"_leases", T_PYSSIZET, offsetof(struct span, leases), READONLY,
	 "how many leases on bytes of it are out, copies left aside"},
	{"_unreadable", T_BOOL, offsetof(struct span, unreadable), READONLY,
	 "whether the CPU cannot read it: no view can be made"},
	{"__weaklistoffset__", T_PYSSIZET, offsetof(struct span, weakrefs), READONLY, NULL},
	{NULL, 0, 0, 0, NULL},
};

static PyGetSetDef span_getset[] = {
	{"_address", span_address, NULL, "where it begins", NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot span_slots[] = {
	{Py_tp_doc, "Span(memory, start=0, length=-1, readonly=False, unreadable=False)\n\n"
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
