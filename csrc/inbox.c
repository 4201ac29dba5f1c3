// SPDX-License-Identifier: MIT
/*
 * Inbox: Pieces of one connection, and what it brought since.
 *
 * What came in and consists of leases alone is handed out here, without an object for each
 * buffer: as a chunk, or copied together.  That takes two steps, so that no signal handler
 * loses any: an offer, which changes nothing, and a plain store to _offered, at which no handler
 * runs and by which what was offered leaves.
 */
#include "pieces.h"

#include <string.h>

int is_empty_list(PyObject *list)
{
	return list && PyList_Check(list) && !PyList_Size(list);
}

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

/* The bytes of a list of leases alone; -1 if there is anything else. */
static Py_ssize_t leased_bytes(PyObject *list, char *runs)
{
	Py_ssize_t i, n = PyList_Size(list), bytes = 0;

	for (i = 0; i < n; i++) {
		PyObject *item = PyList_GetItem(list, i);

		if (Py_TYPE(item) == run_lease_type)
			*runs = 1;
		else if (!PyObject_TypeCheck(item, lease_type))
			return -1;
		bytes += ((struct span *)item)->length;
	}
	return bytes;
}

PyObject *inbox_offer(struct inbox *in, PyTypeObject *kind)
{
	PyObject *incoming, *spent;
	Py_ssize_t bytes;
	struct pieces *p;
	char runs = 0;

	if (!is_fresh(in))
		return NULL;
	bytes = leased_bytes(in->incoming, &runs);
	if (bytes <= 0)
		return NULL;
	p = (struct pieces *)PyType_GenericAlloc(kind, 0);
	spent = PyList_New(0);
	incoming = PyList_GetSlice(in->incoming, 0, PyList_Size(in->incoming));
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
	offer(in, PyList_Size(incoming), 0, bytes, 0);
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

PyDoc_STRVAR(chunk_doc,
"_offer_chunk(kind)\n--\n\n"
"All that came in, not copied, as Pieces of that kind; None where Python must go on.\n"
"It leaves at a store to _offered.");

static PyObject *offer_chunk(PyObject *self, PyObject *kind)
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

PyDoc_STRVAR(bytes_doc,
"_offer_bytes(most)\n--\n\n"
"The first buffers that have no more than so many bytes together, copied; None where Python\n"
"must go on. They leave at a store to _offered.");

static PyObject *offer_bytes(PyObject *self, PyObject *arg)
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

PyDoc_STRVAR(into_doc,
"_offer_into(memory)\n--\n\n"
"Copy the first buffers that fit in wholly. Gives how many bytes; 0 where Python must go on.\n"
"They leave at a store to _offered.");

static PyObject *offer_into(PyObject *self, PyObject *args)
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

#define FIELD(name, of, type, doc) {name, type, offsetof(struct inbox, of), 0, doc}

static PyMemberDef inbox_members[] = {
	FIELD("incoming", incoming, T_OBJECT_EX,
	      "What the connection brought, in order; append it here."),
	FIELD("most_buffers", most_buffers, T_PYSSIZET,
	      "With more, relieve() copies them out of the area."),
	FIELD("limited", limited, T_BOOL,
	      "Whether the request reached its limit, and is to be resumed."),
	FIELD("patient", patient, T_BOOL, "Whether its reader waits for ever."),
	FIELD("viewed_bytes", viewed_bytes, T_PYSSIZET, "Bytes handed out where they lay."),
	FIELD("gathered_bytes", gathered_bytes, T_PYSSIZET,
	      "Bytes copied once, for the reader."),
	{NULL, 0, 0, 0, NULL},
};

static PyMethodDef inbox_methods[] = {
	{"_offer_chunk", offer_chunk, METH_O, chunk_doc},
	{"_offer_bytes", offer_bytes, METH_O, bytes_doc},
	{"_offer_into", offer_into, METH_VARARGS, into_doc},
	{NULL, NULL, 0, NULL},
};

static PyGetSetDef inbox_getset[] = {
	{"_offered", get_offered, set_offered,
	 "whether something is; False, when stored: it leaves", NULL},
	{"has_bytes", has_bytes, NULL, "whether there is one to be read", NULL},
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
