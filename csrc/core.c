// SPDX-License-Identifier: MIT
/* Core: the type. Its turns are taken in quiet.c. */
#include "core.h"

static PyObject *core_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	struct core *k = (struct core *)PyType_GenericAlloc(type, 0);

	(void)args;
	(void)kwargs;
	if (!k)
		return NULL;
	k->shared = shared_new(sizeof(*k->ring));
	k->roster = roster_new();
	k->accounts = PyList_New(0);
	k->unrest = PyList_New(0);
	k->operations = PyDict_New();
	k->own = PyDict_New();
	k->receivers = PyList_New(0);
	k->posted = PyList_New(0);
	k->functions = PyDict_New();
	k->owner = thread_number();
	if (!k->shared || !k->roster || !k->accounts || !k->unrest || !k->operations ||
	    !k->own || !k->receivers || !k->posted || !k->functions) {
		Py_DECREF((PyObject *)k);
		return NULL;
	}
	k->ring = shared_memory(k->shared);
	ring_forget(k->ring);
	return (PyObject *)k;
}

static int core_traverse(PyObject *self, visitproc visit, void *arg)
{
	struct core *k = (struct core *)self;

	Py_VISIT(Py_TYPE(self));
	Py_VISIT(k->turn);
	Py_VISIT(k->accounts);
	Py_VISIT(k->unrest);
	Py_VISIT(k->operations);
	Py_VISIT(k->own);
	Py_VISIT(k->finishing);
	Py_VISIT(k->receivers);
	Py_VISIT(k->posted);
	Py_VISIT(k->looked_at);
	Py_VISIT(k->pace);
	Py_VISIT(k->functions);
	Py_VISIT(k->built);
	Py_VISIT(k->raw);
	Py_VISIT(k->raw_columns);
	return k->roster ? roster_traverse(k->roster, visit, arg) : 0;
}

static int core_clear(PyObject *self)
{
	struct core *k = (struct core *)self;

	/* Lists and dicts stay, empty: whoever comes here again finds them. */
	k->quiet = 0;
	PyList_SetSlice(k->accounts, 0, PyList_Size(k->accounts), NULL);
	PyList_SetSlice(k->unrest, 0, PyList_Size(k->unrest), NULL);
	PyList_SetSlice(k->receivers, 0, PyList_Size(k->receivers), NULL);
	PyDict_Clear(k->operations);
	PyDict_Clear(k->own);
	Py_CLEAR(k->finishing);
	Py_CLEAR(k->looked_at);
	if (k->roster)
		roster_clear(k->roster);
	return 0;
}

static void core_dealloc(PyObject *self)
{
	PyTypeObject *type = Py_TYPE(self);
	struct core *k = (struct core *)self;

	PyObject_GC_UnTrack(self);
	k->quiet = 0;
	if (k->roster) {
		roster_clear(k->roster);
		roster_put(k->roster);
	}
	Py_CLEAR(k->shared);
	Py_CLEAR(k->turn);
	Py_CLEAR(k->accounts);
	Py_CLEAR(k->unrest);
	Py_CLEAR(k->operations);
	Py_CLEAR(k->own);
	Py_CLEAR(k->finishing);
	Py_CLEAR(k->receivers);
	Py_CLEAR(k->posted);
	Py_CLEAR(k->looked_at);
	Py_CLEAR(k->pace);
	Py_CLEAR(k->functions);
	Py_CLEAR(k->built);
	Py_CLEAR(k->raw);
	Py_CLEAR(k->raw_columns);
	PyObject_GC_Del(self);
	Py_DECREF(type);
}

PyDoc_STRVAR(use_doc,
"use(turn, pace, functions, built, raw, columns)\n--\n\n"
"What its turns work with: a Turn, a Pace, the functions of the shim by name, those that were\n"
"built, and this ring and the Turn as pz_ring_turn takes them. Where functions has what was built,\n"
"C calls it.");

static PyObject *core_use(PyObject *self, PyObject *args)
{
	struct core *k = (struct core *)self;
	PyObject *turn, *pace, *functions, *built, *raw, *columns;

	if (!PyArg_ParseTuple(args, "O!O!O!O!OO:use", turn_type, &turn, pace_type, &pace,
			      &PyDict_Type, &functions, &PyDict_Type, &built, &raw, &columns))
		return NULL;
	if (!core_is_bare(k)) {
		PyErr_SetString(PyExc_ValueError, "it has a Turn");
		return NULL;
	}
	Py_DECREF(k->functions);
	k->functions = Py_NewRef(functions);
	Py_XDECREF(k->built);
	k->built = Py_NewRef(built);
	if (core_know_built(k))
		return NULL;
	k->turn = Py_NewRef(turn);
	k->pace = Py_NewRef(pace);
	k->raw = Py_NewRef(raw);
	k->raw_columns = Py_NewRef(columns);
	Py_RETURN_NONE;
}

/* The columns, or NULL with an exception. */
static struct pz_columns *columns_of(struct core *k)
{
	if (!core_is_bare(k))
		return turn_columns(k->turn);
	PyErr_SetString(PyExc_ValueError, "it has no Turn");
	return NULL;
}

PyDoc_STRVAR(turn_doc,
"turn_quietly(timeout_ns)\n--\n\n"
"Settle, enter the kernel for at most so long (-1: for ever), drain, and count what came.\n"
"Gives whether that was all; else it was not begun, or the columns say how far it got.");

static PyObject *core_turn_quietly(PyObject *self, PyObject *arg)
{
	long long timeout_ns = PyLong_AsLongLong(arg);
	int done;

	if (timeout_ns == -1 && PyErr_Occurred()) {
		if (!PyErr_ExceptionMatches(PyExc_OverflowError))
			return NULL;
		PyErr_Clear();	/* longer than anybody waits */
	}
	done = core_turn((struct core *)self, timeout_ns, NULL);
	return done < 0 ? NULL : PyBool_FromLong(done);
}

PyDoc_STRVAR(collect_doc,
"collect_quietly(timeout_ns, queue, changed)\n--\n\n"
"turn_quietly(), and its data is in the inboxes of its requests, which join the list changed\n"
"(or None), and in the queue as events. What comes beside data is told to its operations; their\n"
"events are behind the data in the inboxes. 0: Python must go on, also where such an event is\n"
"nobody's who reads; 1: that was all; 2: and some inbox has too much, or something was copied.");

int core_name(struct core *k)
{
	if (!k->named && k->turn) {
		if (turn_name(turn_columns(k->turn), k->roster, k->receivers))
			return -1;
		k->named = 1;
	}
	return 0;
}

PyDoc_STRVAR(count_doc,
"count()\n--\n\n"
"Count the runs of the last turn, once: for their requests and their accounts. Fills the\n"
"list receivers. Gives False, having counted nothing, where a run is nobody's.");

static PyObject *core_count(PyObject *self, PyObject *unused)
{
	struct core *k = (struct core *)self;
	struct pz_columns *c = columns_of(k);
	int counted;

	(void)unused;
	if (!c)
		return NULL;
	if (c->fresh != PZ_COUNTED)
		core_forget_names(k);
	counted = turn_count(c, k->roster, k->accounts);
	/* Before a completion ends one of them. */
	if (counted < 0 || (counted && core_name(k)))
		return NULL;
	return PyBool_FromLong(counted);
}

PyDoc_STRVAR(complete_doc,
"complete()\n--\n\n"
"Have each completion of the last turn that is no data make its event, which joins posted.\n"
"It may be called again after it raised.");

static PyObject *core_method_complete(PyObject *self, PyObject *unused)
{
	struct core *k = (struct core *)self;

	(void)unused;
	if (!columns_of(k) || core_complete(k))
		return NULL;
	Py_RETURN_NONE;
}

PyDoc_STRVAR(lease_runs_doc,
"lease_runs(fresh)\n--\n\n"
"Lease every entry of the last turn that is not taken, and mark it by all ones: as an event at\n"
"the end of the list fresh, or by itself in the inbox of its request (Account.lease_as()).\n"
"Gives whether all have a place. It may be called again after it raised.");

static PyObject *core_method_lease_runs(PyObject *self, PyObject *fresh)
{
	struct sink into = {.list = fresh, .room = PY_SSIZE_T_MAX};
	int done;

	if (!columns_of((struct core *)self))
		return NULL;
	if (!PyList_Check(fresh))
		return PyErr_Format(PyExc_TypeError, "events join a list");
	done = core_lease_runs((struct core *)self, &into);
	return done < 0 ? NULL : PyBool_FromLong(done == LEASED);
}

PyDoc_STRVAR(give_back_doc,
"give_back()\n--\n\n"
"Return every offset of the last turn's runs, except all ones, which they become. They go\n"
"to the refill queue of their Account at once, unless older ones wait for room in it.");

static PyObject *core_give_back(PyObject *self, PyObject *unused)
{
	struct core *k = (struct core *)self;
	struct pz_columns *c = columns_of(k);

	(void)unused;
	if (!c || turn_give_back(c, k->accounts))
		return NULL;
	Py_RETURN_NONE;
}

PyDoc_STRVAR(enlist_doc,
"enlist(receiver, ifq)\n--\n\nGive a Receiver its token, on the ifq in that slot.");

static PyObject *core_enlist(PyObject *self, PyObject *args)
{
	PyObject *receiver;
	int ifq;

	if (!PyArg_ParseTuple(args, "O!i:enlist", receiver_type, &receiver, &ifq))
		return NULL;
	if (roster_enlist(((struct core *)self)->roster, (struct receiver *)receiver, ifq))
		return NULL;
	Py_RETURN_NONE;
}

PyDoc_STRVAR(enlisted_doc,
"enlisted(token)\n--\n\nThe Receiver of that token; None if there is none, or no more.");

static PyObject *core_enlisted(PyObject *self, PyObject *arg)
{
	const uint64_t token = PyLong_AsUnsignedLongLong(arg);
	struct receiver *found;

	if (PyErr_Occurred())
		return NULL;
	found = roster_owner(((struct core *)self)->roster, token);
	return Py_NewRef(found ? (PyObject *)found : Py_None);
}

PyDoc_STRVAR(enlisted_on_doc,
"enlisted_on(ifq)\n--\n\nThe Receivers that live, of the ifq in that slot.");

static PyObject *core_enlisted_on(PyObject *self, PyObject *arg)
{
	const long ifq = PyLong_AsLong(arg);

	if (PyErr_Occurred())
		return NULL;
	return roster_owners(((struct core *)self)->roster, (int)ifq);
}

PyDoc_STRVAR(arm_doc,
"arm(receiver, zcrx_id)\n--\n\n"
"Note that the kernel holds it, prepare its RECV_ZC as its Progress says, and give 0; or give\n"
"-errno. Nothing is prepared for one that is armed. Calls _submit_now() unless quiet is set.");

PyDoc_STRVAR(armed_doc,
"set_armed(operation, armed)\n--\n\n"
"Whether the kernel holds this Receiver of ours, so that data may come for it. Nothing else\n"
"brings data.");

static PyObject *core_set_armed(PyObject *self, PyObject *args)
{
	PyObject *operation;
	int armed;

	if (!PyArg_ParseTuple(args, "Op:set_armed", &operation, &armed))
		return NULL;
	if (PyObject_TypeCheck(operation, receiver_type) &&
	    roster_set_armed(((struct core *)self)->roster, (struct receiver *)operation, armed))
		return NULL;
	Py_RETURN_NONE;
}

static PyMethodDef core_methods[] = {
	{"use", core_use, METH_VARARGS, use_doc},
	{"turn_quietly", core_turn_quietly, METH_O, turn_doc},
	{"collect_quietly", core_collect_quietly, METH_VARARGS, collect_doc},
	{"arm", (PyCFunction)(void (*)(void))core_arm, METH_FASTCALL, arm_doc},
	{"count", core_count, METH_NOARGS, count_doc},
	{"complete", core_method_complete, METH_NOARGS, complete_doc},
	{"lease_runs", core_method_lease_runs, METH_O, lease_runs_doc},
	{"give_back", core_give_back, METH_NOARGS, give_back_doc},
	{"enlist", core_enlist, METH_VARARGS, enlist_doc},
	{"enlisted", core_enlisted, METH_O, enlisted_doc},
	{"enlisted_on", core_enlisted_on, METH_O, enlisted_on_doc},
	{"set_armed", core_set_armed, METH_VARARGS, armed_doc},
	{NULL, NULL, 0, NULL},
};

#define FIELD(name, type, flags, doc) \
	{#name, type, offsetof(struct core, name), flags, doc}

static PyMemberDef core_members[] = {
	FIELD(shared, T_OBJECT_EX, READONLY, "its struct pz_ring, for the shim"),
	FIELD(accounts, T_OBJECT, READONLY, "the Accounts, by slot of the ifq"),
	FIELD(unrest, T_OBJECT, READONLY, "containers: no turn is quiet while one has something"),
	{"_operations", T_OBJECT, offsetof(struct core, operations), READONLY, NULL},
	{"_own", T_OBJECT, offsetof(struct core, own), READONLY, NULL},
	FIELD(posted, T_OBJECT, 0, "events that no data goes with, until they are handed on"),
	FIELD(looked_at, T_OBJECT, 0, "who still looks at the columns"),
	FIELD(readers, T_PYSSIZET, 0, "of streams, among which the area is shared"),
	FIELD(others_done, T_PYSSIZET, 0,
	      "completions of the last turn, but for data, that were dealt with"),
	{"_leased", T_PYSSIZET, offsetof(struct core, leased), READONLY,
	 "entries of the last turn that were leased before the rest of it; 0: none, or all"},
	FIELD(quiet, T_BOOL, 0, "whether turns may be taken, and batches released, in one call"),
	{NULL, 0, 0, 0, NULL},
};

static PyObject *core_receivers(PyObject *self, void *unused)
{
	struct core *k = (struct core *)self;

	(void)unused;
	return core_name(k) ? NULL : Py_NewRef(k->receivers);
}

static PyGetSetDef core_getset[] = {
	{"receivers", core_receivers, NULL, "whose each run of the last turn is", NULL},
	{"owned", core_owned, NULL, "whether the calling thread made it", NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot core_slots[] = {
	{Py_tp_doc, "A ring, as far as its turns need no decision."},
	{Py_tp_new, core_new},
	{Py_tp_dealloc, core_dealloc},
	{Py_tp_traverse, core_traverse},
	{Py_tp_clear, core_clear},
	{Py_tp_methods, core_methods},
	{Py_tp_members, core_members},
	{Py_tp_getset, core_getset},
	{0, NULL},
};

PyType_Spec core_spec = {
	.name = "pyzcrx._lease.Core",
	.basicsize = sizeof(struct core),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
	.slots = core_slots,
};
