// SPDX-License-Identifier: MIT
/*
 * A turn of a ring in one call of C, as long as there is nothing to decide.
 *
 * A turn is quiet when the refill queues take what came back, nothing runs low, no request
 * waits, and what the kernel brings beside data makes no event, or one that the caller may deal
 * with.  What says otherwise is policy's: the turn then stops where it is and Python goes on
 * (_ring/core.py).
 *
 * Python runs no signal handler within, so each step happens wholly or not at all; but for
 * what core_complete() calls, after which Python goes on as after an interrupted turn.
 */
#include <errno.h>

#include "core.h"

int core_is_quiet(const struct core *k)
{
	return k->quiet && k->turn && k->pace && k->owner == thread_number();
}

int is_empty(PyObject *container)
{
	Py_ssize_t n = PyObject_Size(container);

	if (n < 0)
		PyErr_Clear();
	return !n;
}

/* Hands what came back to the kernel; gives whether there is nothing else to do. */
static int settled(struct core *k)
{
	Py_ssize_t i, n = PyList_Size(k->accounts);

	for (i = 0; i < n; i++) {
		PyObject *account = PyList_GetItem(k->accounts, i);

		if (!PyObject_TypeCheck(account, account_type) ||
		    !account_settled((struct account *)account))
			return 0;
	}
	n = PyList_Size(k->unrest);
	for (i = 0; i < n; i++)
		if (!is_empty(PyList_GetItem(k->unrest, i)))
			return 0;
	return 1;
}

/* Whoever looked at the columns does so no longer; 0 if Python must see to that. */
static int look_ended(struct core *k)
{
	if (k->looked_at && k->looked_at != Py_None) {
		if (!PyObject_TypeCheck(k->looked_at, batch_type))
			return 0;
		if (batch_expire(k->looked_at)) {
			PyErr_Clear();	/* it is met again */
			return 0;
		}
	}
	return 1;
}

/*
 * A turn begins.  Whose its runs are is named when somebody asks, as long as that is quiet:
 * no request can end before the next turn.
 */
void core_forget_names(struct core *k)
{
	k->named = 0;
	k->leased_runs = k->leased = 0;
	if (!is_empty(k->receivers) &&
	    PyList_SetSlice(k->receivers, 0, PyList_Size(k->receivers), NULL))
		PyErr_Clear();
}

/* pz_ring_turn(), or what stands in for it, which may raise. */
static int enter(struct core *k, long long timeout_ns, uint32_t enough, uint32_t gather_us)
{
	struct pz_columns *c = turn_columns(k->turn);
	PyObject *stand_in = core_stand_in(k, RING_TURN);
	int n;

	if (stand_in)
		return stand_in_answer(stand_in, PyObject_CallFunction(stand_in, "OLIIO", k->raw, timeout_ns,
							     enough, gather_us, k->raw_columns));
	Py_BEGIN_ALLOW_THREADS
	n = pz_ring_turn(k->ring, timeout_ns, enough, gather_us, c);
	Py_END_ALLOW_THREADS
	return n;
}

/* core_turn() to where the columns are counted; what came beside data is not told yet. */
static int counted(struct core *k, long long timeout_ns)
{
	const struct pace *pace;
	struct pz_columns *c;
	uint32_t gather_us;
	int n;

	if (!core_is_quiet(k))
		return 0;
	c = turn_columns(k->turn);
	pace = (const struct pace *)k->pace;
	if (c->fresh || !is_empty(k->posted) || is_empty(k->operations) || !look_ended(k) ||
	    !settled(k))
		return 0;
	if (timeout_ns < 0)
		timeout_ns = PZ_SIGNAL_TIMEOUT_NS;
	gather_us = timeout_ns < 1000LL * pace->us ? 0 : pace->us;
	k->others_done = 0;
	core_forget_names(k);
	n = enter(k, timeout_ns, pace->enough, gather_us);
	if (PyErr_Occurred())
		return -1;
	if (n < 0 && n != -EINTR) {
		c->fresh = 0;	/* the error is met again */
		return 0;
	}
	if (turn_count(c, k->roster, k->accounts) != 1) {
		PyErr_Clear();
		return 0;
	}
	return 1;
}

int core_turn(struct core *k, long long timeout_ns, int (*may)(PyObject *event))
{
	const struct pz_columns *c;
	int done = counted(k, timeout_ns);
	Py_ssize_t i;

	if (done <= 0)
		return done;
	c = turn_columns(k->turn);
	/* Names first: who is told of the end of his request is not known by its token then. */
	if (c->n_other && (core_name(k) || core_complete(k)))
		return -1;
	for (i = 0; may && i < PyList_Size(k->posted); i++) {
		done = may(PyList_GetItem(k->posted, i));
		if (done <= 0)
			return done;
	}
	pace_brought((struct pace *)k->pace, c->n_data, c->bytes);
	return 1;
}

void core_forget(struct core *k)
{
	struct pz_columns *c = turn_columns(k->turn);

	c->n_data = c->n_runs = c->bytes = 0;
	Py_CLEAR(k->looked_at);
}
