// SPDX-License-Identifier: MIT
/*
 * What came in and consists of leases alone is handed out here, without an object for each
 * buffer: as a chunk, or copied together.  That takes two steps, so that no signal handler
 * loses any: an offer, which changes nothing, and a plain store to _offered, at which no handler
 * runs and by which what was offered leaves.
 */
#include "pieces.h"

#include <string.h>

/* Whether all that there is came in since Python looked last. */
static int is_fresh(const struct inbox *in)
{
	return is_empty_list(in->p.pieces) && is_empty_list(in->p.spent) && in->incoming &&
	       PyList_Check(in->incoming);
}

static void offer(struct inbox *in, Py_ssize_t leases, Py_ssize_t entries, Py_ssize_t bytes,
		  char copied)
{
	in->offered = leases;
	in->entries = entries;
	in->offered_bytes = bytes;
	in->copied = copied;
}

/* How many leases a list begins with, their bytes, and whether some are runs. */
static Py_ssize_t leases(PyObject *list, Py_ssize_t *bytes, char *runs)
{
	Py_ssize_t i, n = PyList_Size(list);

	*bytes = 0;
	*runs = 0;
	for (i = 0; i < n; i++) {
		PyObject *item = PyList_GetItem(list, i);

		if (Py_TYPE(item) == run_lease_type)
			*runs = 1;
		else if (!PyObject_TypeCheck(item, lease_type))
			break;
		*bytes += ((struct span *)item)->length;
	}
	return i;
}

PyObject *inbox_offer(struct inbox *in, PyTypeObject *kind)
{
	PyObject *incoming, *spent;
	Py_ssize_t n, bytes;
	struct pieces *p;
	char runs;

	if (!is_fresh(in))
		return NULL;
	n = leases(in->incoming, &bytes, &runs);
	if (!bytes)
		return NULL;
	p = (struct pieces *)PyType_GenericAlloc(kind, 0);
	spent = PyList_New(0);
	incoming = PyList_GetSlice(in->incoming, 0, n);
	if (!p || !spent || !incoming) {
		Py_XDECREF((PyObject *)p);
		Py_XDECREF(spent);
		Py_XDECREF(incoming);
		return NULL;
	}
	p->pieces = incoming;
	p->spent = spent;
	p->nbytes = bytes;
	p->runs = runs;
	offer(in, n, 0, bytes, 0);
	return (PyObject *)p;
}

/* A lease whose bytes can be read here, of an ifq that nobody watches for misuse; or NULL. */
static struct lease *plain_lease(PyObject *item)
{
	struct lease *l = PyObject_TypeCheck(item, lease_type) ? (struct lease *)item : NULL;

	return l && l->account && !l->account->orphaned && l->account->make_bare == Py_None &&
	       !((struct span *)l->span.memory)->unreadable ? l : NULL;
}

/*
 * Which leases at the front, and how many entries of the next one, have at most so many bytes.
 * Gives how many bytes those are.
 */
static Py_ssize_t measure(struct inbox *in, Py_ssize_t most)
{
	Py_ssize_t i, n = PyList_Size(in->incoming), entries = 0, bytes = 0;

	for (i = 0; i < n; i++) {
		PyObject *item = PyList_GetItem(in->incoming, i);
		struct lease *l;

		if (Py_TYPE(item) == run_lease_type) {
			bytes += run_lease_fits(item, most - bytes, &entries);
			if (entries >= 0)
				break;
			entries = 0;
			continue;
		}
		l = plain_lease(item);
		if (!l || l->span.length > most - bytes)
			break;
		bytes += l->span.length;
	}
	offer(in, i, entries, bytes, 1);
	return bytes;
}

/* What was measured, copied together. */
static void copy(const struct inbox *in, char *to)
{
	Py_ssize_t i;

	for (i = 0; i < in->offered; i++) {
		PyObject *item = PyList_GetItem(in->incoming, i);

		if (Py_TYPE(item) == run_lease_type) {
			to += run_lease_copy(item, -1, to);
		} else {
			memcpy(to, ((struct span *)item)->at, ((struct span *)item)->length);
			to += ((struct span *)item)->length;
		}
	}
	if (in->entries)
		run_lease_copy(PyList_GetItem(in->incoming, in->offered), in->entries, to);
}

int inbox_accept(struct inbox *in)
{
	Py_ssize_t i, n = in->offered;

	if (!in->incoming || !PyList_Check(in->incoming) ||
	    PyList_Size(in->incoming) < n + !!in->entries) {
		PyErr_SetString(PyExc_ValueError, "what was offered is gone");
		return -1;
	}
	/* What may fail comes first. */
	if (in->entries && run_lease_drop(PyList_GetItem(in->incoming, n), in->entries)) {
		PyErr_NoMemory();
		return -1;
	}
	for (i = 0; in->copied && i < n; i++) {
		PyObject *item = PyList_GetItem(in->incoming, i);

		if (Py_TYPE(item) == run_lease_type)
			run_lease_let_go(item);
		else
			lease_let_go((struct lease *)item);
	}
	*(in->copied ? &in->gathered_bytes : &in->viewed_bytes) += in->offered_bytes;
	offer(in, 0, 0, 0, 0);
	return PyList_SetSlice(in->incoming, 0, n, NULL);
}

PyObject *inbox_offer_chunk(PyObject *self, PyObject *kind)
{
	PyObject *chunk = NULL;

	if (PyType_Check(kind) && PyType_IsSubtype((PyTypeObject *)kind, pieces_type))
		chunk = inbox_offer((struct inbox *)self, (PyTypeObject *)kind);
	else
		PyErr_SetString(PyExc_TypeError, "a chunk is of a type of Pieces");
	if (chunk || PyErr_Occurred())
		return chunk;
	Py_RETURN_NONE;
}

PyObject *inbox_offer_bytes(PyObject *self, PyObject *arg)
{
	struct inbox *in = (struct inbox *)self;
	Py_ssize_t most = PyLong_AsSsize_t(arg), n;
	PyObject *bytes;

	if (most == -1 && PyErr_Occurred())
		return NULL;
	n = is_fresh(in) ? measure(in, most) : 0;
	if (!n)
		Py_RETURN_NONE;
	bytes = PyBytes_FromStringAndSize(NULL, n);
	if (bytes)
		copy(in, PyBytes_AsString(bytes));
	return bytes;
}

PyObject *inbox_offer_into(PyObject *self, PyObject *args)
{
	struct inbox *in = (struct inbox *)self;
	Py_buffer memory;
	Py_ssize_t n;

	if (!PyArg_ParseTuple(args, "w*:_offer_into", &memory))
		return NULL;
	n = is_fresh(in) ? measure(in, memory.len) : 0;
	if (n)
		copy(in, memory.buf);
	PyBuffer_Release(&memory);
	return PyLong_FromSsize_t(n);
}

/* The end of a bytearray that grows by so many, without moving where so many more follow. */
static char *grow(PyObject *array, Py_ssize_t by, Py_ssize_t more)
{
	const Py_ssize_t size = PyByteArray_Size(array);

	if (by > PY_SSIZE_T_MAX - more || size > PY_SSIZE_T_MAX - more - by) {
		PyErr_NoMemory();
		return NULL;
	}
	if (PyByteArray_Resize(array, size + by + more) || PyByteArray_Resize(array, size + by))
		return NULL;
	return PyByteArray_AsString(array) + size;
}

PyObject *inbox_move(PyObject *self, PyObject *args)
{
	struct inbox *in = (struct inbox *)self;
	Py_ssize_t most, more, there = 0, n = 0;
	PyObject *array;
	char runs, *to;

	if (!PyArg_ParseTuple(args, "O!nn:move", &PyByteArray_Type, &array, &most, &more))
		return NULL;
	if (is_fresh(in))
		leases(in->incoming, &there, &runs);
	if (there)
		n = measure(in, most < there ? most : there - 1);
	if (n) {
		to = grow(array, n, more > 0 ? more : 0);
		if (!to) {
			offer(in, 0, 0, 0, 0);
			return NULL;
		}
		copy(in, to);
		if (inbox_accept(in)) {
			PyByteArray_Resize(array, PyByteArray_Size(array) - n);
			return NULL;
		}
	}
	return PyLong_FromSsize_t(n);
}
