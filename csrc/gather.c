// SPDX-License-Identifier: MIT
/*
 * Bytes that lie in several buffers, copied together in one pass.
 *
 * Each buffer is exported in full, as a memoryview would, so that a lease shows its bytes where
 * they lie and keeps them while they are copied.  No Python object is made for any of them.
 */
#include "lease.h"

#include <string.h>

#define LARGE	(64 << 10)	/* bytes; with so many to copy other threads may run */

static void copy(const Py_buffer *views, Py_ssize_t n, char *to)
{
	for (; n; views++) {
		Py_ssize_t part = views->len < n ? views->len : n;

		memcpy(to, views->buf, part);
		to += part;
		n -= part;
	}
}

/* Exports of the pieces that have the first n bytes: how many; -1 with an exception. */
static Py_ssize_t export(PyObject *pieces, Py_ssize_t n, Py_buffer *views)
{
	Py_ssize_t count = 0;

	while (n > 0) {
		PyObject *piece = count < PyList_Size(pieces) ? PyList_GetItem(pieces, count) : NULL;

		if (!piece) {
			PyErr_SetString(PyExc_ValueError, "the pieces have fewer bytes");
			break;
		}
		if (PyObject_GetBuffer(piece, &views[count], PyBUF_FULL_RO))
			break;
		count++;
		if (!PyBuffer_IsContiguous(&views[count - 1], 'C')) {
			PyErr_SetString(PyExc_ValueError, "a piece is not contiguous");
			break;
		}
		n -= views[count - 1].len;
	}
	if (n <= 0)
		return count;
	while (count)
		PyBuffer_Release(&views[--count]);
	return -1;
}

static int gather_to(PyObject *pieces, Py_ssize_t n, char *to)
{
	Py_buffer *views = PyMem_Calloc(PyList_Size(pieces) + 1, sizeof(*views));
	Py_ssize_t count;

	if (!views) {
		PyErr_NoMemory();
		return -1;
	}
	count = export(pieces, n, views);
	if (count > 0 && n >= LARGE) {
		Py_BEGIN_ALLOW_THREADS
		copy(views, n, to);
		Py_END_ALLOW_THREADS
	} else if (count > 0) {
		copy(views, n, to);
	}
	while (count > 0)
		PyBuffer_Release(&views[--count]);
	PyMem_Free(views);
	return count < 0 ? -1 : 0;
}

PyObject *gather_bytes(PyObject *module, PyObject *args)
{
	PyObject *pieces, *bytes;
	Py_ssize_t n;

	(void)module;
	if (!PyArg_ParseTuple(args, "O!n:gather", &PyList_Type, &pieces, &n))
		return NULL;
	if (n < 0)
		return PyErr_Format(PyExc_ValueError, "gather() takes no negative number");
	bytes = PyBytes_FromStringAndSize(NULL, n);
	if (bytes && gather_to(pieces, n, PyBytes_AsString(bytes)))
		Py_CLEAR(bytes);
	return bytes;
}

PyObject *gather_into(PyObject *module, PyObject *args)
{
	PyObject *pieces;
	Py_buffer memory;
	int ret;

	(void)module;
	if (!PyArg_ParseTuple(args, "O!w*:gather_into", &PyList_Type, &pieces, &memory))
		return NULL;
	ret = gather_to(pieces, memory.len, memory.buf);
	PyBuffer_Release(&memory);
	if (ret)
		return NULL;
	Py_RETURN_NONE;
}
