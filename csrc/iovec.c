// SPDX-License-Identifier: MIT
/*
 * Iovec: where the bytes of one send lie, as few stretches of memory as possible.
 *
 * Each piece is exported in full, as a memoryview would, so that a lease shows its bytes where
 * they lie and cannot be released while the kernel reads them.  No Python object is made for any.
 */
#include "lease.h"

#include <string.h>

#include "shim.h"

struct iovec_object {
	PyObject_HEAD
	PyObject *pieces;		/* a tuple; NULL once they are given back */
	Py_buffer *views;
	struct pz_iov *iov;		/* the stretches; one may begin later, see shifted */
	Py_ssize_t n_views, n, room;
	Py_ssize_t shifted;		/* the stretch that cut() moved the begin of */
	uint64_t shift;			/* by so many bytes; 0: none */
	uint64_t end;			/* of the piece before, in memory */
	unsigned long long size_bytes;
	char lasting;
};

static struct iovec_object *iovec_of(PyObject *self)
{
	return (struct iovec_object *)self;
}

/* Whether the bytes stay as they are while the export of owner lives; -1 with an exception. */
static int lasts(PyObject *owner)
{
	PyObject *below;
	int ret;

	if (PyObject_TypeCheck(owner, lease_type) || Py_IS_TYPE(owner, pin_type) ||
	    PyBytes_CheckExact(owner))
		return 1;
	if (PyObject_TypeCheck(owner, span_type)) /* a plain one is what a batch shows */
		return !Py_IS_TYPE(owner, span_type);
	if (!PyMemoryView_Check(owner))
		return 0;
	below = PyObject_GetAttrString(owner, "obj");
	if (!below)
		return -1;
	ret = PyMemoryView_Check(below) ? 0 : lasts(below);
	Py_DECREF(below);
	return ret;
}

/* Room for one export more, and its stretch. */
static int grow(struct iovec_object *v)
{
	Py_ssize_t room = v->room ? 2 * v->room : 64;
	Py_buffer *views;
	struct pz_iov *iov;

	if (v->n_views < v->room)
		return 0;
	views = PyMem_Realloc(v->views, room * sizeof(*views));
	if (views)
		v->views = views;
	iov = PyMem_Realloc(v->iov, room * sizeof(*iov));
	if (iov)
		v->iov = iov;
	if (!views || !iov) {
		PyErr_NoMemory();
		return -1;
	}
	v->room = room;
	return 0;
}

static int add_buffer(struct iovec_object *v, PyObject *piece)
{
	Py_buffer *view;
	uint64_t base;
	int lasting;

	if (grow(v))
		return -1;
	view = &v->views[v->n_views];
	if (PyObject_GetBuffer(piece, view, PyBUF_FULL_RO))
		return -1;
	v->n_views++;
	if (!PyBuffer_IsContiguous(view, 'C')) {
		PyErr_SetString(PyExc_ValueError, "a piece is not contiguous");
		return -1;
	}
	lasting = v->lasting ? lasts(piece) : 0;
	if (lasting < 0)
		return -1;
	v->lasting = (char)lasting;
	base = (uintptr_t)view->buf;
	if (!view->len)
		return 0; /* the next may begin anywhere */
	if (base == v->end && v->n) {
		v->iov[v->n - 1].len += view->len;
	} else {
		v->iov[v->n].base = base;
		v->iov[v->n].len = view->len;
		v->n++;
	}
	v->end = base + view->len;
	v->size_bytes += view->len;
	return 0;
}

/* What has no buffer of its own has views: a Chunk. */
static int add_views(struct iovec_object *v, PyObject *piece)
{
	PyObject *views = PyObject_CallMethod(piece, "views", NULL);
	Py_ssize_t i;
	int ret = 0;

	if (!views && PyErr_ExceptionMatches(PyExc_AttributeError)) {
		PyErr_SetString(PyExc_TypeError, "a piece is a Buffer, a Chunk, a view or bytes");
		return -1;
	}
	if (views && !PyList_Check(views)) {
		PyErr_SetString(PyExc_TypeError, "views() gives a list");
		Py_CLEAR(views);
	}
	if (!views)
		return -1;
	for (i = 0; !ret && i < PyList_Size(views); i++)
		ret = add_buffer(v, PyList_GetItem(views, i));
	Py_DECREF(views);
	return ret;
}

static void end(struct iovec_object *v)
{
	while (v->n_views)
		PyBuffer_Release(&v->views[--v->n_views]);
}

static PyObject *iovec_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
	struct iovec_object *v;
	PyObject *pieces;
	Py_ssize_t i;

	(void)kwargs;
	if (!PyArg_ParseTuple(args, "O!:Iovec", &PyTuple_Type, &pieces))
		return NULL;
	v = (struct iovec_object *)alloc(type, 0);
	if (!v)
		return NULL;
	v->pieces = Py_NewRef(pieces);
	v->lasting = 1;
	for (i = 0; i < PyTuple_Size(pieces); i++) {
		PyObject *piece = PyTuple_GetItem(pieces, i);

		if (PyObject_CheckBuffer(piece) ? add_buffer(v, piece) : add_views(v, piece)) {
			Py_DECREF((PyObject *)v);
			return NULL;
		}
	}
	return (PyObject *)v;
}

static void iovec_dealloc(PyObject *self)
{
	PyTypeObject *type = Py_TYPE(self);
	freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
	struct iovec_object *v = iovec_of(self);

	end(v);
	PyMem_Free(v->views);
	PyMem_Free(v->iov);
	Py_CLEAR(v->pieces);
	release(self);
	Py_DECREF(type);
}

/* As they were made. */
static void unshift(struct iovec_object *v)
{
	if (v->shift) {
		v->iov[v->shifted].base -= v->shift;
		v->iov[v->shifted].len += v->shift;
		v->shift = 0;
	}
}

/* Of a whole stretch, whatever cut() made of it. */
static uint64_t length_of(const struct iovec_object *v, Py_ssize_t i)
{
	return v->iov[i].len + (v->shift && i == v->shifted ? v->shift : 0);
}

/*
 * Up to most stretches from first on, of which the first without skip bytes, lead to the bytes
 * behind begin: to how many.  Changes nothing: the kernel may be about to read a cut.
 */
static uint64_t find(const struct iovec_object *v, uint64_t begin, Py_ssize_t most,
		     Py_ssize_t *first, uint64_t *skip, Py_ssize_t *count)
{
	uint64_t bytes = 0;
	Py_ssize_t i = 0;

	while (i < v->n && length_of(v, i) <= begin)
		begin -= length_of(v, i++);
	*first = i;
	*skip = i < v->n ? begin : 0;
	for (*count = 0; i < v->n && *count < most; i++, ++*count)
		bytes += length_of(v, i);
	return bytes - (*count ? *skip : 0);
}

PyDoc_STRVAR(reach_doc,
"reach(begin, most)\n--\n\nTo how many bytes a cut() of these arguments leads.");

static PyObject *iovec_reach(PyObject *self, PyObject *args)
{
	Py_ssize_t first, count, most;
	unsigned long long begin;
	uint64_t skip;

	if (!PyArg_ParseTuple(args, "Kn:reach", &begin, &most))
		return NULL;
	return PyLong_FromUnsignedLongLong(find(iovec_of(self), begin, most, &first, &skip, &count));
}

PyDoc_STRVAR(cut_doc,
"cut(begin, most)\n--\n\n"
"Up to most stretches that lead to the bytes behind the first begin: the address of their\n"
"struct pz_iov, how many, and to how many bytes. Ends the cut before it.");

static PyObject *iovec_cut(PyObject *self, PyObject *args)
{
	struct iovec_object *v = iovec_of(self);
	Py_ssize_t first, count, most;
	unsigned long long begin;
	uint64_t skip, bytes;

	if (!PyArg_ParseTuple(args, "Kn:cut", &begin, &most))
		return NULL;
	unshift(v);
	bytes = find(v, begin, most, &first, &skip, &count);
	if (count && skip) {
		v->iov[first].base += skip;
		v->iov[first].len -= skip;
		v->shifted = first;
		v->shift = skip;
	}
	return Py_BuildValue("KnK", (unsigned long long)(uintptr_t)(v->iov + first), count,
			     (unsigned long long)bytes);
}

PyDoc_STRVAR(lies_in_doc,
"lies_in(start, stop)\n--\n\nWhether any of it lies in the memory from start to stop.");

static PyObject *iovec_lies_in(PyObject *self, PyObject *args)
{
	struct iovec_object *v = iovec_of(self);
	unsigned long long start, stop;
	Py_ssize_t i;

	if (!PyArg_ParseTuple(args, "KK:lies_in", &start, &stop))
		return NULL;
	for (i = 0; i < v->n; i++)
		if (start <= v->iov[i].base && v->iov[i].base < stop)
			Py_RETURN_TRUE;
	Py_RETURN_FALSE;
}

PyDoc_STRVAR(end_doc,
"end()\n--\n\nNothing reads the bytes any more. Idempotent.");

static PyObject *iovec_end(PyObject *self, PyObject *unused)
{
	(void)unused;
	end(iovec_of(self));
	Py_RETURN_NONE;
}

PyDoc_STRVAR(let_go_doc,
"let_go()\n--\n\n"
"As end(), and the leases and Chunks among the pieces go back to the kernel. Idempotent.");

static PyObject *iovec_let_go(PyObject *self, PyObject *unused)
{
	struct iovec_object *v = iovec_of(self);
	Py_ssize_t i, n = v->pieces ? PyTuple_Size(v->pieces) : 0;

	(void)unused;
	end(v);
	for (i = 0; i < n; i++) {
		PyObject *piece = PyTuple_GetItem(v->pieces, i);
		PyObject *none;

		if (!PyObject_TypeCheck(piece, lease_type) && PyObject_CheckBuffer(piece))
			continue;
		none = PyObject_CallMethod(piece, "_let_go", NULL); /* in debug mode it is Python's */
		if (!none)
			return NULL;
		Py_DECREF(none);
	}
	Py_CLEAR(v->pieces);
	Py_RETURN_NONE;
}

static PyMethodDef iovec_methods[] = {
	{"reach", iovec_reach, METH_VARARGS, reach_doc},
	{"cut", iovec_cut, METH_VARARGS, cut_doc},
	{"lies_in", iovec_lies_in, METH_VARARGS, lies_in_doc},
	{"end", iovec_end, METH_NOARGS, end_doc},
	{"let_go", iovec_let_go, METH_NOARGS, let_go_doc},
	{NULL, NULL, 0, NULL},
};

static PyMemberDef iovec_members[] = {
	{"size_bytes", T_ULONGLONG, offsetof(struct iovec_object, size_bytes), READONLY,
	 "of all pieces"},
	{"stretches", T_PYSSIZET, offsetof(struct iovec_object, n), READONLY,
	 "how many entries lead to all of it"},
	{"lasting", T_BOOL, offsetof(struct iovec_object, lasting), READONLY,
	 "whether nothing can change the bytes before end()"},
	{NULL, 0, 0, 0, NULL},
};

static PyType_Slot iovec_slots[] = {
	{Py_tp_doc, "Iovec(pieces)\n\n"
		    "Exports of all pieces (a tuple of buffers and of what has views()), until end();\n"
		    "neighbours in memory are one stretch."},
	{Py_tp_new, iovec_new},
	{Py_tp_dealloc, iovec_dealloc},
	{Py_tp_methods, iovec_methods},
	{Py_tp_members, iovec_members},
	{0, NULL},
};

PyType_Spec iovec_spec = {
	.name = "pyzcrx._lease.Iovec",
	.basicsize = sizeof(struct iovec_object),
	.flags = Py_TPFLAGS_DEFAULT,
	.slots = iovec_slots,
};
