// SPDX-License-Identifier: MIT
/* Inbox: Pieces of one connection, and what it brought since, which offer.c hands out. */
#include "pieces.h"

int is_empty_list(PyObject *list)
{
	return list && PyList_Check(list) && !PyList_Size(list);
}

static Py_ssize_t buffers_of(PyObject *list)
{
	Py_ssize_t i, n = 0;

	for (i = 0; list && PyList_Check(list) && i < PyList_Size(list); i++) {
		PyObject *item = PyList_GetItem(list, i);

		if (Py_TYPE(item) == run_lease_type)
			n += run_lease_count(item);
		else if (PyObject_TypeCheck(item, lease_type))
			n++;
	}
	return n;
}

Py_ssize_t inbox_buffers(const struct inbox *in)
{
	return buffers_of(in->p.pieces) + buffers_of(in->incoming);
}

static PyObject *get_buffers(PyObject *self, void *unused)
{
	(void)unused;
	return PyLong_FromSsize_t(inbox_buffers((struct inbox *)self));
}

static PyObject *has_bytes(PyObject *self, void *unused)
{
	struct inbox *in = (struct inbox *)self;
	Py_ssize_t i;

	(void)unused;
	if (in->p.nbytes > 0)
		Py_RETURN_TRUE;
	for (i = 0; in->incoming && PyList_Check(in->incoming) && i < PyList_Size(in->incoming); i++) {
		PyObject *item = PyList_GetItem(in->incoming, i);

		if ((Py_TYPE(item) == run_lease_type || PyObject_TypeCheck(item, lease_type)) &&
		    ((struct span *)item)->length > 0)
			Py_RETURN_TRUE;
	}
	Py_RETURN_FALSE;
}

static PyObject *get_offered(PyObject *self, void *unused)
{
	struct inbox *in = (struct inbox *)self;

	(void)unused;
	return PyBool_FromLong(in->offered || in->entries);
}

static int set_offered(PyObject *self, PyObject *value, void *unused)
{
	(void)unused;
	if (value == Py_False)
		return inbox_accept((struct inbox *)self);
	PyErr_SetString(PyExc_ValueError, "_offered becomes False");
	return -1;
}

static int inbox_traverse(PyObject *self, visitproc visit, void *arg)
{
	Py_VISIT(((struct inbox *)self)->incoming);
	return pieces_traverse(self, visit, arg);
}

static int inbox_clear(PyObject *self)
{
	Py_CLEAR(((struct inbox *)self)->incoming);
	return pieces_clear(self);
}

static void inbox_dealloc(PyObject *self)
{
	PyTypeObject *type = Py_TYPE(self);

	PyObject_GC_UnTrack(self);
	inbox_clear(self);
	PyObject_GC_Del(self);
	Py_DECREF(type);
}

PyDoc_STRVAR(chunk_doc,
"_offer_chunk(kind)\n--\n\n"
"All that came in before an event, not copied, as Pieces of that kind; None where Python must\n"
"go on.\n"
"It leaves at a store to _offered.");

PyDoc_STRVAR(bytes_doc,
"_offer_bytes(most)\n--\n\n"
"The first buffers that have no more than so many bytes together, copied; None where Python\n"
"must go on. They leave at a store to _offered.");

PyDoc_STRVAR(into_doc,
"_offer_into(memory)\n--\n\n"
"Copy the first buffers that fit in wholly. Gives how many bytes; 0 where Python must go on.\n"
"They leave at a store to _offered.");

PyDoc_STRVAR(move_doc,
"move(array, most, more)\n--\n\n"
"Copy the first buffers, at most so many bytes together and never the last one, to the end of a\n"
"bytearray, which gets memory for so many more, and give them back. Gives how many bytes; 0 where\n"
"Python must go on.");

#define FIELD(name, of, type, doc) {name, type, offsetof(struct inbox, of), 0, doc}

static PyMemberDef inbox_members[] = {
	FIELD("incoming", incoming, T_OBJECT_EX,
	      "What the connection brought, in order; append it here."),
	FIELD("most_buffers", most_buffers, T_PYSSIZET,
	      "With more, relieve() copies them out of the area."),
	FIELD("at_once_bytes", at_once_bytes, T_PYSSIZET,
	      "The limit with which the request is resumed."),
	FIELD("among", among, T_PYSSIZET,
	      "So many readers its ring had when that was computed; -1: Python must resume it."),
	FIELD("limited", limited, T_BOOL,
	      "Whether the request reached its limit, and is to be resumed."),
	FIELD("patient", patient, T_BOOL, "Whether its reader waits for ever."),
	FIELD("viewed_bytes", viewed_bytes, T_PYSSIZET, "Bytes handed out where they lay."),
	FIELD("gathered_bytes", gathered_bytes, T_PYSSIZET,
	      "Bytes copied once, for the reader."),
	{NULL, 0, 0, 0, NULL},
};

static PyMethodDef inbox_methods[] = {
	{"_offer_chunk", inbox_offer_chunk, METH_O, chunk_doc},
	{"_offer_bytes", inbox_offer_bytes, METH_O, bytes_doc},
	{"_offer_into", inbox_offer_into, METH_VARARGS, into_doc},
	{"move", inbox_move, METH_VARARGS, move_doc},
	{NULL, NULL, 0, NULL},
};

static PyGetSetDef inbox_getset[] = {
	{"_offered", get_offered, set_offered,
	 "whether something is; False, when stored: it leaves", NULL},
	{"has_bytes", has_bytes, NULL, "whether there is one to be read", NULL},
	{"buffers", get_buffers, NULL,
	 "buffers of the area that lie here; what came in stays where C can hand it out", NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot inbox_slots[] = {
	{Py_tp_doc, "Pieces of one connection, and what it brought since."},
	{Py_tp_dealloc, inbox_dealloc},
	{Py_tp_traverse, inbox_traverse},
	{Py_tp_clear, inbox_clear},
	{Py_tp_methods, inbox_methods},
	{Py_tp_members, inbox_members},
	{Py_tp_getset, inbox_getset},
	{0, NULL},
};

PyType_Spec inbox_spec = {
	.name = "pyzcrx._lease.Inbox",
	.basicsize = sizeof(struct inbox),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
	.slots = inbox_slots,
};
