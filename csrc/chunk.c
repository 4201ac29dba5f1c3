// SPDX-License-Identifier: MIT
/* Chunk: Pieces that somebody has until he gives them back, once (_receive/chunk.py). */
#include "pieces.h"

PyDoc_STRVAR(release_doc,
"release()\n--\n\n"
"Give the bytes back to the kernel, those that are viewed with their last view.\n\n"
"From any thread. Raises DoubleRelease the second time.");

static PyObject *chunk_release(PyObject *self, PyObject *unused)
{
	(void)unused;
	if (((struct pieces *)self)->released) {
		lease_refuse(self, RELEASED_BEFORE);
		return NULL;
	}
	return pieces_let_go(self, NULL);
}

static PyObject *chunk_enter(PyObject *self, PyObject *unused)
{
	(void)unused;
	return Py_NewRef(self);
}

static PyObject *chunk_exit(PyObject *self, PyObject *unused)
{
	(void)unused;
	return pieces_let_go(self, NULL);
}

static Py_ssize_t chunk_length(PyObject *self)
{
	return ((struct pieces *)self)->nbytes;
}

static PyMethodDef chunk_methods[] = {
	{"release", chunk_release, METH_NOARGS, release_doc},
	{"__enter__", chunk_enter, METH_NOARGS, NULL},
	{"__exit__", chunk_exit, METH_VARARGS, NULL},
	{NULL, NULL, 0, NULL},
};

static PyType_Slot chunk_slots[] = {
	{Py_tp_doc, "Pieces that are released once; len() is in bytes."},
	{Py_tp_traverse, pieces_traverse},
	{Py_tp_clear, pieces_clear},
	{Py_tp_methods, chunk_methods},
	{Py_sq_length, chunk_length},
	{0, NULL},
};

PyType_Spec chunk_spec = {
	.name = "pyzcrx._lease.Chunk",
	.basicsize = sizeof(struct pieces),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
	.slots = chunk_slots,
};
