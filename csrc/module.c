// SPDX-License-Identifier: MIT
/* pyzcrx._lease: its types, put together.  What they are: lease.c. */
#include "lease.h"

#include "shim.h"

PyTypeObject *account_type, *span_type, *pin_type, *lease_type, *data_type, *queue_type,
	     *progress_type, *receiver_type, *descriptor_type, *shared_type, *refill_ring_type,
	     *turn_type, *pace_type, *core_type, *batch_type, *runs_type, *run_lease_type,
	     *pieces_type, *inbox_type;

static PyTypeObject *add_type(PyObject *m, const char *name, PyType_Spec *spec,
			      PyTypeObject *base)
{
	PyObject *type = PyType_FromSpecWithBases(spec, (PyObject *)base);

	if (!type || PyModule_AddObjectRef(m, name, type))
		return NULL;
	return (PyTypeObject *)type;
}

static int add_types(PyObject *m)
{
	PyObject *names;
	int ret;

	account_type = add_type(m, "Account", &account_spec, NULL);
	span_type = account_type ? add_type(m, "Span", &span_spec, NULL) : NULL;
	pin_type = span_type ? add_type(m, "Pin", &pin_spec, NULL) : NULL;
	lease_type = pin_type ? add_type(m, "Lease", &lease_spec, span_type) : NULL;
	data_type = lease_type ? add_type(m, "Data", &data_spec, NULL) : NULL;
	queue_type = data_type ? add_type(m, "Queue", &queue_spec, NULL) : NULL;
	progress_type = queue_type ? add_type(m, "Progress", &progress_spec, NULL) : NULL;
	receiver_type = progress_type ? add_type(m, "Receiver", &receiver_spec, NULL) : NULL;
	descriptor_type = receiver_type ? add_type(m, "Descriptor", &descriptor_spec, NULL) : NULL;
	shared_type = descriptor_type ? add_type(m, "Shared", &shared_spec, NULL) : NULL;
	refill_ring_type = shared_type ? add_type(m, "RefillRing", &refill_ring_spec, NULL) :
					     NULL;
	turn_type = refill_ring_type ? add_type(m, "Turn", &turn_spec, NULL) : NULL;
	pace_type = turn_type ? add_type(m, "Pace", &pace_spec, NULL) : NULL;
	core_type = pace_type ? add_type(m, "Core", &core_spec, NULL) : NULL;
	batch_type = core_type ? add_type(m, "Batch", &batch_spec, NULL) : NULL;
	runs_type = batch_type ? add_type(m, "Runs", &runs_spec, NULL) : NULL;
	run_lease_type = runs_type ? add_type(m, "RunLease", &run_lease_spec, NULL) : NULL;
	pieces_type = run_lease_type ? add_type(m, "Pieces", &pieces_spec, NULL) : NULL;
	inbox_type = pieces_type ? add_type(m, "Inbox", &inbox_spec, pieces_type) : NULL;
	if (!inbox_type || !add_type(m, "Chunk", &chunk_spec, pieces_type) ||
	    !add_type(m, "ChunkFeed", &chunk_feed_spec, NULL) ||
	    !add_type(m, "Feed", &feed_spec, NULL) ||
	    !add_type(m, "Batches", &batches_spec, NULL) ||
	    !add_type(m, "Iovec", &iovec_spec, NULL))
		return -1;
	names = Py_BuildValue("(ss)", "request", "buffer");
	ret = names ? PyObject_SetAttrString((PyObject *)data_type, "__match_args__", names) : -1;
	Py_XDECREF(names);
	return ret;
}

PyDoc_STRVAR(gather_doc,
"gather(pieces, n)\n--\n\nThe first n bytes of a list of buffers, as bytes.");

PyDoc_STRVAR(gather_into_doc,
"gather_into(pieces, memory)\n--\n\nThe first bytes of a list of buffers, to fill memory.");

PyDoc_STRVAR(close_descriptors_doc,
"close_descriptors()\n--\n\nClose every Descriptor: for a forked child, which uses none.");

PyDoc_STRVAR(expand_doc,
"expand(pieces)\n--\n\n"
"Have each RunLease in a list become the Leases of its entries, in its place.");

static PyMethodDef functions[] = {
	{"gather", gather_bytes, METH_VARARGS, gather_doc},
	{"gather_into", gather_into, METH_VARARGS, gather_into_doc},
	{"expand", run_leases_expand, METH_O, expand_doc},
	{"close_descriptors", descriptors_close, METH_NOARGS, close_descriptors_doc},
	{NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
	PyModuleDef_HEAD_INIT,
	.m_name = "_lease",
	.m_doc = "Memory that knows who looks at it.",
	.m_size = -1,
	.m_methods = functions,
};

PyMODINIT_FUNC PyInit__lease(void);

PyMODINIT_FUNC PyInit__lease(void)
{
	PyObject *m = PyModule_Create(&module);

	if (m && (add_types(m) ||
		  PyModule_AddObject(m, "TAKEN", PyLong_FromUnsignedLongLong(PZ_TAKEN)) ||
		  PyModule_AddObject(m, "MOST_ARM_BYTES",
				     PyLong_FromUnsignedLongLong(MOST_ARM_BYTES)))) {
		Py_DECREF(m);
		return NULL;
	}
	return m;
}
