// SPDX-License-Identifier: MIT
/* pyzcrx._lease: its types, put together.  What they are: lease.c. */
#include "lease.h"

PyTypeObject *account_type, *span_type, *lease_type, *data_type, *queue_type;

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
	lease_type = span_type ? add_type(m, "Lease", &lease_spec, span_type) : NULL;
	data_type = lease_type ? add_type(m, "Data", &data_spec, NULL) : NULL;
	queue_type = data_type ? add_type(m, "Queue", &queue_spec, NULL) : NULL;
	if (!queue_type || !add_type(m, "Feed", &feed_spec, NULL))
		return -1;
	names = Py_BuildValue("(ss)", "request", "buffer");
	ret = names ? PyObject_SetAttrString((PyObject *)data_type, "__match_args__", names) : -1;
	Py_XDECREF(names);
	return ret;
}

static struct PyModuleDef module = {
	PyModuleDef_HEAD_INIT,
	.m_name = "_lease",
	.m_doc = "Memory that knows who looks at it.",
	.m_size = -1,
};

PyMODINIT_FUNC PyInit__lease(void);

PyMODINIT_FUNC PyInit__lease(void)
{
	PyObject *m = PyModule_Create(&module);

	if (m && add_types(m)) {
		Py_DECREF(m);
		return NULL;
	}
	return m;
}
