// SPDX-License-Identifier: MIT
/* Receiver: what of a request is known to C. */
#include <errno.h>

#include "core.h"
#include "receiver.h"
#include "roster.h"

/*
 * These are short calls of the kernel, which would not be worth letting go of the GIL.
 *
 * pz_tcp_ready(), or what stands in for it. -1 with an exception.
 */
static int ready(const struct core *k, int fd, int drop_urgent)
{
	PyObject *stand_in = core_stand_in(k, TCP_READY);
	int ret;

	if (stand_in)
		ret = stand_in_answer(stand_in, PyObject_CallFunction(stand_in, "ii", fd, drop_urgent));
	else
		ret = pz_tcp_ready(fd, drop_urgent);
	if (ret && !PyErr_Occurred()) {
		errno = -ret;
		PyErr_SetFromErrno(PyExc_OSError);
	}
	return ret ? -1 : 0;
}

/* pz_unread(), or what stands in for it, which may raise. */
static int unread(const struct core *k, int fd)
{
	PyObject *stand_in = core_stand_in(k, UNREAD);

	if (stand_in)
		return stand_in_answer(stand_in, PyObject_CallFunction(stand_in, "i", fd));
	return pz_unread(fd);
}

/* What a request is made of. */
struct begin {
	PyObject *ifq, *protocol, *context;
	int slot, fd, drop_urgent;
};

static void forget_kept(struct receiver *r)
{
	int i;

	replace(&r->inbox, Py_None);
	for (i = 0; i < RECEIVER_KEPT; i++)
		replace(&r->kept[i], Py_None);
}

/*
 * What Python keeps with a request begins as None, set here: an __init__() of Python's takes
 * longer for it than all the rest, and class attributes as defaults give each instance a dict.
 */
static PyObject *receiver_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
	struct receiver *r = (struct receiver *)alloc(type, 0);

	(void)args;
	(void)kwargs;
	if (!r)
		return NULL;
	r->fd = -1;
	forget_kept(r);
	return (PyObject *)r;
}

/* Without a socket; Core.enlist() gives it a token. Without a protocol, too, it is for tests. */
static int receiver_init_bare(struct receiver *r, PyObject *args)
{
	PyObject *protocol = NULL;

	if (!PyArg_ParseTuple(args, "|O!:Receiver", progress_type, &protocol))
		return -1;
	if (!protocol && Py_TYPE((PyObject *)r) != receiver_type) {
		PyErr_SetString(PyExc_TypeError, "it is made by Ifq.receive()");
		return -1;
	}
	if (r->protocol && protocol) {
		PyErr_SetString(PyExc_ValueError, "it has a protocol already");
		return -1;
	}
	if (protocol)
		r->protocol = Py_NewRef(protocol);
	return 0;
}

/* Enlisted last: whoever finds it by its token finds all of it. */
static int receiver_begin(struct receiver *r, struct core *k, const struct begin *b)
{
	PyObject *held;

	if (core_is_bare(k)) {
		PyErr_SetString(PyExc_ValueError, "its ring has no Turn");
		return -1;
	}
	held = descriptor_dup(b->fd);
	if (!held)
		return -1;
	if (ready(k, descriptor_number(held), b->drop_urgent)) {
		Py_DECREF(held);
		return -1;
	}
	if (r->protocol || r->held || r->roster) {	/* what stands in may have begun it */
		PyErr_SetString(PyExc_ValueError, "it is a request already");
		Py_DECREF(held);
		return -1;
	}
	r->held = held;
	r->fd = b->fd;
	r->protocol = Py_NewRef(b->protocol);
	replace(&r->ifq, b->ifq);
	replace(&r->context, b->context);
	return roster_enlist(k->roster, r, b->slot);
}

/* The number as an int; of -1 PyErr_Occurred() tells whether it is one. */
static int int_of(PyObject *number)
{
	long value = PyLong_AsLong(number);

	if (value == (int)value)
		return (int)value;
	PyErr_SetString(PyExc_OverflowError, "it does not fit an int");
	return -1;
}

/* One by one: to parse them by a format takes twice as long as all the rest. */
static int receiver_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
	struct receiver *r = (struct receiver *)self;
	PyObject *core, *protocol;
	struct begin b;

	if ((kwargs && PyDict_Size(kwargs)) || (PyTuple_Size(args) > 1 && PyTuple_Size(args) != 7)) {
		PyErr_SetString(PyExc_TypeError, "Receiver() takes none, 1 or 7 arguments");
		return -1;
	}
	if (PyTuple_Size(args) < 2)
		return receiver_init_bare(r, args);
	core = PyTuple_GetItem(args, 0);
	protocol = PyTuple_GetItem(args, 5);
	if (!PyObject_TypeCheck(core, core_type) || !PyObject_TypeCheck(protocol, progress_type)) {
		PyErr_SetString(PyExc_TypeError, "Receiver() takes a Core, and a Progress");
		return -1;
	}
	b = (struct begin){
		.slot = int_of(PyTuple_GetItem(args, 1)),
		.ifq = PyTuple_GetItem(args, 2),
		.protocol = protocol,
		.context = PyTuple_GetItem(args, 6),
	};
	if (PyErr_Occurred())
		return -1;
	b.fd = int_of(PyTuple_GetItem(args, 3));
	if (PyErr_Occurred())
		return -1;
	b.drop_urgent = PyObject_IsTrue(PyTuple_GetItem(args, 4));
	return b.drop_urgent < 0 ? -1 : receiver_begin(r, (struct core *)core, &b);
}

/* Its descriptor refers to nothing. */
static int receiver_traverse(PyObject *self, visitproc visit, void *arg)
{
	struct receiver *r = (struct receiver *)self;
	int i;

	Py_VISIT(Py_TYPE(self));
	Py_VISIT(r->protocol);
	Py_VISIT(r->ifq);
	Py_VISIT(r->context);
	Py_VISIT(r->inbox);
	for (i = 0; i < RECEIVER_KEPT; i++)
		Py_VISIT(r->kept[i]);
	return 0;
}

static int receiver_clear(PyObject *self)
{
	struct receiver *r = (struct receiver *)self;

	/* Its ring may close meanwhile, and ask it: what it keeps is there, and is nothing. */
	Py_CLEAR(r->ifq);
	Py_CLEAR(r->context);
	forget_kept(r);
	return 0;
}

static void receiver_dealloc(PyObject *self)
{
	struct receiver *r = (struct receiver *)self;
	int i;

	PyObject_GC_UnTrack(self);
	if (r->roster)
		roster_leave(r);
	Py_CLEAR(r->ifq);
	Py_CLEAR(r->context);
	Py_CLEAR(r->inbox);
	for (i = 0; i < RECEIVER_KEPT; i++)
		Py_CLEAR(r->kept[i]);
	Py_CLEAR(r->held);
	Py_CLEAR(r->protocol);
	free_object(self);
}

PyObject *receiver_inbox(PyObject *self)
{
	const struct receiver *r = (const struct receiver *)self;

	if (!PyObject_TypeCheck(self, receiver_type))
		return PyErr_Format(PyExc_TypeError, "only a Receiver has an inbox");
	return Py_NewRef(r->inbox ? r->inbox : Py_None);
}

PyDoc_STRVAR(hold_doc,
"_hold(held)\n--\n\n"
"Another Descriptor of the socket, in the place of the one that was closed.");

static PyObject *receiver_hold(PyObject *self, PyObject *held)
{
	struct receiver *r = (struct receiver *)self;
	PyObject *before = r->held;

	if (!PyObject_TypeCheck(held, descriptor_type))
		return PyErr_Format(PyExc_TypeError, "what it holds is a Descriptor");
	r->held = Py_NewRef(held);
	Py_XDECREF(before);
	Py_RETURN_NONE;
}

PyDoc_STRVAR(at_end_doc,
"_at_end(core)\n--\n\n"
"Whether result 0 of what was armed last is the end of the stream: its limit is not reached, and\n"
"nothing is unread.");

static PyObject *receiver_at_end(PyObject *self, PyObject *core)
{
	const struct receiver *r = (struct receiver *)self;
	const struct progress *p = (struct progress *)r->protocol;
	int left;

	if (!PyObject_TypeCheck(core, core_type) || core_is_bare((struct core *)core) || !r->held ||
	    !p)
		return PyErr_Format(PyExc_TypeError, "_at_end() takes its ring, of a request that was begun");
	if (p->armed_bytes && p->this_arm >= p->armed_bytes)
		Py_RETURN_FALSE;
	left = unread((struct core *)core, descriptor_number(r->held));
	return PyErr_Occurred() ? NULL : PyBool_FromLong(!left);
}

static PyMethodDef receiver_methods[] = {
	{"_at_end", receiver_at_end, METH_O, at_end_doc},
	{"_hold", receiver_hold, METH_O, hold_doc},
	{NULL, NULL, 0, NULL},
};

#define KEPT(name, i, doc) \
	{name, T_OBJECT_EX, offsetof(struct receiver, kept) + (i) * sizeof(PyObject *), 0, doc}

static PyMemberDef receiver_members[] = {
	{"token", T_ULONGLONG, offsetof(struct receiver, token), READONLY,
	 "what its completions carry; 0 before Core.enlist()"},
	{"_greedy", T_BOOL, offsetof(struct receiver, greedy), 0,
	 "Whether it is among those that hold most of the area, which is short."},
	{"fd", T_INT, offsetof(struct receiver, fd), 0,
	 "The number of the socket as the user gave it: for messages."},
	/* The interpreter reads members of this kind, and no other, as fast as slots. */
	{"context", T_OBJECT_EX, offsetof(struct receiver, context), 0, "Yours."},
	{"_ifq", T_OBJECT_EX, offsetof(struct receiver, ifq), READONLY, "what it receives from"},
	{"_held", T_OBJECT_EX, offsetof(struct receiver, held), READONLY,
	 "its own Descriptor of the socket"},
	{"_protocol", T_OBJECT_EX, offsetof(struct receiver, protocol), READONLY,
	 "its Progress, or a subclass of it"},
	{"_inbox", T_OBJECT_EX, offsetof(struct receiver, inbox), 0,
	 "Whose its events are; None: the ring's."},
	KEPT("_cookie", KEPT_COOKIE, "Which socket it was, once its Descriptor may have been closed."),
	KEPT("_over", KEPT_OVER, "End, Limit or Failed, once it is over."),
	KEPT("_failure", KEPT_FAILURE, "Why it failed."),
	KEPT("_state", KEPT_STATE, "What it waits for; None: nothing."),
	KEPT("_pause_at", KEPT_PAUSE_AT,
	     "Bytes held, up to which it is not armed again after a pause; None: no pause is due."),
	KEPT("_rcvbuf", KEPT_RCVBUF,
	     "What was before _narrow(), and the bytes received once that is read."),
	KEPT("_unbounded", KEPT_UNBOUNDED, "What was before _bound()."),
	KEPT("_plain", KEPT_PLAIN, "A struct pz_plain, while bytes are received without the area."),
	{"_stopping", T_BOOL, offsetof(struct receiver, stopping), 0,
	 "Whether cancel() was called."},
	{NULL, 0, 0, 0, NULL},
};

static PyType_Slot receiver_slots[] = {
	{Py_tp_new, receiver_new},
	{Py_tp_doc, "Receiver(core, slot, ifq, fd, drop_urgent, protocol, context)\n\n"
		    "A request whose data a Core counts, of the TCP socket fd, on the ifq in that\n"
		    "slot. Holds a Descriptor of its own. Raises OSError. Receiver(protocol): of no\n"
		    "socket, and not enlisted."},
	{Py_tp_init, receiver_init},
	{Py_tp_dealloc, receiver_dealloc},
	{Py_tp_traverse, receiver_traverse},
	{Py_tp_clear, receiver_clear},
	{Py_tp_members, receiver_members},
	{Py_tp_methods, receiver_methods},
	{0, NULL},
};

PyType_Spec receiver_spec = {
	.name = "pyzcrx._lease.Receiver",
	.basicsize = sizeof(struct receiver),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
	.slots = receiver_slots,
};
