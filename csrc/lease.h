/* SPDX-License-Identifier: MIT */
/* The types of pyzcrx._lease, as their files share them. */
#ifndef PYZCRX_LEASE_H
#define PYZCRX_LEASE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <structmember.h>

#define HISTOGRAM	48	/* bucket i: held for [2^i, 2^(i+1)) ns */

struct pz_rq;

struct account {
	PyObject_HEAD
	uint64_t *offs;			/* returned, not yet in the refill queue */
	Py_ssize_t start, count, room;
	Py_ssize_t leased;		/* out with the user */
	Py_ssize_t buffers;		/* of those, as leases of their own */
	Py_ssize_t copies;		/* leases on copies: their references are back */
	Py_ssize_t copies_bytes;
	Py_ssize_t copy_above;		/* more out than this: copy */
	Py_ssize_t copies_limit;	/* but not more bytes than this */
	struct pz_rq *rq;		/* where they go; lives as long as anybody pushes */
	unsigned long long taken, given, forgotten, pushed;
	unsigned long long bytes;	/* of what was taken */
	unsigned long long copied, copied_bytes;	/* ever */
	unsigned long long now_ns, held_max_ns;
	unsigned long long histogram[HISTOGRAM];
	struct lease *oldest, *newest;	/* every lease that lives, by age */
	char poison;
};

struct span {
	PyObject_HEAD
	char *at;
	Py_ssize_t length, exports;
	Py_ssize_t leases;		/* on bytes of it, out with the user; no copies */
	PyObject *memory;		/* the Span this one lies in, or NULL */
	PyObject *weakrefs;
	char readonly;
	/* of a lease, here to save room: */
	char copied;			/* it lies on a copy of our own */
	char pinned;			/* a view lives; the pin holds a reference to us */
	char released;			/* by the user; without account it is back as well */
};

struct lease {
	struct span span;
	struct account *account;	/* NULL before it is out and once given back */
	struct lease *older, *newer;
	uint64_t off, token;
	unsigned long long since_ns;
	PyObject pin;			/* what its views refer to, while pinned */
	char *shown;			/* a copy for consumers that may keep the address, or NULL */
};

extern PyType_Spec account_spec, span_spec, pin_spec, lease_spec, data_spec, queue_spec, feed_spec,
		   progress_spec, receiver_spec;
extern PyTypeObject *account_type, *span_type, *pin_type, *lease_type, *data_type, *queue_type,
		    *progress_type, *receiver_type;

/* -1 with an exception */
static inline int span_init(struct span *s, unsigned long long address, Py_ssize_t length,
			    int readonly)
{
	if (!address || length < 0) {
		PyErr_SetString(PyExc_ValueError, "a span needs an address and a length >= 0");
		return -1;
	}
	s->at = (char *)(uintptr_t)address;
	s->length = length;
	s->readonly = readonly != 0;
	return 0;
}

void span_dealloc(PyObject *self);

/* A reference came back. -1 without memory for it; no exception is set. */
int account_put(struct account *a, uint64_t off);
/* n places, but for those that are all ones, which they become. -1 without memory for them. */
int account_give_back(struct account *a, uint64_t *off, Py_ssize_t n, unsigned long long since);
/* n references were out since then. */
void account_held(struct account *a, unsigned long long since, Py_ssize_t n);

/* A lease of that type, not yet out: nothing goes back if it dies. */
struct lease *lease_alloc(PyTypeObject *type, struct span *memory, uint64_t address,
			  Py_ssize_t length, uint64_t off, uint64_t token);
/* It is out now, or its bytes were copied and the reference is back. */
int lease_commit(struct lease *l, struct account *a);

/* The reference goes back. -1 without memory to note it; no exception is set. */
int lease_give_back(struct lease *l);
/* Py_bf_getbuffer of a Lease */
int lease_getbuffer(PyObject *self, Py_buffer *view, int flags);

/* Account.lease_run() */
PyObject *account_lease_run(PyObject *self, PyObject *args);

/* take(), give_back() */
PyObject *turn_take(PyObject *module, PyObject *args);
PyObject *turn_give_back(PyObject *module, PyObject *args);

/* The event that this lease arrived for that request. */
PyObject *data_make(PyObject *request, PyObject *buffer);

#endif
