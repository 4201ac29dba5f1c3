// SPDX-License-Identifier: MIT
/*
 * Descriptor: a file descriptor of our own for a file that somebody else opened.
 *
 * The number of a socket that its owner closes is soon the number of another
 * connection, so no request keeps a number that is not its own.  A duplicate
 * names the same file for as long as it is open.
 *
 * Every live Descriptor is in one list, but for those to be inherited, so that a
 * forked child can close them all: it must not keep the parent's connections open.
 */
#include "lease.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

static struct descriptor *all;

/* Whether the number still names the file that it did. */
static int descriptor_ours(const struct descriptor *d)
{
	struct stat now;

	return !d->shown || (!fstat(d->number, &now) && now.st_dev == d->device &&
			     now.st_ino == d->inode);
}

static void descriptor_shut(struct descriptor *d)
{
	if (d->number < 0)
		return;
	if (descriptor_ours(d))
		close(d->number);
	d->number = -1;
	if (!d->link)
		return;
	*d->link = d->next;
	if (d->next)
		d->next->link = d->link;
}

static void descriptor_link(struct descriptor *d)
{
	d->next = all;
	d->link = &all;
	if (all)
		all->link = &d->next;
	all = d;
}

/* Nearly all are made of a number alone, one for each request. */
static int parsed(PyObject *args, PyObject *kwargs, int *number, int *adopt, int *inherit)
{
	static char *names[] = {"number", "adopt", "inherit", NULL};

	if (kwargs || PyTuple_Size(args) != 1)
		return PyArg_ParseTupleAndKeywords(args, kwargs, "i|pp:Descriptor", names, number,
						   adopt, inherit);
	return PyArg_ParseTuple(args, "i:Descriptor", number);
}

static PyObject *descriptor_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
	struct descriptor *d;
	int number, adopt = 0, inherit = 0;
	struct stat status;

	if (!parsed(args, kwargs, &number, &adopt, &inherit))
		return NULL;
	d = (struct descriptor *)alloc(type, 0);
	if (!d)
		return NULL;
	d->number = adopt ? number : fcntl(number, F_DUPFD_CLOEXEC, 0);
	d->shown = adopt;
	if (d->number < 0 || (adopt && fstat(number, &status))) {
		d->number = -1;
		PyErr_SetFromErrno(PyExc_OSError);
		Py_DECREF((PyObject *)d);
		return NULL;
	}
	if (adopt) {
		d->device = status.st_dev;
		d->inode = status.st_ino;
	}
	if (!inherit)
		descriptor_link(d);
	return (PyObject *)d;
}

PyObject *descriptor_dup(int number)
{
	return PyObject_CallFunction((PyObject *)descriptor_type, "i", number);
}

int descriptor_number(const PyObject *self)
{
	return ((const struct descriptor *)self)->number;
}

static void descriptor_dealloc(PyObject *self)
{
	PyTypeObject *type = Py_TYPE(self);
	freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);

	descriptor_shut((struct descriptor *)self);
	release(self);
	Py_DECREF(type);
}

PyDoc_STRVAR(close_doc, "close()\n--\n\nClose it. Idempotent.");

static PyObject *descriptor_close(PyObject *self, PyObject *unused)
{
	(void)unused;
	descriptor_shut((struct descriptor *)self);
	Py_RETURN_NONE;
}

PyObject *descriptors_close(PyObject *module, PyObject *unused)
{
	(void)module;
	(void)unused;
	while (all)
		descriptor_shut(all);
	Py_RETURN_NONE;
}

static PyObject *descriptor_file(PyObject *self, void *unused)
{
	struct stat status;

	(void)unused;
	if (fstat(((struct descriptor *)self)->number, &status))
		return PyErr_SetFromErrno(PyExc_OSError);
	return Py_BuildValue("KK", (unsigned long long)status.st_dev,
			     (unsigned long long)status.st_ino);
}

static PyMethodDef descriptor_methods[] = {
	{"close", descriptor_close, METH_NOARGS, close_doc},
	{NULL, NULL, 0, NULL},
};

static PyMemberDef descriptor_members[] = {
	{"number", T_INT, offsetof(struct descriptor, number), READONLY, "-1 once it is closed"},
	{NULL, 0, 0, 0, NULL},
};

static PyGetSetDef descriptor_getset[] = {
	{"file", descriptor_file, NULL, "device and inode of what it names", NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot descriptor_slots[] = {
	{Py_tp_doc, "Descriptor(number, adopt=False, inherit=False)\n\n"
		    "A close-on-exec duplicate of a file descriptor, or that descriptor itself,\n"
		    "which others may know. Closed with the object, unless another file has\n"
		    "the number by then. inherit: a forked child keeps it."},
	{Py_tp_new, descriptor_new},
	{Py_tp_dealloc, descriptor_dealloc},
	{Py_tp_methods, descriptor_methods},
	{Py_tp_members, descriptor_members},
	{Py_tp_getset, descriptor_getset},
	{0, NULL},
};

PyType_Spec descriptor_spec = {
	.name = "pyzcrx._lease.Descriptor",
	.basicsize = sizeof(struct descriptor),
	.flags = Py_TPFLAGS_DEFAULT,
	.slots = descriptor_slots,
};
