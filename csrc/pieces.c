// SPDX-License-Identifier: MIT
/*
 * Pieces: bytes in order that lie in several buffers, as far as C needs to know
 * (_receive/pieces.py has the rest).
 */
#include "pieces.h"

int pieces_traverse(PyObject *self, visitproc visit, void *arg)
{
	struct pieces *p = (struct pieces *)self;

	Py_VISIT(Py_TYPE(self));
	Py_VISIT(p->pieces);
	Py_VISIT(p->spent);
	return 0;
}

int pieces_clear(PyObject *self)
{
	struct pieces *p = (struct pieces *)self;

	Py_CLEAR(p->pieces);
	Py_CLEAR(p->spent);
	return 0;
}

static void pieces_dealloc(PyObject *self)
{
	PyTypeObject *type = Py_TYPE(self);

	PyObject_GC_UnTrack(self);
	pieces_clear(self);
	PyObject_GC_Del(self);
	Py_DECREF(type);
}

/* Whether it is a lease that is out, and no method of Python wants to be called for it. */
static int is_plain(PyObject *item)
{
	const struct account *a = PyObject_TypeCheck(item, lease_type) ?
				  ((struct lease *)item)->account : NULL;

	return a && a->plain && Py_TYPE(item) == (PyTypeObject *)a->lease_kind;
}

/* Each goes back, or with its last view; the second time nothing happens. */
static int let_go_all(PyObject *list)
{
	Py_ssize_t i;

	for (i = 0; list && PyList_Check(list) && i < PyList_Size(list); i++) {
		PyObject *item = PyList_GetItem(list, i), *none;

		if (Py_TYPE(item) == run_lease_type) {
			run_lease_let_go(item);
		} else if (is_plain(item)) {
			lease_let_go((struct lease *)item);
		} else if (PyObject_TypeCheck(item, lease_type)) {
			Py_INCREF(item);
			none = PyObject_CallMethod(item, "_let_go", NULL);
			Py_DECREF(item);
			if (!none)
				return -1;
			Py_DECREF(none);
		}
	}
	return 0;
}

static int set_empty(PyObject *list)
{
	return list && PyList_Check(list) ? PyList_SetSlice(list, 0, PyList_Size(list), NULL) : 0;
}

PyDoc_STRVAR(let_go_doc,
"_let_go()\n--\n\nGive all pieces back, those that are viewed with their last view.");

PyObject *pieces_let_go(PyObject *self, PyObject *unused)
{
	struct pieces *p = (struct pieces *)self;

	(void)unused;
	if (let_go_all(p->pieces) || let_go_all(p->spent) || set_empty(p->pieces) ||
	    set_empty(p->spent))
		return NULL;
	p->nbytes = 0;
	p->runs = 0;
	p->released = 1;
	Py_RETURN_NONE;
}

static PyMethodDef pieces_methods[] = {
	{"_let_go", pieces_let_go, METH_NOARGS, let_go_doc},
	{NULL, NULL, 0, NULL},
};

#define FIELD(name, of, type, doc) {name, type, offsetof(struct pieces, of), 0, doc}

static PyMemberDef pieces_members[] = {
	FIELD("_pieces", pieces, T_OBJECT_EX, NULL),
	FIELD("_spent", spent, T_OBJECT_EX, NULL),
	FIELD("_nbytes", nbytes, T_PYSSIZET, NULL),
	FIELD("_runs", runs, T_BOOL, NULL),
	FIELD("_released", released, T_BOOL, NULL),
	{NULL, 0, 0, 0, NULL},
};

static PyType_Slot pieces_slots[] = {
	{Py_tp_doc, "Bytes in order that lie in several buffers."},
	{Py_tp_dealloc, pieces_dealloc},
	{Py_tp_traverse, pieces_traverse},
	{Py_tp_clear, pieces_clear},
	{Py_tp_methods, pieces_methods},
	{Py_tp_members, pieces_members},
	{0, NULL},
};

PyType_Spec pieces_spec = {
	.name = "pyzcrx._lease.Pieces",
	.basicsize = sizeof(struct pieces),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
	.slots = pieces_slots,
};
