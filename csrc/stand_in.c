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

/* The key itself, which is found sooner than one that equals it. A new reference, or NULL. */
static PyObject *key_of(PyObject *functions, const char *name)
{
	PyObject *key, *value;
	Py_ssize_t at = 0;

	while (PyDict_Next(functions, &at, &key, &value))
		if (PyUnicode_Check(key) && !PyUnicode_CompareWithASCIIString(key, name))
			return Py_NewRef(key);
	return PyUnicode_InternFromString(name);
}

int core_know_built(struct core *k)
{
	int i;

	for (i = 0; i < SHIM_FUNCTIONS; i++) {
		if (!names[i])
			names[i] = key_of(k->functions, spelled[i]);
		if (!names[i])
			return -1;
		k->built_ones[i] = PyDict_GetItemWithError(k->built, names[i]);
		if (PyErr_Occurred())
			return -1;
	}
	return 0;
}

PyObject *core_stand_in(const struct core *k, enum shim_function function)
{
	PyObject *found = PyDict_GetItemWithError(k->functions, names[function]);

	return found == k->built_ones[function] ? NULL : Py_XNewRef(found);
}

int stand_in_answer(PyObject *stand_in, PyObject *result)
{
	int n = result ? (int)PyLong_AsLong(result) : -EIO;

	Py_DECREF(stand_in);
	Py_XDECREF(result);
	return n;
}
