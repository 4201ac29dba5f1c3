// SPDX-License-Identifier: MIT
/*
 * A RECV_ZC, prepared and noted in one call: no signal handler runs between, so the kernel
 * never holds one that nobody knows.
 */
#include "core.h"

static int prepare(struct core *k, const struct receiver *r, unsigned int zcrx_id)
{
	PyObject *stand_in = core_stand_in(k, PREP_RECV_ZC);
	const unsigned int most_bytes = ((const struct progress *)r->protocol)->armed_bytes;
	const int fd = descriptor_number(r->held);

	if (!stand_in)
		return pz_prep_recv_zc(k->ring, fd, zcrx_id, most_bytes, r->token);
	return stand_in_answer(PyObject_CallFunction(stand_in, "OiIIK", k->raw, fd, zcrx_id,
						     most_bytes, (unsigned long long)r->token));
}

static int note(struct core *k, struct receiver *r)
{
	PyObject *token = PyLong_FromUnsignedLongLong(r->token);
	int failed = !token || roster_set_armed(k->roster, r, 1) ||
		     PyDict_SetItem(k->operations, token, (PyObject *)r);

	Py_XDECREF(token);
	return failed ? -1 : 0;
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
	int result;

	if (n != 2 || !PyObject_TypeCheck(args[0], receiver_type))
		return PyErr_Format(PyExc_TypeError, "arm() takes a Receiver and a number");
	r = (struct receiver *)args[0];
	zcrx_id = PyLong_AsUnsignedLong(args[1]);
	if (PyErr_Occurred())
		return NULL;
	if (core_is_bare(k) || !r->held || !r->protocol) {
		PyErr_SetString(PyExc_ValueError, "the ring has no Turn, or the Receiver no socket");
		return NULL;
	}
	if (progress_arm((struct progress *)r->protocol))
		return NULL;
	result = prepare(k, r, zcrx_id);
	if (PyErr_Occurred() || (!result && (note(k, r) || (!k->quiet && submitted(self)))))
		return NULL;
	return PyLong_FromLong(result);
}
