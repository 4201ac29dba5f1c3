// SPDX-License-Identifier: MIT
/* Functions of the shim that C calls, and what stands in for them (pyzcrx.testing). */
#include <errno.h>

#include "core.h"

static const char *const spelled[SHIM_FUNCTIONS] = {
	[RING_TURN] = "pz_ring_turn",
	[PREP_RECV_ZC] = "pz_prep_recv_zc",
	[TCP_READY] = "pz_tcp_ready",
	[UNREAD] = "pz_unread",
};
static PyObject *names[SHIM_FUNCTIONS];

int stand_ins_known(void)
{
	int i;

	for (i = 0; i < SHIM_FUNCTIONS; i++) {
		if (!names[i])
			names[i] = PyUnicode_InternFromString(spelled[i]);
		if (!names[i])
			return -1;
	}
	return 0;
}

PyObject *core_stand_in(const struct core *k, enum shim_function function)
{
	PyObject *found = PyDict_GetItem(k->functions, names[function]);

	return found == PyDict_GetItem(k->built, names[function]) ? NULL : Py_XNewRef(found);
}

int stand_in_answer(PyObject *stand_in, PyObject *result)
{
	int n = result ? (int)PyLong_AsLong(result) : -EIO;

	Py_DECREF(stand_in);
	Py_XDECREF(result);
	return n;
}
