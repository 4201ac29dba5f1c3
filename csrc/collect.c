// SPDX-License-Identifier: MIT
/* A quiet turn whose data goes to the inboxes of its requests, for streams and event loops. */
#include "pieces.h"
#include "queue.h"

/* Whether each inbox that got something has no more buffers than it may. */
static int inboxes_fit(struct core *k)
{
	Py_ssize_t i;

	if (core_name(k))
		return -1;
	for (i = 0; i < PyList_Size(k->receivers); i++) {
		PyObject *inbox = receiver_inbox(PyList_GetItem(k->receivers, i));
		struct inbox *in = (struct inbox *)inbox;
		int fits = 1;

		if (!inbox)
			return -1;
		if (PyObject_TypeCheck(inbox, inbox_type) && in->counted != k->collected) {
			in->counted = k->collected;
			fits = inbox_buffers(in) <= in->most_buffers;
		}
		Py_DECREF(inbox);
		if (!fits)
			return 0;
	}
	return 1;
}

/* Whether no inbox has more than it should, and nothing was copied; -1 with an exception. */
static int at_ease(struct core *k)
{
	Py_ssize_t i, n = PyList_Size(k->accounts);
	int crowded = 0;

	for (i = 0; i < n; i++) {
		const struct account *a = (struct account *)PyList_GetItem(k->accounts, i);

		if (a->count || a->leased > a->spill_above)
			return 0;
		/* No inbox has more than are out. */
		crowded = crowded || a->leased > a->crowded_above;
	}
	return !crowded || inboxes_fit(k);
}

/*
 * The requests of a turn that have inboxes join a list.  Frames of several connections alternate:
 * each joins it once.
 */
static int note_changed(struct core *k, PyObject *changed)
{
	Py_ssize_t i;

	if (core_name(k))
		return -1;
	for (i = 0; i < PyList_Size(k->receivers); i++) {
		PyObject *receiver = PyList_GetItem(k->receivers, i);
		PyObject *inbox = receiver_inbox(receiver);
		int ret = inbox ? 0 : -1;

		if (inbox && PyObject_TypeCheck(inbox, inbox_type) &&
		    ((struct inbox *)inbox)->notified != k->collected) {
			((struct inbox *)inbox)->notified = k->collected;
			ret = PyList_Append(changed, receiver);
		}
		Py_XDECREF(inbox);
		if (ret)
			return -1;
	}
	return 0;
}

/*
 * The inbox of an event's request, if somebody reads it; NULL with or without an exception.
 * The request is the caller's to let go of, in either case; NULL if it cannot be had.
 */
static PyObject *inbox_of(PyObject *event, PyObject **request)
{
	PyObject *inbox = NULL, *abandoned;

	*request = PyObject_GetAttrString(event, "request");
	if (*request && PyObject_TypeCheck(*request, receiver_type))
		inbox = receiver_inbox(*request);
	if (!inbox)
		return NULL;
	abandoned = PyObject_TypeCheck(inbox, inbox_type) ?
		    PyObject_GetAttrString(inbox, "abandoned") : NULL;
	if (abandoned != Py_False || !PyList_Check(((struct inbox *)inbox)->incoming))
		Py_CLEAR(inbox);
	Py_XDECREF(abandoned);
	return inbox;
}

static int for_inbox(PyObject *event)
{
	PyObject *request, *inbox = inbox_of(event, &request);

	Py_XDECREF(request);
	if (!inbox)
		return PyErr_Occurred() ? -1 : 0;
	Py_DECREF(inbox);
	return 1;
}

/* Events go behind their data.  One leaves as it arrives; -1 with an exception. */
static int sort_posted(struct core *k, PyObject *changed)
{
	while (PyList_Size(k->posted)) {
		PyObject *event = Py_NewRef(PyList_GetItem(k->posted, 0));
		PyObject *request, *inbox = inbox_of(event, &request);
		int ret = -1;

		if (inbox && (!changed || !PyList_Append(changed, request)) &&
		    !PyList_Append(((struct inbox *)inbox)->incoming, event))
			ret = PyList_SetSlice(k->posted, 0, 1, NULL);
		Py_DECREF(event);
		Py_XDECREF(inbox);
		Py_XDECREF(request);
		if (ret)
			return -1;
	}
	return 0;
}

/* What the turn in the columns brought joins the queue, as far as there is room. */
static int lease(struct queue *q, struct core *k, Py_ssize_t room)
{
	struct sink into = {.queue = q, .room = room};
	int done = core_lease_runs(k, &into);

	if (done == NO_ROOM)
		return 1;
	if (done != LEASED)	/* a bad place is met again */
		return done == NO_PLACE ? 0 : -1;
	turn_columns(k->turn)->fresh = 0;
	return 1;
}

/* The data of a turn that was taken. */
static int lease_turn(struct queue *q, struct core *k, PyObject *changed, Py_ssize_t room)
{
	struct pz_columns *c = turn_columns(k->turn);

	if (!c->n_data) {	/* the time is over, or a signal came */
		c->fresh = 0;
		return PyErr_CheckSignals() ? -1 : 1;
	}
	/* Before there is anything: what fails here is met again. */
	if (changed && note_changed(k, changed))
		return -1;
	return lease(q, k, room);
}

/* Events go behind the data of their turn: they wait while some of it is left in the columns. */
static int put_posted(struct queue *q, struct core *k)
{
	PyObject *posted = k->posted, *none_posted;
	Py_ssize_t i, n;

	if (turn_columns(k->turn)->fresh)
		return 1;
	if (!posted || !PyList_Check(posted)) {
		PyErr_SetString(PyExc_TypeError, "events are posted to a list");
		return -1;
	}
	n = PyList_Size(posted);
	if (!n)
		return 1;
	none_posted = PyList_New(0);
	if (!none_posted)
		return -1;
	if (queue_reserve(q, n)) {
		Py_DECREF(none_posted);
		PyErr_NoMemory();
		return -1;
	}
	for (i = 0; i < n; i++)
		queue_put(q, PyList_GetItem(posted, i));
	k->posted = none_posted;
	Py_DECREF(posted);
	return 1;
}

int queue_lease(struct queue *q, struct core *k, Py_ssize_t room)
{
	int done = lease(q, k, room);

	return done > 0 ? put_posted(q, k) : done;
}

int queue_turn(struct queue *q, struct core *k, Py_ssize_t room, long long timeout_ns)
{
	int done = core_turn(k, timeout_ns, NULL);

	if (done > 0)
		done = lease_turn(q, k, NULL, room);
	return done > 0 ? put_posted(q, k) : done;
}

int core_collect(struct core *k, struct queue *q, PyObject *changed, long long timeout_ns)
{
	int done = core_turn(k, timeout_ns, for_inbox);

	k->collected++;
	if (done > 0)
		done = lease_turn(q, k, changed, PY_SSIZE_T_MAX);
	if (done > 0 && sort_posted(k, changed))
		return -1;
	if (done <= 0 || !turn_columns(k->turn)->n_data)
		return done;
	done = at_ease(k);
	return done < 0 ? -1 : done ? 1 : CROWDED;
}

PyObject *core_collect_quietly(PyObject *self, PyObject *args)
{
	PyObject *queue, *changed;
	long long timeout_ns;
	int done;

	if (!PyArg_ParseTuple(args, "LO!O:collect_quietly", &timeout_ns, queue_type, &queue,
			      &changed))
		return NULL;
	if (changed != Py_None && !PyList_Check(changed))
		return PyErr_Format(PyExc_TypeError, "requests join a list");
	if (!core_is_quiet((struct core *)self))
		return PyLong_FromLong(0);
	done = core_collect((struct core *)self, (struct queue *)queue,
			    changed == Py_None ? NULL : changed, timeout_ns);
	return done < 0 ? NULL : PyLong_FromLong(done);
}
