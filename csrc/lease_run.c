// SPDX-License-Identifier: MIT
/* Runs of the columns as leases, each in its event or by itself. */
#include "core.h"

#include <string.h>

#include "pieces.h"
#include "queue.h"

static PyObject *incoming_name;

/* Entry i of the columns: 0, or -1 if no memory has such a place. */
static int place(PyObject *memories, uint64_t off, uint32_t length, struct span **memory,
		 uint64_t *at)
{
	uint64_t index = off >> PZ_AREA_SHIFT;

	*at = off & (((uint64_t)1 << PZ_AREA_SHIFT) - 1);
	if (index >= (uint64_t)PyList_Size(memories))
		return -1;
	*memory = (struct span *)PyList_GetItem(memories, (Py_ssize_t)index);
	if (!PyObject_TypeCheck((PyObject *)*memory, span_type) || (*memory)->readonly)
		return -1;
	return *at + length > (uint64_t)(*memory)->length ? -1 : 0;
}

/* 0; -1 with an exception, and it has not joined. */
static int sink_add(struct sink *into, PyObject *event)
{
	if (into->list)
		return PyList_Append(into->list, event);
	if (queue_reserve(into->queue, 1)) {
		PyErr_NoMemory();
		return -1;
	}
	queue_put(into->queue, event);
	return 0;
}

/* What joined last goes again. */
static void sink_drop(struct sink *into)
{
	if (into->list)
		PyList_SetSlice(into->list, PyList_Size(into->list) - 1,
				PyList_Size(into->list), NULL);
	else
		queue_drop(into->queue);
}

/* One entry as a lease, wrapped by make() unless that is None, and added to the sink. */
static int lease_one(struct account *a, struct sink *into, PyObject *make, PyObject *request,
		     PyTypeObject *type, struct span *memory, uint64_t at, uint32_t length,
		     uint64_t *off, uint64_t token)
{
	struct lease *l = lease_alloc(type, memory, (uintptr_t)memory->at + at, length, *off,
				      token);
	PyObject *event;
	int ret = -1;

	if (!l)
		return -1;
	/* make() may raise: then nothing has happened yet. */
	if (make == Py_None)
		event = Py_NewRef((PyObject *)l);
	else if (make == (PyObject *)data_type)
		event = data_make(request, (PyObject *)l);
	else
		event = PyObject_CallFunctionObjArgs(make, request, (PyObject *)l, NULL);
	if (event && !sink_add(into, event)) {
		ret = lease_commit(l, a);
		if (!ret)
			*off = PZ_TAKEN;
		else
			sink_drop(into);
	}
	Py_XDECREF(event);
	Py_DECREF((PyObject *)l);
	return ret;
}

/*
 * The entries of a run, from start on, but for those that are taken, as far as there is room.
 * Gives stop, or the entry that found none or names no place in memories; -1 with an exception.
 * What was leased is marked, so it may be called again.
 */
static Py_ssize_t lease_entries(struct account *a, struct sink *into, PyObject *make,
				PyObject *request, PyTypeObject *type, PyObject *memories,
				uint64_t *off, const uint32_t *length, Py_ssize_t start,
				Py_ssize_t stop, uint64_t token)
{
	struct span *memory;
	Py_ssize_t i;
	uint64_t at;

	for (i = start; i < stop && into->room; i++) {
		if (off[i] == PZ_TAKEN)
			continue;
		if (place(memories, off[i], length[i], &memory, &at))
			break;
		if (lease_one(a, into, make, request, type, memory, at, length[i], &off[i], token))
			return -1;
		into->room--;
	}
	return i;
}

PyObject *account_lease_run(PyObject *self, PyObject *args)
{
	struct sink into = {.room = PY_SSIZE_T_MAX};
	PyObject *make, *request, *type, *memories;
	Py_ssize_t start, stop, done = -1;
	unsigned long long token;
	Py_buffer offs, lengths;

	if (!PyArg_ParseTuple(args, "O!OOO!O!w*y*nnK", &PyList_Type, &into.list, &make,
			      &request, &PyType_Type, &type, &PyList_Type, &memories, &offs,
			      &lengths, &start, &stop, &token))
		return NULL;
	if (!PyType_IsSubtype((PyTypeObject *)type, lease_type) || start < 0 ||
	    stop > offs.len / (Py_ssize_t)sizeof(uint64_t) ||
	    stop > lengths.len / (Py_ssize_t)sizeof(uint32_t))
		PyErr_SetString(PyExc_ValueError, "lease_run needs a Lease and its columns");
	else
		done = lease_entries((struct account *)self, &into, make, request,
				     (PyTypeObject *)type, memories, offs.buf, lengths.buf, start,
				     stop, token);
	PyBuffer_Release(&offs);
	PyBuffer_Release(&lengths);
	return done < 0 ? NULL : PyLong_FromSsize_t(done);
}

PyObject *account_lease_as(PyObject *self, PyObject *args)
{
	struct account *a = (struct account *)self;
	PyObject *type, *event, *bare, *memories, *looks, *own, *plain;

	if (!PyArg_ParseTuple(args, "O!OOO!O!:lease_as", &PyType_Type, &type, &event, &bare,
			      &PyList_Type, &memories, &PyList_Type, &looks))
		return NULL;
	if (!PyType_IsSubtype((PyTypeObject *)type, lease_type) || a->lease_kind) {
		PyErr_SetString(PyExc_ValueError, "lease_as needs a Lease, and once is enough");
		return NULL;
	}
	own = PyObject_GetAttrString(type, "_let_go");
	plain = PyObject_GetAttrString((PyObject *)lease_type, "_let_go");
	a->plain = own && own == plain;	/* debug mode's has its own */
	Py_XDECREF(own);
	Py_XDECREF(plain);
	if (!own || !plain)
		return NULL;
	a->lease_kind = Py_NewRef(type);
	lease_reuse(type);
	a->make_event = Py_NewRef(event);
	a->make_bare = Py_NewRef(bare);
	a->memories = Py_NewRef(memories);
	a->looks = Py_NewRef(looks);
	Py_RETURN_NONE;
}

/* A new reference to the list that what comes for a request waits in; NULL: it has no inbox. */
static int incoming_of(PyObject *request, PyObject **incoming)
{
	PyObject *inbox = receiver_inbox(request);

	*incoming = NULL;
	if (!inbox)
		return -1;
	if (inbox != Py_None) {
		const struct inbox *in = PyObject_TypeCheck(inbox, inbox_type) ?
					 (struct inbox *)inbox : NULL;

		*incoming = in && in->incoming ? Py_NewRef(in->incoming) :
						 PyObject_GetAttr(inbox, incoming_name);
		if (*incoming && !PyList_Check(*incoming)) {
			PyErr_SetString(PyExc_TypeError, "what comes in is a list");
			Py_CLEAR(*incoming);
		}
	}
	Py_DECREF(inbox);
	return PyErr_Occurred() ? -1 : 0;
}

/*
 * A whole run as one lease, for an inbox: 1; 0 where it must be one for each entry; -1 with an
 * exception.
 */
static int lease_together(struct account *a, PyObject *into, uint64_t *off,
			  const uint32_t *length, Py_ssize_t n, uint64_t token)
{
	struct span *memory;
	PyObject *lease;
	uint64_t at;
	int ret;

	if (n < 2 || a->make_bare != Py_None || a->leased > a->copy_above ||
	    off[0] == PZ_TAKEN || place(a->memories, off[0], length[0], &memory, &at))
		return 0;
	lease = run_lease_new(memory, off, length, n, token);
	if (!lease)
		return PyErr_Occurred() ? -1 : 0;
	ret = PyList_Append(into, lease);
	if (!ret) {
		run_lease_commit(lease, a);
		memset(off, 0xff, n * sizeof(*off));	/* PZ_TAKEN */
	}
	Py_DECREF(lease);
	return ret ? -1 : 1;
}

/* One run, from its entry start on: as core_lease_runs(). */
static int lease_run(struct core *k, uint64_t run, Py_ssize_t start, struct receiver *request,
		     struct sink *into)
{
	const struct pz_columns *c = turn_columns(k->turn);
	struct account *a = turn_account(k->accounts, c->run_token[run]);
	Py_ssize_t stop = c->run_start[run + 1], done = 0;
	struct sink inbox = {.room = PY_SSIZE_T_MAX};

	if (!a || !a->lease_kind || stop > (Py_ssize_t)c->capacity) {
		PyErr_SetString(PyExc_ValueError, "the turn has a run of no ifq");
		return -1;
	}
	if (incoming_of((PyObject *)request, &inbox.list))
		return -1;
	if (a->copy_fair >= 0)
		a->copy_above = request->greedy ? a->most : a->copy_fair;
	if (inbox.list && start < stop)
		done = lease_together(a, inbox.list, c->off + start, c->len + start, stop - start,
				      request->token);
	if (!done)
		done = lease_entries(a, inbox.list ? &inbox : into,
				     inbox.list ? a->make_bare : a->make_event,
				     (PyObject *)request, (PyTypeObject *)a->lease_kind,
				     a->memories, c->off, c->len, start, stop, request->token);
	else if (done > 0)
		done = stop;
	Py_XDECREF(inbox.list);
	if (done < 0)
		return -1;
	k->leased_runs = (Py_ssize_t)run;
	k->leased = done;
	return done == stop ? LEASED : into->room ? NO_PLACE : NO_ROOM;
}

int core_lease_runs(struct core *k, struct sink *into)
{
	const struct pz_columns *c = turn_columns(k->turn);
	int ret = LEASED;
	Py_ssize_t i;

	if (!incoming_name)
		incoming_name = PyUnicode_InternFromString("incoming");
	if (!incoming_name || core_name(k))
		return -1;
	/* What makes the events may do anything, even turn the ring. */
	for (i = k->leased_runs; ret == LEASED && i < PyList_Size(k->receivers) &&
				 i < (Py_ssize_t)c->capacity; i++) {
		PyObject *receiver = Py_NewRef(PyList_GetItem(k->receivers, i));
		Py_ssize_t start = c->run_start[i];

		if (start < k->leased)
			start = k->leased;
		if (PyObject_TypeCheck(receiver, receiver_type)) {
			ret = lease_run(k, i, start, (struct receiver *)receiver, into);
		} else {
			PyErr_SetString(PyExc_TypeError, "a run is of a Receiver");
			ret = -1;
		}
		Py_DECREF(receiver);
	}
	if (ret == LEASED)
		k->leased_runs = k->leased = 0;
	return ret;
}
