// SPDX-License-Identifier: MIT
/*
 * How events are handed on: Data, the event that there is one of for each
 * buffer; and the Queue of all events that wait.  The Feed, which users iterate
 * over, is in feed.c.
 *
 * An event leaves the Queue in the same call that hands it on.  Python runs no
 * signal handler within, so none can come between the two and lose it.
 */
#include "queue.h"

#include <string.h>

#include "reuse.h"

/* ---- Data ------------------------------------------------------------- */

struct data {
	PyObject_HEAD
	PyObject *request, *buffer;
};

/* Those that died, to be used again: there is one for each buffer, and it never lives long. */
static struct spares spares;

static struct data *data_alloc(PyTypeObject *type)
{
	PyObject *d;

	spares.type = data_type;
	d = spares_take(&spares, type, sizeof(struct data));
	return (struct data *)(d ? d : PyType_GenericAlloc(type, 0));
}

static PyObject *data_fill(PyTypeObject *type, PyObject *request, PyObject *buffer)
{
	struct data *d = data_alloc(type);

	if (!d)
		return NULL;
	Py_INCREF(request);
	d->request = request;
	Py_INCREF(buffer);
	d->buffer = buffer;
	return (PyObject *)d;
}

PyObject *data_make(PyObject *request, PyObject *buffer)
{
	return data_fill(data_type, request, buffer);
}

static PyObject *data_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	static char *names[] = {"request", "buffer", NULL};
	PyObject *request, *buffer;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO:Data", names, &request, &buffer))
		return NULL;
	return data_fill(type, request, buffer);
}

static int data_traverse(PyObject *self, visitproc visit, void *arg)
{
	struct data *d = (struct data *)self;

	Py_VISIT(Py_TYPE(self));
	Py_VISIT(d->request);
	Py_VISIT(d->buffer);
	return 0;
}

static int data_clear(PyObject *self)
{
	struct data *d = (struct data *)self;

	Py_CLEAR(d->request);
	Py_CLEAR(d->buffer);
	return 0;
}

static void data_dealloc(PyObject *self)
{
	PyTypeObject *type = Py_TYPE(self);

	PyObject_GC_UnTrack(self);
	data_clear(self);
	if (!spares_keep(&spares, self))
		PyObject_GC_Del(self);
	Py_DECREF(type);
}

/* Either may have been deleted. */
static PyObject *or_none(PyObject *field)
{
	return field ? field : Py_None;
}

static PyObject *data_repr(PyObject *self)
{
	struct data *d = (struct data *)self;

	return PyUnicode_FromFormat("Data(request=%R, buffer=%R)", or_none(d->request),
				    or_none(d->buffer));
}

static PyObject *data_compare(PyObject *self, PyObject *other, int op)
{
	struct data *a = (struct data *)self, *b = (struct data *)other;
	int same;

	if ((op != Py_EQ && op != Py_NE) || Py_TYPE(self) != Py_TYPE(other))
		Py_RETURN_NOTIMPLEMENTED;
	same = PyObject_RichCompareBool(or_none(a->request), or_none(b->request), Py_EQ);
	if (same > 0)
		same = PyObject_RichCompareBool(or_none(a->buffer), or_none(b->buffer), Py_EQ);
	return same < 0 ? NULL : PyBool_FromLong(same == (op == Py_EQ));
}

static PyMethodDef data_methods[] = {
	{"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, "Data[R, B], of a request of type R and a buffer of type B"},
	{NULL, NULL, 0, NULL},
};

static PyMemberDef data_members[] = {
	{"request", T_OBJECT_EX, offsetof(struct data, request), 0, "the Request that brought it"},
	{"buffer", T_OBJECT_EX, offsetof(struct data, buffer), 0, "its bytes: a Buffer, yours to release"},
	{NULL, 0, 0, 0, NULL},
};

static PyType_Slot data_slots[] = {
	{Py_tp_doc, "Data(request, buffer)\n--\n\n"
		    "Bytes arrived; *buffer* is yours until you release it."},
	{Py_tp_new, data_new},
	{Py_tp_dealloc, data_dealloc},
	{Py_tp_traverse, data_traverse},
	{Py_tp_clear, data_clear},
	{Py_tp_repr, data_repr},
	{Py_tp_richcompare, data_compare},
	{Py_tp_methods, data_methods},
	{Py_tp_members, data_members},
	{0, NULL},
};

PyType_Spec data_spec = {
	.name = "pyzcrx._receive.events.Data",
	.basicsize = sizeof(struct data),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
	.slots = data_slots,
};

/* ---- Queue ------------------------------------------------------------ */

static PyObject *queue_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	struct queue *q;

	(void)kwargs;
	if (!PyArg_ParseTuple(args, ":Queue"))
		return NULL;
	q = (struct queue *)PyType_GenericAlloc(type, 0);
	if (q)
		q->owner = thread_number();
	return (PyObject *)q;
}

int queue_reserve(struct queue *q, Py_ssize_t more)
{
	Py_ssize_t room = q->room ? q->room : 64;
	PyObject **items;

	if (q->start + q->count + more <= q->room)
		return 0;
	if (q->start) {
		memmove(q->items, q->items + q->start, q->count * sizeof(*items));
		q->start = 0;
	}
	while (room < q->count + more)
		room *= 2;
	if (room == q->room)
		return 0;
	items = PyMem_Realloc(q->items, room * sizeof(*items));
	if (!items)
		return -1;
	q->items = items;
	q->room = room;
	return 0;
}

int queue_is_mine(const struct queue *q)
{
	return q->owner == thread_number();
}

PyObject *queue_take(struct queue *q)
{
	PyObject *item = q->items[q->start++];

	if (!--q->count)
		q->start = 0;
	return item;
}

void queue_put(struct queue *q, PyObject *item)
{
	q->items[q->start + q->count++] = Py_NewRef(item);
}

void queue_drop(struct queue *q)
{
	if (q->count)
		Py_DECREF(q->items[q->start + --q->count]);
}

/* += a list: all of it joins the end, or nothing. */
static PyObject *queue_add(PyObject *self, PyObject *list)
{
	struct queue *q = (struct queue *)self;
	Py_ssize_t i, n;

	if (!PyList_Check(list))
		return PyErr_Format(PyExc_TypeError, "a Queue takes lists");
	n = PyList_Size(list);
	if (queue_reserve(q, n))
		return PyErr_NoMemory();
	for (i = 0; i < n; i++)
		queue_put(q, PyList_GetItem(list, i));
	Py_INCREF(self);
	return self;
}

static int queue_empty(PyObject *self)
{
	struct queue *q = (struct queue *)self;
	PyObject **items = q->items;
	Py_ssize_t i, start = q->start, count = q->count;

	/* What goes may run anything, even this. */
	q->items = NULL;
	q->start = q->count = q->room = 0;
	for (i = start; i < start + count; i++)
		Py_DECREF(items[i]);
	PyMem_Free(items);
	return 0;
}

PyDoc_STRVAR(queue_clear_doc, "clear()\n--\n\nForget all.");

static PyObject *queue_clear(PyObject *self, PyObject *unused)
{
	(void)unused;
	queue_empty(self);
	Py_RETURN_NONE;
}

PyDoc_STRVAR(queue_shut_doc, "shut()\n--\n\nHand nothing on any more, to anybody.");

static PyObject *queue_shut(PyObject *self, PyObject *unused)
{
	(void)unused;
	((struct queue *)self)->owner = 0;
	Py_RETURN_NONE;
}

static Py_ssize_t queue_length(PyObject *self)
{
	return ((struct queue *)self)->count;
}

static PyObject *queue_item(PyObject *self, Py_ssize_t i)
{
	struct queue *q = (struct queue *)self;

	if (i < 0 || i >= q->count) {
		PyErr_SetString(PyExc_IndexError, "the queue has no such event");
		return NULL;
	}
	Py_INCREF(q->items[q->start + i]);
	return q->items[q->start + i];
}

static int queue_traverse(PyObject *self, visitproc visit, void *arg)
{
	struct queue *q = (struct queue *)self;
	Py_ssize_t i;

	Py_VISIT(Py_TYPE(self));
	for (i = q->start; i < q->start + q->count; i++)
		Py_VISIT(q->items[i]);
	return 0;
}

static void queue_dealloc(PyObject *self)
{
	PyTypeObject *type = Py_TYPE(self);

	PyObject_GC_UnTrack(self);
	queue_empty(self);
	PyObject_GC_Del(self);
	Py_DECREF(type);
}

static PyMethodDef queue_methods[] = {
	{"clear", queue_clear, METH_NOARGS, queue_clear_doc},
	{"shut", queue_shut, METH_NOARGS, queue_shut_doc},
	{NULL, NULL, 0, NULL},
};

static PyType_Slot queue_slots[] = {
	{Py_tp_doc, "Queue()\n--\n\n"
		    "Events that wait to be handed on by a Feed, to the thread that made the Queue.\n"
		    "Lists are added by +=."},
	{Py_tp_new, queue_new},
	{Py_tp_dealloc, queue_dealloc},
	{Py_tp_traverse, queue_traverse},
	{Py_tp_clear, queue_empty},
	{Py_tp_methods, queue_methods},
	{Py_sq_inplace_concat, queue_add},
	{Py_sq_item, queue_item},
	{Py_sq_length, queue_length},
	{0, NULL},
};

PyType_Spec queue_spec = {
	.name = "pyzcrx._lease.Queue",
	.basicsize = sizeof(struct queue),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
	.slots = queue_slots,
};
