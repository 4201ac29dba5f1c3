// SPDX-License-Identifier: MIT
/*
 * What a turn brought, counted, and what of it goes back: one pass each over
 * its runs, of whichever requests and ifqs those are.  Progress and Receiver
 * are what of a request such a pass needs to know.
 *
 * Python runs no signal handler within, so each happens wholly or not at all.
 */
#include "lease.h"

#include "shim.h"

struct progress {
	PyObject_HEAD
	unsigned long long received;	/* bytes, ever */
	unsigned long long this_arm;	/* bytes, since it was armed last */
	Py_ssize_t fruitless;		/* flushes since bytes came last */
};

struct receiver {
	PyObject_HEAD
	PyObject *protocol;	/* its Progress, which refers to nothing: no cycle to collect */
};

static void dealloc(PyObject *self)
{
	PyTypeObject *type = Py_TYPE(self);
	freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);

	release(self);
	Py_DECREF(type);
}

/* ---- Progress --------------------------------------------------------- */

static void progress_add(struct progress *p, unsigned long long bytes)
{
	p->received += bytes;
	p->this_arm += bytes;
	p->fruitless = 0;
}

PyDoc_STRVAR(data_doc, "data(size_bytes)\n--\n\nSo many bytes arrived.");

static PyObject *progress_data(PyObject *self, PyObject *arg)
{
	unsigned long long bytes = PyLong_AsUnsignedLongLong(arg);

	if (PyErr_Occurred())
		return NULL;
	progress_add((struct progress *)self, bytes);
	Py_RETURN_NONE;
}

static PyMethodDef progress_methods[] = {
	{"data", progress_data, METH_O, data_doc},
	{NULL, NULL, 0, NULL},
};

static PyMemberDef progress_members[] = {
	{"received", T_ULONGLONG, offsetof(struct progress, received), READONLY,
	 "bytes ever received"},
	{"this_arm", T_ULONGLONG, offsetof(struct progress, this_arm), 0,
	 "bytes received since it was armed last"},
	{"fruitless", T_PYSSIZET, offsetof(struct progress, fruitless), 0,
	 "flushes of the refill queue since bytes came last"},
	{NULL, 0, 0, 0, NULL},
};

static PyType_Slot progress_slots[] = {
	{Py_tp_doc, "How much came for one request."},
	{Py_tp_dealloc, dealloc},
	{Py_tp_methods, progress_methods},
	{Py_tp_members, progress_members},
	{0, NULL},
};

PyType_Spec progress_spec = {
	.name = "pyzcrx._lease.Progress",
	.basicsize = sizeof(struct progress),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
	.slots = progress_slots,
};

/* ---- Receiver --------------------------------------------------------- */

static void receiver_dealloc(PyObject *self)
{
	Py_CLEAR(((struct receiver *)self)->protocol);
	dealloc(self);
}

static PyMemberDef receiver_members[] = {
	{"protocol", T_OBJECT_EX, offsetof(struct receiver, protocol), 0,
	 "its Progress, or what is made of that"},
	{NULL, 0, 0, 0, NULL},
};

static PyType_Slot receiver_slots[] = {
	{Py_tp_doc, "A request whose data take() counts."},
	{Py_tp_dealloc, receiver_dealloc},
	{Py_tp_members, receiver_members},
	{0, NULL},
};

PyType_Spec receiver_spec = {
	.name = "pyzcrx._lease.Receiver",
	.basicsize = sizeof(struct receiver),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
	.slots = receiver_slots,
};

/* ---- a turn ----------------------------------------------------------- */

/* Borrowed; NULL if no ifq has that slot. */
static struct account *account_of(PyObject *accounts, uint64_t token)
{
	Py_ssize_t slot = (token >> PZ_TOKEN_SLOT_SHIFT) & PZ_TOKEN_SLOT_MASK;
	PyObject *account = slot < PyList_Size(accounts) ? PyList_GetItem(accounts, slot) : NULL;

	return account && PyObject_TypeCheck(account, account_type) ? (void *)account : NULL;
}

/* Borrowed; NULL if nobody receives under that token, or with an exception. */
static struct receiver *receiver_of(PyObject *operations, uint64_t token)
{
	PyObject *key = PyLong_FromUnsignedLongLong(token), *operation;
	struct receiver *receiver;

	if (!key)
		return NULL;
	operation = PyDict_GetItemWithError(operations, key);
	Py_DECREF(key);
	if (!operation || !PyObject_TypeCheck(operation, receiver_type))
		return NULL;
	receiver = (struct receiver *)operation;
	return receiver->protocol && PyObject_TypeCheck(receiver->protocol, progress_type) ?
	       receiver : NULL;
}

/* Whether the runs lie in the columns, whoever wrote them. */
static int runs_fit(const struct pz_columns *c)
{
	uint64_t run;

	if (c->n_runs > c->capacity)
		return 0;
	for (run = 0; run < c->n_runs; run++)
		if (c->run_start[run] > c->run_start[run + 1])
			return 0;
	return !c->n_runs || c->run_start[c->n_runs] <= c->capacity;
}

static PyObject *bad_runs(void)
{
	PyErr_SetString(PyExc_ValueError, "the turn has runs outside its columns");
	return NULL;
}

/* Whose each run is; gives 0 where one is nobody's, -1 with an exception. */
static int find_receivers(const struct pz_columns *c, PyObject *operations, PyObject *accounts,
			  PyObject *receivers)
{
	uint64_t run;

	if (PyList_SetSlice(receivers, 0, PyList_Size(receivers), NULL))
		return -1;
	for (run = 0; run < c->n_runs; run++) {
		struct receiver *receiver = receiver_of(operations, c->run_token[run]);

		if (!receiver || !account_of(accounts, c->run_token[run]))
			return PyErr_Occurred() ? -1 : 0;
		if (PyList_Append(receivers, (PyObject *)receiver))
			return -1;
	}
	return 1;
}

PyObject *turn_take(PyObject *module, PyObject *args)
{
	PyObject *turn, *operations, *accounts, *receivers;
	struct pz_columns *c;
	uint64_t run;
	int found;

	(void)module;
	if (!PyArg_ParseTuple(args, "O!O!O!O!", turn_type, &turn, &PyDict_Type, &operations,
			      &PyList_Type, &accounts, &PyList_Type, &receivers))
		return NULL;
	c = turn_columns(turn);
	if (c->fresh == PZ_COUNTED)
		Py_RETURN_TRUE;
	if (!runs_fit(c))
		return bad_runs();
	found = find_receivers(c, operations, accounts, receivers);
	if (found < 0)
		return NULL;
	if (!found)
		Py_RETURN_FALSE;
	for (run = 0; run < c->n_runs; run++) {
		struct account *a = account_of(accounts, c->run_token[run]);
		struct receiver *r = (struct receiver *)PyList_GetItem(receivers, (Py_ssize_t)run);
		uint32_t n = c->run_start[run + 1] - c->run_start[run];

		a->leased += n;
		a->taken += n;
		a->bytes += c->run_bytes[run];
		a->now_ns = c->now_ns;
		progress_add((struct progress *)r->protocol, c->run_bytes[run]);
	}
	c->fresh = PZ_COUNTED;
	Py_RETURN_TRUE;
}

PyObject *turn_give_back(PyObject *module, PyObject *args)
{
	const struct pz_columns *c;
	PyObject *turn, *accounts;
	uint64_t run, next;

	(void)module;
	if (!PyArg_ParseTuple(args, "O!O!", turn_type, &turn, &PyList_Type, &accounts))
		return NULL;
	c = turn_columns(turn);
	if (!runs_fit(c))
		return bad_runs();
	for (run = 0; run < c->n_runs; run = next) {
		struct account *a = account_of(accounts, c->run_token[run]);
		uint32_t start = c->run_start[run];

		for (next = run + 1; next < c->n_runs; next++)
			if (account_of(accounts, c->run_token[next]) != a)
				break;
		if (a && account_give_back(a, c->off + start, c->run_start[next] - start,
					   c->now_ns))
			return PyErr_NoMemory();
	}
	Py_RETURN_NONE;
}
