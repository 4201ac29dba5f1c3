// SPDX-License-Identifier: MIT
/* Account.lease_run(): a run of the columns as leases, each in its event or by itself. */
#include "lease.h"

#include "shim.h"

/* Entry i of the columns: 0, or -1 if no memory has such a place. */
static int place(PyObject *memories, uint64_t off, uint32_t length, struct span **memory,
		 uint64_t *at)
{
	uint64_t index = off >> PZ_AREA_SHIFT;

	*at = off & (((uint64_t)1 << PZ_AREA_SHIFT) - 1);
	if (index >= (uint64_t)PyList_Size(memories))
		return -1;
	*memory = (struct span *)PyList_GetItem(memories, (Py_ssize_t)index);
	if (!PyObject_TypeCheck((PyObject *)*memory, span_type) || (*memory)->readonly)
		return -1;
	return *at + length > (uint64_t)(*memory)->length ? -1 : 0;
}

/* One entry as a lease, wrapped by make() unless that is None, and appended to into. */
static int lease_one(struct account *a, PyObject *into, PyObject *make, PyObject *request,
		     PyTypeObject *type, struct span *memory, uint64_t at, uint32_t length,
		     uint64_t *off, uint64_t token)
{
	struct lease *l = lease_alloc(type, memory, (uintptr_t)memory->at + at, length, *off,
				      token);
	PyObject *event;
	int ret = -1;

	if (!l)
		return -1;
	/* make() may raise: then nothing has happened yet. */
	if (make == Py_None)
		event = Py_NewRef((PyObject *)l);
	else if (make == (PyObject *)data_type)
		event = data_make(request, (PyObject *)l);
	else
		event = PyObject_CallFunctionObjArgs(make, request, (PyObject *)l, NULL);
	if (event && !PyList_Append(into, event)) {
		ret = lease_commit(l, a);
		if (!ret)
			*off = UINT64_MAX;
		else
			PyList_SetSlice(into, PyList_Size(into) - 1, PyList_Size(into), NULL);
	}
	Py_XDECREF(event);
	Py_DECREF((PyObject *)l);
	return ret;
}

PyObject *account_lease_run(PyObject *self, PyObject *args)
{
	PyObject *into, *make, *request, *type, *memories, *result = NULL;
	struct account *a = (struct account *)self;
	Py_ssize_t i = 0, start, stop;
	unsigned long long token;
	Py_buffer offs, lengths;
	uint64_t *off;

	if (!PyArg_ParseTuple(args, "O!OOO!O!w*y*nnK", &PyList_Type, &into, &make, &request,
			      &PyType_Type, &type, &PyList_Type, &memories, &offs, &lengths,
			      &start, &stop, &token))
		return NULL;
	off = offs.buf;
	if (!PyType_IsSubtype((PyTypeObject *)type, lease_type) || start < 0 ||
	    stop > offs.len / (Py_ssize_t)sizeof(*off) ||
	    stop > lengths.len / (Py_ssize_t)sizeof(uint32_t)) {
		PyErr_SetString(PyExc_ValueError, "lease_run needs a Lease and its columns");
		goto out;
	}
	for (i = start; i < stop; i++) {
		uint32_t length = ((uint32_t *)lengths.buf)[i];
		struct span *memory;
		uint64_t at;

		if (off[i] == UINT64_MAX)
			continue;
		if (place(memories, off[i], length, &memory, &at))
			break;
		if (lease_one(a, into, make, request, (PyTypeObject *)type, memory, at, length,
			      &off[i], token))
			goto out;
	}
	result = PyLong_FromSsize_t(i);
out:
	PyBuffer_Release(&offs);
	PyBuffer_Release(&lengths);
	return result;
}
