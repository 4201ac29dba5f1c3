// SPDX-License-Identifier: MIT
/* Progress: how much came for one request, and how much may. */
#include "receiver.h"

/* So a Progress refers to nothing that could refer to it. */
static int refused(PyObject *limit)
{
	if (limit == Py_None || PyLong_CheckExact(limit))
		return 0;
	PyErr_SetString(PyExc_TypeError, "a limit is an int, or None");
	return 1;
}

static PyObject *progress_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
	PyObject *limit = Py_None;
	struct progress *p;

	if ((kwargs && PyDict_Size(kwargs)) || PyTuple_Size(args) > 1)
		return PyErr_Format(PyExc_TypeError, "Progress() takes a limit");
	if (PyTuple_Size(args))
		limit = PyTuple_GetItem(args, 0);
	if (refused(limit))
		return NULL;
	p = (struct progress *)alloc(type, 0);
	if (p)
		p->limit = Py_NewRef(limit);
	return (PyObject *)p;
}

static void progress_dealloc(PyObject *self)
{
	Py_CLEAR(((struct progress *)self)->limit);
	free_object(self);
}

int progress_arm(struct progress *p)
{
	unsigned long long limit = 0;

	if (p->limit && p->limit != Py_None) {
		limit = PyLong_AsUnsignedLongLong(p->limit);
		if (PyErr_Occurred())
			return -1;
		if (limit <= p->received) {
			PyErr_SetString(PyExc_ValueError, "its limit is reached");
			return -1;
		}
		limit -= p->received;
	}
	p->this_arm = 0;
	p->armed_bytes = limit < MOST_ARM_BYTES ? limit : MOST_ARM_BYTES;
	return 0;
}

PyDoc_STRVAR(progress_arm_doc,
"arm()\n--\n\nIt is being armed; gives the len of the SQE, which is 0 where there is no limit.");

static PyObject *progress_method_arm(PyObject *self, PyObject *unused)
{
	struct progress *p = (struct progress *)self;

	(void)unused;
	return progress_arm(p) ? NULL : PyLong_FromUnsignedLong(p->armed_bytes);
}

PyDoc_STRVAR(data_doc, "data(size_bytes)\n--\n\nSo many bytes arrived.");

static PyObject *progress_data(PyObject *self, PyObject *arg)
{
	unsigned long long bytes = PyLong_AsUnsignedLongLong(arg);

	if (PyErr_Occurred())
		return NULL;
	progress_add((struct progress *)self, bytes);
	Py_RETURN_NONE;
}

static PyObject *progress_limit(PyObject *self, void *unused)
{
	PyObject *limit = ((struct progress *)self)->limit;

	(void)unused;
	return Py_NewRef(limit ? limit : Py_None);
}

static int progress_set_limit(PyObject *self, PyObject *limit, void *unused)
{
	struct progress *p = (struct progress *)self;

	(void)unused;
	if (refused(limit ? limit : (PyObject *)Py_TYPE(self)))
		return -1;
	replace(&p->limit, limit);
	return 0;
}

static PyGetSetDef progress_getset[] = {
	{"limit", progress_limit, progress_set_limit,
	 "the most bytes that may come in all; None: to the end", NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef progress_methods[] = {
	{"arm", progress_method_arm, METH_NOARGS, progress_arm_doc},
	{"data", progress_data, METH_O, data_doc},
	{NULL, NULL, 0, NULL},
};

static PyMemberDef progress_members[] = {
	{"received", T_ULONGLONG, offsetof(struct progress, received), 0,
	 "bytes ever received"},
	{"this_arm", T_ULONGLONG, offsetof(struct progress, this_arm), 0,
	 "bytes received since it was armed last"},
	{"armed_bytes", T_ULONGLONG, offsetof(struct progress, armed_bytes), READONLY,
	 "the most that may come as it was armed last; 0: no limit"},
	{"fruitless", T_PYSSIZET, offsetof(struct progress, fruitless), 0,
	 "flushes of the refill queue since bytes came last"},
	{NULL, 0, 0, 0, NULL},
};

static PyType_Slot progress_slots[] = {
	{Py_tp_doc, "Progress(limit=None)\n\nHow much came for one request, and how much may."},
	{Py_tp_new, progress_new},
	{Py_tp_dealloc, progress_dealloc},
	{Py_tp_methods, progress_methods},
	{Py_tp_members, progress_members},
	{Py_tp_getset, progress_getset},
	{0, NULL},
};

PyType_Spec progress_spec = {
	.name = "pyzcrx._lease.Progress",
	.basicsize = sizeof(struct progress),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
	.slots = progress_slots,
};
