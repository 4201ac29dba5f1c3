// SPDX-License-Identifier: MIT
/*
 * RunLease: the entries of a run as one lease, for readers that want no object for each page
 * (a stream's chunks).  It counts as a lease on each of its entries, and becomes those when
 * somebody looks at the bytes: expand().
 *
 * It is a struct lease to the Account that lists it, and no Lease to Python: it has no bytes.
 */
#include "lease.h"

#include <string.h>

#include "shim.h"

struct run_lease {
	struct lease l;		/* length: of all entries; off: of the first */
	Py_ssize_t n, gone;	/* entries, and those before them that were dropped */
	uint64_t *all;		/* offsets of both, and as many lengths; NULL once it is released */
};

static uint64_t *offs_of(const struct run_lease *r)
{
	return r->all + r->gone;
}

static uint32_t *lengths_of(const struct run_lease *r)
{
	return (uint32_t *)(r->all + r->gone + r->n) + r->gone;
}

/*
 * Take over n entries: 1; 0 where one is not in that memory, or was taken (all ones name no area).
 * One pass without a branch: this is what a page costs.
 */
static int fill(struct run_lease *r, const struct span *memory, const uint64_t *off,
		const uint32_t *length, Py_ssize_t n)
{
	const uint64_t area = off[0] >> PZ_AREA_SHIFT << PZ_AREA_SHIFT, whole = memory->length;
	uint64_t *restrict offs = r->all;
	uint32_t *restrict lengths = (uint32_t *)(offs + n);
	uint64_t elsewhere = 0, beyond = 0, bytes = 0;
	Py_ssize_t i;

	for (i = 0; i < n; i++) {
		const uint64_t at = off[i] - area, part = length[i];

		elsewhere |= at;
		beyond |= whole - (at + part);	/* negative */
		bytes += part;
		offs[i] = off[i];
		lengths[i] = (uint32_t)part;
	}
	r->n = n;
	r->l.span.length = bytes;
	return !(elsewhere >> PZ_AREA_SHIFT || beyond >> 63);
}

PyObject *run_lease_new(struct span *memory, const uint64_t *off, const uint32_t *length,
			Py_ssize_t n, uint64_t token)
{
	struct run_lease *r = (struct run_lease *)lease_alloc(run_lease_type, memory,
							      (uintptr_t)memory->at, 0, off[0],
							      token);

	if (!r)
		return NULL;
	r->all = PyMem_Malloc(n * (sizeof(*off) + sizeof(*length)));
	if (!r->all)
		PyErr_NoMemory();
	if (r->all && fill(r, memory, off, length, n))
		return (PyObject *)r;
	Py_DECREF((PyObject *)r);
	return NULL;
}

Py_ssize_t run_lease_count(const PyObject *self)
{
	const struct run_lease *r = (const struct run_lease *)self;

	return r->all ? r->n : 0;
}

void run_lease_commit(PyObject *self, struct account *a)
{
	struct run_lease *r = (struct run_lease *)self;

	a->buffers += r->n;
	((struct span *)r->l.span.memory)->leases += r->n;
	lease_link(&r->l, a);
}

/* Its entries are no longer its own. */
static void forget_entries(struct run_lease *r)
{
	lease_unlink(&r->l);
	PyMem_Free(r->all);
	r->all = NULL;
}

/* It is on none of them any more, wherever they go. */
static void leave_counts(struct run_lease *r)
{
	r->l.account->buffers -= r->n;
	((struct span *)r->l.span.memory)->leases -= r->n;
	forget_entries(r);
}

static int run_lease_give_back(struct run_lease *r)
{
	if (account_return(r->l.account, offs_of(r), r->n, r->l.since_ns))
		return -1;
	leave_counts(r);
	return 0;
}

static void run_lease_dealloc(PyObject *self)
{
	struct run_lease *r = (struct run_lease *)self;

	if (r->l.account) {
		if (!r->l.span.released)
			r->l.account->forgotten += r->n;
		if (run_lease_give_back(r)) {
			/* No memory to note it: lost to the kernel until the ring goes. */
			r->l.account->leased -= r->n;
			leave_counts(r);
		}
	}
	PyMem_Free(r->all);
	span_dealloc(self);
}

PyDoc_STRVAR(let_go_doc,
"_let_go()\n--\n\nGive all entries back to the kernel; nothing happens the second time.");

void run_lease_let_go(PyObject *self)
{
	struct run_lease *r = (struct run_lease *)self;

	if (r->l.account)
		(void)run_lease_give_back(r);	/* without memory to note it: as it dies */
	r->l.span.released = 1;
}

static PyObject *let_go(PyObject *self, PyObject *unused)
{
	(void)unused;
	run_lease_let_go(self);
	Py_RETURN_NONE;
}

Py_ssize_t run_lease_fits(PyObject *self, Py_ssize_t most, Py_ssize_t *entries)
{
	struct run_lease *r = (struct run_lease *)self;
	const struct account *a = r->l.account;
	const uint32_t *length;
	Py_ssize_t i, bytes = 0;

	*entries = 0;
	if (!a || a->orphaned || ((struct span *)r->l.span.memory)->unreadable)
		return 0;
	if (r->l.span.length <= most) {
		*entries = -1;
		return r->l.span.length;
	}
	length = lengths_of(r);
	for (i = 0; i < r->n && bytes + (Py_ssize_t)length[i] <= most; i++)
		bytes += length[i];
	*entries = i;
	return bytes;
}

Py_ssize_t run_lease_copy(PyObject *self, Py_ssize_t n, char *to)
{
	struct run_lease *r = (struct run_lease *)self;
	const uint64_t *off = offs_of(r), in_area = ((uint64_t)1 << PZ_AREA_SHIFT) - 1;
	const char *memory = ((struct span *)r->l.span.memory)->at;
	const uint32_t *length = lengths_of(r);
	char *at = to;
	Py_ssize_t i;

	for (i = 0; i < (n < 0 ? r->n : n); i++) {
		memcpy(at, memory + (off[i] & in_area), length[i]);
		at += length[i];
	}
	return at - to;
}

int run_lease_drop(PyObject *self, Py_ssize_t n)
{
	struct run_lease *r = (struct run_lease *)self;
	struct account *a = r->l.account;
	Py_ssize_t i;

	if (account_return(a, offs_of(r), n, r->l.since_ns))
		return -1;
	a->buffers -= n;
	((struct span *)r->l.span.memory)->leases -= n;
	for (i = 0; i < n; i++)
		r->l.span.length -= lengths_of(r)[i];
	r->gone += n;
	r->n -= n;
	r->l.off = *offs_of(r);
	return 0;
}

/* A Lease for each entry, in the place of this one; NULL with an exception. */
static PyObject *leases_of(struct run_lease *r)
{
	struct account *a = r->l.account;
	struct span *memory = (struct span *)r->l.span.memory;
	const uint64_t in_area = ((uint64_t)1 << PZ_AREA_SHIFT) - 1;
	PyObject *list = PyList_New(a ? r->n : 0);
	Py_ssize_t i;

	if (!list || !a)
		return list;
	for (i = 0; i < r->n; i++) {
		uintptr_t at = (uintptr_t)memory->at + (offs_of(r)[i] & in_area);
		struct lease *l = lease_alloc((PyTypeObject *)a->lease_kind, memory, at,
					      lengths_of(r)[i], offs_of(r)[i], r->l.token);

		if (!l || PyList_SetItem(list, i, (PyObject *)l)) {
			Py_DECREF(list);
			return NULL;
		}
	}
	for (i = 0; i < r->n; i++)
		lease_link_before((struct lease *)PyList_GetItem(list, i), &r->l);
	forget_entries(r);
	r->l.span.released = 1;
	return list;
}

PyObject *run_leases_expand(PyObject *module, PyObject *list)
{
	Py_ssize_t i;

	(void)module;
	if (!PyList_Check(list))
		return PyErr_Format(PyExc_TypeError, "expand() takes a list");
	for (i = 0; i < PyList_Size(list); i++) {
		PyObject *item = PyList_GetItem(list, i), *leases;
		Py_ssize_t n;
		int ret;

		if (Py_TYPE(item) != run_lease_type)
			continue;
		leases = leases_of((struct run_lease *)item);
		if (!leases)
			return NULL;
		n = PyList_Size(leases);
		ret = PyList_SetSlice(list, i, i + 1, leases);
		Py_DECREF(leases);
		if (ret)
			return NULL;
		i += n - 1;
	}
	Py_RETURN_NONE;
}

static Py_ssize_t run_lease_length(PyObject *self)
{
	return ((struct run_lease *)self)->l.span.length;
}

static PyMethodDef run_lease_methods[] = {
	{"_let_go", let_go, METH_NOARGS, let_go_doc},
	{NULL, NULL, 0, NULL},
};

static PyMemberDef run_lease_members[] = {
	{"count", T_PYSSIZET, offsetof(struct run_lease, n), READONLY, "how many entries it has"},
	{"off", T_ULONGLONG, offsetof(struct run_lease, l.off), READONLY,
	 "the first one's offset, area token included"},
	{"since_ns", T_ULONGLONG, offsetof(struct run_lease, l.since_ns), READONLY,
	 "the ring's clock when it was handed out"},
	{"token", T_ULONGLONG, offsetof(struct run_lease, l.token), READONLY,
	 "the request that brought it"},
	{"copied", T_BOOL, offsetof(struct run_lease, l.span.copied), READONLY,
	 "False: its bytes lie in the area"},
	{"released", T_BOOL, offsetof(struct run_lease, l.span.released), READONLY,
	 "whether it was given back, or became a Lease for each entry"},
	{NULL, 0, 0, 0, NULL},
};

static PyType_Slot run_lease_slots[] = {
	{Py_tp_doc, "The entries of a run, leased together; len() is in bytes."},
	{Py_tp_dealloc, run_lease_dealloc},
	{Py_tp_methods, run_lease_methods},
	{Py_tp_members, run_lease_members},
	{Py_sq_length, run_lease_length},
	{0, NULL},
};

PyType_Spec run_lease_spec = {
	.name = "pyzcrx._lease.RunLease",
	.basicsize = sizeof(struct run_lease),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
	.slots = run_lease_slots,
};
