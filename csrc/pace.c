// SPDX-License-Identifier: MIT
/* Pace: how long the next turn gathers, from what the turns before brought (_ring/pace.py). */
#include <time.h>

#include "lease.h"

static unsigned long long now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return 1000000ULL * now.tv_sec + now.tv_nsec / 1000;
}

/* Half as long as much has been arriving: what comes last waits no longer than that. */
static void gather_longer(struct pace *p)
{
	unsigned long long now = now_us(), longer = p->first_us;

	if (!p->us)
		p->busy_since_us = now;
	else
		longer = (now - p->busy_since_us) / 2;
	if (longer < 2ULL * p->us)
		longer = 2ULL * p->us;
	p->us = longer < p->most_us ? longer : p->most_us;
}

void pace_brought(struct pace *p, unsigned long long buffers, unsigned long long bytes)
{
	if (buffers < p->enough) {
		if (buffers < p->busy && bytes < p->busy_bytes)
			p->us = 0;
		else if (p->us < p->most_us)
			gather_longer(p);
	} else if (buffers > 2ULL * p->enough) {
		p->us /= 2;
		p->busy_since_us = now_us();
	}
}

PyDoc_STRVAR(brought_doc, "brought(buffers, size_bytes)\n--\n\nA turn brought so much.");

static PyObject *pace_method_brought(PyObject *self, PyObject *args)
{
	unsigned long long buffers, bytes;

	if (!PyArg_ParseTuple(args, "KK:brought", &buffers, &bytes))
		return NULL;
	pace_brought((struct pace *)self, buffers, bytes);
	Py_RETURN_NONE;
}

static void pace_dealloc(PyObject *self)
{
	PyTypeObject *type = Py_TYPE(self);
	freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);

	release(self);
	Py_DECREF(type);
}

static PyMethodDef pace_methods[] = {
	{"brought", pace_method_brought, METH_VARARGS, brought_doc},
	{NULL, NULL, 0, NULL},
};

#define FIELD(name, doc) {#name, T_UINT, offsetof(struct pace, name), 0, doc}

static PyMemberDef pace_members[] = {
	FIELD(us, "how many microseconds the next turn gathers; 0: not at all"),
	FIELD(enough, "buffers that the next turn waits for, while it gathers"),
	FIELD(most_us, "the most that us becomes"),
	FIELD(first_us, "what us becomes after 0"),
	FIELD(busy, "buffers of a turn from which on the next one gathers"),
	FIELD(busy_bytes, "or bytes"),
	{NULL, 0, 0, 0, NULL},
};

static PyType_Slot pace_slots[] = {
	{Py_tp_doc, "How much to gather and for how long."},
	{Py_tp_dealloc, pace_dealloc},
	{Py_tp_methods, pace_methods},
	{Py_tp_members, pace_members},
	{0, NULL},
};

PyType_Spec pace_spec = {
	.name = "pyzcrx._lease.Pace",
	.basicsize = sizeof(struct pace),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
	.slots = pace_slots,
};
