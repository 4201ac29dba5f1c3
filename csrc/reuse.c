// SPDX-License-Identifier: MIT
/*
 * Leases that died, to be used again: there is one for each buffer, and most never live long.
 *
 * They are of one type, the one that is leased as first: of Python, so that making one by its
 * type costs more than all that a lease has to do.
 */
#include "reuse.h"

static struct spares spares;

/* Whether the collector knows its instances, and the interpreter keeps nothing else in them. */
static int is_bare(PyObject *type)
{
	PyObject *size = PyObject_GetAttrString(type, "__basicsize__");
	PyObject *dict = PyObject_GetAttrString(type, "__dictoffset__");
	int bare = size && dict && PyLong_AsSsize_t(size) == sizeof(struct lease) &&
		   !PyLong_AsSsize_t(dict) && !PyObject_HasAttrString(type, "__del__") &&
		   PyType_GetFlags((PyTypeObject *)type) & Py_TPFLAGS_HAVE_GC;

	Py_XDECREF(size);
	Py_XDECREF(dict);
	PyErr_Clear();
	return bare;
}

void lease_reuse(PyObject *type)
{
	if (!spares.type && is_bare(type))
		spares.type = (PyTypeObject *)Py_NewRef(type);
}

struct lease *lease_reused(PyTypeObject *type)
{
	return (struct lease *)spares_take(&spares, type, sizeof(struct lease));
}

int lease_keep(struct lease *l)
{
	PyTypeObject *type = Py_TYPE((PyObject *)l);
	PyObject *memory = l->span.memory;

	if (l->span.weakrefs || !spares_keep(&spares, (PyObject *)l))
		return 0;
	Py_XDECREF(memory);
	Py_DECREF((PyObject *)type);
	return 1;
}
