// SPDX-License-Identifier: MIT
/*
 * How a lease is viewed.
 *
 * What views of a lease refer to is its pin, an object within it that lives as
 * long as any of them.  So memoryview.release() may succeed while slices or numpy
 * arrays of the view live: those hold the pin, and so does a consumer that ends its
 * export at once but keeps Py_buffer.obj (torch.frombuffer, or numpy.ndarray(buffer=)
 * of a memoryview).
 *
 * A consumer that keeps the lease itself instead (numpy.ndarray(buffer=) of a lease,
 * PyObject_AsReadBuffer) holds no pin, and cannot be told from one that is done with
 * the bytes.  Only an export in full (PyBUF_FULL_RO), as a memoryview takes it, shows
 * the bytes where they lie; any other shows a copy that lives as long as the lease.
 */
#include "lease.h"

#include <string.h>

static struct lease *lease_of(PyObject *pin)
{
	return (struct lease *)((char *)pin - offsetof(struct lease, pin));
}

/* A new reference. */
static PyObject *pin_get(struct lease *l)
{
	if (l->span.pinned) {
		Py_INCREF(&l->pin);
	} else {
		/* As PyObject_Init(), but for a reference to its type, which never goes. */
		Py_SET_REFCNT(&l->pin, 1);
		Py_SET_TYPE(&l->pin, pin_type);
		Py_INCREF((PyObject *)l);
		l->span.pinned = 1;
	}
	return &l->pin;
}

static void pin_dealloc(PyObject *pin)
{
	struct lease *l = lease_of(pin);

	/* Its memory is the lease's. */
	l->span.pinned = 0;
	if (l->account && l->span.released)
		(void)lease_give_back(l); /* without memory to note it: as the lease dies */
	Py_DECREF((PyObject *)l);
}

static int pin_getbuffer(PyObject *pin, Py_buffer *view, int flags)
{
	const struct span *s = &lease_of(pin)->span;

	return PyBuffer_FillInfo(view, pin, s->at, s->length, s->readonly, flags);
}

static PyType_Slot pin_slots[] = {
	{Py_tp_doc, "What the views of one Lease refer to; lives as long as any of them."},
	{Py_tp_dealloc, pin_dealloc},
	{Py_bf_getbuffer, pin_getbuffer},
	{0, NULL},
};

PyType_Spec pin_spec = {
	.name = "pyzcrx._lease.Pin",
	.basicsize = sizeof(PyObject),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
	.slots = pin_slots,
};

/* The copy for consumers that may keep us and the address; NULL with an exception. */
static char *lease_shown(struct lease *l)
{
	if (!l->shown) {
		l->shown = PyMem_Malloc(l->span.length);
		if (l->shown)
			memcpy(l->shown, l->span.at, l->span.length);
		else
			PyErr_NoMemory();
	}
	return l->shown;
}

int lease_getbuffer(PyObject *self, Py_buffer *view, int flags)
{
	struct lease *l = (struct lease *)self;
	PyObject *pin;
	int ret;

	if (!l->account || l->span.released) {
		view->obj = NULL;
		PyErr_SetString(PyExc_BufferError,
				"the buffer was released: its bytes are the kernel's again");
		return -1;
	}
	if (l->account->orphaned) {
		view->obj = NULL;
		return lease_refuse(self, 3);
	}
	if (((struct span *)l->span.memory)->unreadable)
		return span_refuse(view);
	pin = pin_get(l);
	ret = pin_getbuffer(pin, view, flags);
	Py_DECREF(pin);
	if (ret || (flags & PyBUF_FULL_RO) == PyBUF_FULL_RO)
		return ret;
	view->buf = lease_shown(l);
	if (view->buf)
		return 0;
	PyBuffer_Release(view);
	return -1;
}
