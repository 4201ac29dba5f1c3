// SPDX-License-Identifier: MIT
/* A quiet turn whose data goes to the inboxes of its requests, for streams and event loops. */
#include "pieces.h"
#include "queue.h"

/* Whether no inbox may have more than it should, and nothing was copied. */
static int at_ease(const struct core *k)
{
	Py_ssize_t i, n = PyList_Size(k->accounts);

	for (i = 0; i < n; i++) {
		const struct account *a = (struct account *)PyList_GetItem(k->accounts, i);

		/* No inbox has more than are out. */
		if (a->count || a->leased > a->crowded_above)
			return 0;
	}
	return 1;
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
	k->notified++;
	for (i = 0; i < PyList_Size(k->receivers); i++) {
		PyObject *receiver = PyList_GetItem(k->receivers, i);
		PyObject *inbox = receiver_inbox(receiver);
		int ret = inbox ? 0 : -1;

		if (inbox && PyObject_TypeCheck(inbox, inbox_type) &&
		    ((struct inbox *)inbox)->notified != k->notified) {
			((struct inbox *)inbox)->notified = k->notified;
			ret = PyList_Append(changed, receiver);
		}
		Py_XDECREF(inbox);
		if (ret)
			return -1;
	}
	return 0;
}

int queue_lease(struct queue *q, struct core *k, Py_ssize_t room)
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

int queue_turn(struct queue *q, struct core *k, PyObject *changed, Py_ssize_t room,
	       long long timeout_ns)
{
	int done = core_turn(k, timeout_ns);
	struct pz_columns *c;

	if (done <= 0)
		return done;
	c = turn_columns(k->turn);
	if (!c->n_data) {	/* the time is over, or a signal came */
		c->fresh = 0;
		return PyErr_CheckSignals() ? -1 : 1;
	}
	/* Before there is anything: what fails here is met again. */
	if (changed && note_changed(k, changed))
		return -1;
	return queue_lease(q, k, room);
}

int core_collect(struct core *k, struct queue *q, PyObject *changed, long long timeout_ns)
{
	int done = queue_turn(q, k, changed, PY_SSIZE_T_MAX, timeout_ns);

	return done > 0 && turn_columns(k->turn)->n_data && !at_ease(k) ? CROWDED : done;
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
