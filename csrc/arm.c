// SPDX-License-Identifier: MIT
/*
 * A RECV_ZC, noted and prepared in one call: no signal handler runs between, so the kernel
 * never holds one that nobody knows.
 */
#include <errno.h>

#include "core.h"
#include "pieces.h"
#include "receiver.h"
#include "roster.h"

static int prepare(struct core *k, const struct receiver *r, uint32_t zcrx_id)
{
	PyObject *stand_in = core_stand_in(k, PREP_RECV_ZC);
	const uint32_t most_bytes = ((const struct progress *)r->protocol)->armed_bytes;
	const uint64_t token = r->token;
	const int fd = descriptor_number(r->held);
	struct pz_ring *ring = k->ring;
	int ret;

	if (stand_in)
		return stand_in_answer(stand_in,
				       PyObject_CallFunction(stand_in, "OiIIK", k->raw, fd, zcrx_id,
							     most_bytes, (unsigned long long)token));
	if (!usable(ring))
		return -EBADF;
	if (!io_uring_sq_space_left(&ring->uring)) {	/* what fills it is submitted first */
		Py_BEGIN_ALLOW_THREADS
		ret = pz_prep_recv_zc(ring, fd, zcrx_id, most_bytes, token);
		Py_END_ALLOW_THREADS
		return ret;
	}
	return pz_prep_recv_zc(ring, fd, zcrx_id, most_bytes, token);
}

/* -1 with an exception, and it is as it was. */
static int note(struct core *k, struct receiver *r, PyObject *token)
{
	if (PyDict_SetItem(k->operations, token, (PyObject *)r))
		return -1;
	return roster_set_armed(k->roster, r, 1);
}

static void unnote(struct core *k, struct receiver *r, PyObject *token)
{
	PyObject *type, *value, *trace;

	PyErr_Fetch(&type, &value, &trace);
	if (PyDict_DelItem(k->operations, token) || roster_set_armed(k->roster, r, 0))
		PyErr_Clear();
	PyErr_Restore(type, value, trace);
}

/* 0 or -errno; -1 with an exception. */
static int arm(struct core *k, struct receiver *r, uint32_t zcrx_id)
{
	PyObject *token;
	int ret = -1;

	if (progress_arm((struct progress *)r->protocol))
		return -1;
	token = PyLong_FromUnsignedLongLong(r->token);
	if (token && !note(k, r, token)) {
		ret = prepare(k, r, zcrx_id);
		if (ret > 0)
			PyErr_SetString(PyExc_SystemError, "a request is prepared, or -errno");
		if (ret)
			unnote(k, r, token);
	}
	Py_XDECREF(token);
	return ret;
}

/* Somebody may watch the ring, who takes a turn only once something has happened. */
static int submitted(PyObject *self)
{
	PyObject *result = PyObject_CallMethod(self, "_submit_now", NULL);

	Py_XDECREF(result);
	return result ? 0 : -1;
}

PyObject *core_arm(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
	struct core *k = (struct core *)self;
	struct receiver *r;
	unsigned long zcrx_id;
	int ret = 0;

	if (n != 2 || !PyObject_TypeCheck(args[0], receiver_type))
		return PyErr_Format(PyExc_TypeError, "arm() takes a Receiver and a number");
	r = (struct receiver *)args[0];
	zcrx_id = PyLong_AsUnsignedLong(args[1]);
	if (PyErr_Occurred())
		return NULL;
	if (zcrx_id > UINT32_MAX)
		return PyErr_Format(PyExc_OverflowError, "zcrx_id has 32 bits");
	if (core_is_bare(k) || !r->held || !r->protocol || r->roster != k->roster)
		return PyErr_Format(PyExc_ValueError, "the Receiver has no socket, or another ring");
	if (roster_find(k->roster, r->token) != r)	/* else a caller was interrupted after it */
		ret = arm(k, r, zcrx_id);
	if (PyErr_Occurred() || (!ret && !k->quiet && submitted(self)))
		return NULL;
	return PyLong_FromLong(ret);
}

/* Whether it is at its limit, for a reader: else what is over has let go of its socket. */
static int rests(const struct core *k, const struct receiver *r)
{
	return r->roster == k->roster && r->ifq && r->held && descriptor_number(r->held) >= 0 &&
	       r->protocol && !r->stopping && r->kept[KEPT_OVER] && r->kept[KEPT_OVER] != Py_None &&
	       r->kept[KEPT_PLAIN] == Py_None && roster_find(k->roster, r->token) != r;
}

/* The number that the kernel gave its ifq, if that can receive; PyErr_Occurred() tells. */
static unsigned long ifq_of(const struct receiver *r)
{
	PyObject *none = PyObject_CallMethod(r->ifq, "check_receives", NULL), *id;
	unsigned long zcrx_id = 0;

	Py_XDECREF(none);
	id = none && r->ifq ? PyObject_GetAttrString(r->ifq, "zcrx_id") : NULL;
	if (id)
		zcrx_id = PyLong_AsUnsignedLong(id);
	Py_XDECREF(id);
	return zcrx_id;
}

/* All that is in an inbox, borrowed, if it is one item; else NULL. */
static PyObject *only_item(const struct inbox *in)
{
	return in->incoming && PyList_Check(in->incoming) && PyList_Size(in->incoming) == 1 ?
	       PyList_GetItem(in->incoming, 0) : NULL;
}

/* Whether that is the event that its request is at its limit, and nothing is to be decided. */
static int may_renew(const struct core *k, const struct receiver *r, const struct inbox *in,
		     PyObject *event)
{
	return core_is_quiet(k) && in->among >= 0 && in->among == k->readers &&
	       in->at_once_bytes > 0 && rests(k, r) && event && event == only_item(in) &&
	       (PyObject *)Py_TYPE(event) == r->kept[KEPT_OVER];
}

/* As core_renew(), but for the event. */
static int renew(struct core *k, struct receiver *r, const struct inbox *in, uint32_t zcrx_id)
{
	struct progress *p = (struct progress *)r->protocol;
	PyObject *limit = PyLong_FromUnsignedLongLong(p->received + in->at_once_bytes);
	int ret;

	if (!limit)
		return -1;
	replace(&p->limit, limit);
	Py_DECREF(limit);
	ret = arm(k, r, zcrx_id);
	if (PyErr_Occurred())
		return -1;
	if (ret)	/* it is met again */
		return 0;
	replace(&r->kept[KEPT_OVER], Py_None);
	replace(&r->kept[KEPT_PAUSE_AT], Py_None);
	return 1;
}

int core_renew(struct core *k, struct receiver *r, struct inbox *in)
{
	PyObject *event = only_item(in);
	unsigned long zcrx_id;
	int done = -1;

	if (!may_renew(k, r, in, event))
		return 0;
	Py_INCREF(event);
	zcrx_id = ifq_of(r);
	if (!PyErr_Occurred())	/* that was Python, and may have done anything */
		done = may_renew(k, r, in, event) && zcrx_id <= UINT32_MAX ?
		       renew(k, r, in, (uint32_t)zcrx_id) : 0;
	if (done > 0 && event == only_item(in) && PyList_SetSlice(in->incoming, 0, 1, NULL))
		done = -1;
	Py_DECREF(event);
	return done;
}
