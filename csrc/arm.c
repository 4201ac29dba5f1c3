// SPDX-License-Identifier: MIT
/*
 * A RECV_ZC, noted and prepared in one call: no signal handler runs between, so the kernel
 * never holds one that nobody knows.
 */
#include "core.h"
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
