// SPDX-License-Identifier: MIT
/* Progress and Receiver: what of a request is known to C. */
#include <errno.h>

#include "core.h"
#include "roster.h"

static void dealloc(PyObject *self)
{
	PyTypeObject *type = Py_TYPE(self);
	freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);

	release(self);
	Py_DECREF(type);
}

/* ---- Progress --------------------------------------------------------- */

static PyObject *progress_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
	PyObject *limit = Py_None;
	struct progress *p;

	if (kwargs || PyTuple_Size(args) > 1)
		return PyErr_Format(PyExc_TypeError, "Progress() takes a limit");
	if (PyTuple_Size(args))
		limit = PyTuple_GetItem(args, 0);
	p = (struct progress *)alloc(type, 0);
	if (p)
		p->limit = Py_NewRef(limit);
	return (PyObject *)p;
}

static void progress_dealloc(PyObject *self)
{
	Py_CLEAR(((struct progress *)self)->limit);
	dealloc(self);
}

int progress_arm(struct progress *p)
{
	unsigned long long limit = 0;

	if (p->limit && p->limit != Py_None) {
		limit = PyLong_AsUnsignedLongLong(p->limit);
		if (PyErr_Occurred())
			return -1;
		if (limit <= p->received) {
			PyErr_SetString(PyExc_ValueError, "its limit is reached");
			return -1;
		}
		limit -= p->received;
	}
	p->this_arm = 0;
	p->armed_bytes = limit < MOST_ARM_BYTES ? limit : MOST_ARM_BYTES;
	return 0;
}

PyDoc_STRVAR(progress_arm_doc,
"arm()\n--\n\nIt is being armed; gives the len of the SQE, which is 0 where there is no limit.");

static PyObject *progress_method_arm(PyObject *self, PyObject *unused)
{
	struct progress *p = (struct progress *)self;

	(void)unused;
	return progress_arm(p) ? NULL : PyLong_FromUnsignedLong(p->armed_bytes);
}

PyDoc_STRVAR(data_doc, "data(size_bytes)\n--\n\nSo many bytes arrived.");

static PyObject *progress_data(PyObject *self, PyObject *arg)
{
	unsigned long long bytes = PyLong_AsUnsignedLongLong(arg);

	if (PyErr_Occurred())
		return NULL;
	progress_add((struct progress *)self, bytes);
	Py_RETURN_NONE;
}

static PyMethodDef progress_methods[] = {
	{"arm", progress_method_arm, METH_NOARGS, progress_arm_doc},
	{"data", progress_data, METH_O, data_doc},
	{NULL, NULL, 0, NULL},
};

static PyMemberDef progress_members[] = {
	{"received", T_ULONGLONG, offsetof(struct progress, received), 0,
	 "bytes ever received"},
	{"this_arm", T_ULONGLONG, offsetof(struct progress, this_arm), 0,
	 "bytes received since it was armed last"},
	{"armed_bytes", T_ULONGLONG, offsetof(struct progress, armed_bytes), READONLY,
	 "the most that may come as it was armed last; 0: no limit"},
	{"fruitless", T_PYSSIZET, offsetof(struct progress, fruitless), 0,
	 "flushes of the refill queue since bytes came last"},
	{"limit", T_OBJECT, offsetof(struct progress, limit), 0,
	 "the most bytes that may come in all; None: to the end"},
	{NULL, 0, 0, 0, NULL},
};

static PyType_Slot progress_slots[] = {
	{Py_tp_doc, "Progress(limit=None)\n\nHow much came for one request, and how much may."},
	{Py_tp_new, progress_new},
	{Py_tp_dealloc, progress_dealloc},
	{Py_tp_methods, progress_methods},
	{Py_tp_members, progress_members},
	{0, NULL},
};

PyType_Spec progress_spec = {
	.name = "pyzcrx._lease.Progress",
	.basicsize = sizeof(struct progress),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
	.slots = progress_slots,
};

/* ---- Receiver --------------------------------------------------------- */

/* pz_tcp_ready(), or what stands in for it. -1 with an exception. */
static int ready(const struct core *k, int fd, int drop_urgent)
{
	PyObject *stand_in = core_stand_in(k, TCP_READY);
	int refused;

	if (stand_in)
		refused = stand_in_answer(PyObject_CallFunction(stand_in, "ii", fd, drop_urgent));
	else
		refused = pz_tcp_ready(fd, drop_urgent);
	if (refused && !PyErr_Occurred()) {
		errno = -refused;
		PyErr_SetFromErrno(PyExc_OSError);
	}
	return refused ? -1 : 0;
}

/* pz_unread(), or what stands in for it, which may raise. */
static int unread(const struct core *k, int fd)
{
	PyObject *stand_in = core_stand_in(k, UNREAD);

	return stand_in ? stand_in_answer(PyObject_CallFunction(stand_in, "i", fd)) : pz_unread(fd);
}

/* What a request is made of. */
struct begin {
	PyObject *ifq, *protocol, *context;
	int slot, fd, drop_urgent;
};

/*
 * What Python keeps with a request begins as None, set here: a class of Python's would set each
 * by code of its own, and one whose instances begin without them gives each a dict.
 */
static PyObject *receiver_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
	struct receiver *r = (struct receiver *)alloc(type, 0);
	int i;

	(void)args;
	(void)kwargs;
	if (!r)
		return NULL;
	r->inbox = Py_NewRef(Py_None);
	for (i = 0; i < RECEIVER_KEPT; i++)
		r->kept[i] = Py_NewRef(Py_None);
	return (PyObject *)r;
}

/* Of no socket: to be enlisted by itself. */
static int receiver_init_bare(struct receiver *r, PyObject *args)
{
	PyObject *protocol = NULL;

	if (!PyArg_ParseTuple(args, "|O!:Receiver", progress_type, &protocol))
		return -1;
	if (protocol && !r->protocol)
		r->protocol = Py_NewRef(protocol);
	return 0;
}

/* Enlisted last: whoever finds it by its token finds all of it. */
static int receiver_begin(struct receiver *r, struct core *k, const struct begin *b)
{
	PyObject *held;

	if (r->protocol || core_is_bare(k)) {
		PyErr_SetString(PyExc_ValueError, "it is a request already, or its ring has no Turn");
		return -1;
	}
	held = descriptor_dup(b->fd);
	if (!held)
		return -1;
	if (ready(k, descriptor_number(held), b->drop_urgent)) {
		Py_DECREF(held);
		return -1;
	}
	r->held = held;
	r->fd = b->fd;
	r->ifq = Py_NewRef(b->ifq);
	r->context = Py_NewRef(b->context);
	r->protocol = Py_NewRef(b->protocol);
	return roster_enlist(k->roster, r, b->slot);
}

/* -1 with an exception, or without one. */
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

	if (kwargs || (PyTuple_Size(args) > 1 && PyTuple_Size(args) != 7)) {
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

/* Its protocol and its descriptor refer to nothing that could refer to it. */
static int receiver_traverse(PyObject *self, visitproc visit, void *arg)
{
	struct receiver *r = (struct receiver *)self;
	int i;

	Py_VISIT(Py_TYPE(self));
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
	int i;

	Py_CLEAR(r->ifq);
	Py_CLEAR(r->context);
	Py_CLEAR(r->inbox);
	for (i = 0; i < RECEIVER_KEPT; i++)
		Py_CLEAR(r->kept[i]);
	return 0;
}

static void receiver_dealloc(PyObject *self)
{
	struct receiver *r = (struct receiver *)self;

	PyObject_GC_UnTrack(self);
	if (r->roster)
		roster_leave(r);
	receiver_clear(self);
	Py_CLEAR(r->held);
	Py_CLEAR(r->protocol);
	dealloc(self);
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

	if (!PyObject_TypeCheck(core, core_type) || core_is_bare((struct core *)core) || !r->held)
		return PyErr_Format(PyExc_TypeError, "_at_end() takes its ring");
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
	/* The interpreter reads these as fast as slots of its own: of no other kind. */
	{"context", T_OBJECT_EX, offsetof(struct receiver, context), 0, "Yours."},
	{"_ifq", T_OBJECT_EX, offsetof(struct receiver, ifq), READONLY, "what it receives from"},
	{"_held", T_OBJECT_EX, offsetof(struct receiver, held), READONLY,
	 "its own Descriptor of the socket"},
	{"_protocol", T_OBJECT_EX, offsetof(struct receiver, protocol), READONLY,
	 "its Progress, or what is made of that"},
	{"_inbox", T_OBJECT_EX, offsetof(struct receiver, inbox), 0,
	 "Whose its events are; None: the ring's."},
	KEPT("_cookie", 0, "Which socket it was, once its Descriptor may have been closed."),
	KEPT("_over", 1, "End, Limit or Failed, once it is over."),
	KEPT("_failure", 2, "Why it failed."),
	KEPT("_state", 3, "What it waits for; None: the kernel has it, or it is over."),
	KEPT("_pause_at", 4,
	     "Bytes held, up to which it is not armed again after a pause; None: no pause is due."),
	KEPT("_rcvbuf", 5, "What was before _narrow()."),
	KEPT("_unbounded", 6, "What was before _bound()."),
	KEPT("_plain", 7, "A struct pz_plain, while bytes are received without the area."),
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
