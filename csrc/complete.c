// SPDX-License-Identifier: MIT
/*
 * What a turn brought beside data: each completion goes to its operation, which makes of it
 * an event or none.  What it means is the operation's to say (_ring/roles.py); here is only
 * the loop, since ends are as frequent as connections.
 *
 * _complete() may be interrupted by a signal handler.  Its completion is then told again by
 * the next call: the operation that it ended is no longer among those in flight, so it is
 * kept until its event is posted.
 */
#include "core.h"

/* It is in flight no longer, and kept as the one that is being told of its end. */
static int ended(struct core *k, PyObject *operation, PyObject *token)
{
	k->finishing = Py_NewRef(operation);
	if (PyDict_DelItem(k->operations, token))
		return -1;
	if (!PyObject_TypeCheck(operation, receiver_type))
		return 0;
	return roster_set_armed(k->roster, (struct receiver *)operation, 0);
}

/* Whose a completion with that token is: a new reference, None if nobody's. */
static PyObject *found(struct core *k, PyObject *token, uint32_t flags)
{
	PyObject *operation = PyDict_GetItemWithError(k->operations, token);

	if (operation) {
		Py_INCREF(operation);
		if (!(flags & IORING_CQE_F_MORE) && ended(k, operation, token))
			Py_CLEAR(operation);
		return operation;
	}
	if (PyErr_Occurred())
		return NULL;
	operation = PyDict_GetItemWithError(k->own, token);
	if (operation || PyErr_Occurred())
		return Py_XNewRef(operation);
	return Py_NewRef(Py_None);
}

static PyObject *whose(struct core *k, uint64_t token, uint32_t flags)
{
	PyObject *number, *operation;

	if (k->finishing)
		return Py_NewRef(k->finishing);
	number = PyLong_FromUnsignedLongLong(token);
	operation = number ? found(k, number, flags) : NULL;
	Py_XDECREF(number);
	return operation;
}

static PyObject *event_of(PyObject *operation, int32_t res, uint32_t flags)
{
	static PyObject *name;
	PyObject *result, *with, *event;

	if (operation == Py_None)
		return Py_NewRef(Py_None);
	if (!name)
		name = PyUnicode_InternFromString("_complete");
	result = PyLong_FromLong(res);
	with = PyLong_FromUnsignedLong(flags);
	event = name && result && with ?
		PyObject_CallMethodObjArgs(operation, name, result, with, NULL) : NULL;
	Py_XDECREF(result);
	Py_XDECREF(with);
	return event;
}

int core_complete(struct core *k)
{
	const struct pz_columns *c = turn_columns(k->turn);

	if (c->n_other > c->capacity) {
		PyErr_SetString(PyExc_ValueError, "the turn has completions outside its columns");
		return -1;
	}
	while ((uint64_t)k->others_done < c->n_other) {
		const Py_ssize_t i = k->others_done;
		const uint32_t flags = c->other_flags[i];
		PyObject *operation = whose(k, c->other_token[i], flags);
		PyObject *event = operation ? event_of(operation, c->other_res[i], flags) : NULL;
		int failed = !event || (event != Py_None && PyList_Append(k->posted, event));

		Py_XDECREF(event);
		Py_XDECREF(operation);
		if (failed)
			return -1;
		k->others_done = i + 1;
		Py_CLEAR(k->finishing);
	}
	return 0;
}
