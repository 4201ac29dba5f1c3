// SPDX-License-Identifier: MIT
/*
 * The roster: requests by the slot that their token carries, so that a run of completions
 * finds its own by an index.  A slot is a request's as long as that exists; its number
 * counts up with each, so no token is used twice.  A slot whose numbers are used up rests.
 *
 * Receivers keep the roster, without a reference that the garbage collector would have to
 * know of; it holds one to each Receiver that is armed, and none to the others.
 */
#include "roster.h"

#define SLOTS		(1u << PZ_TOKEN_REQUEST_BITS)
#define GENERATIONS	(1u << (PZ_TOKEN_IFQ_SHIFT - PZ_TOKEN_REQUEST_BITS))
#define NO_SLOT		UINT32_MAX

struct roster *roster_new(void)
{
	struct roster *r = PyMem_Calloc(1, sizeof(*r));

	if (!r)
		return (struct roster *)PyErr_NoMemory();
	r->free = NO_SLOT;
	r->users = 1;
	return r;
}

void roster_put(struct roster *r)
{
	if (--r->users)
		return;
	PyMem_Free(r->entries);
	PyMem_Free(r);
}

void roster_clear(struct roster *r)
{
	uint32_t i;

	for (i = 0; i < r->n; i++)
		Py_CLEAR(r->entries[i].armed);
}

int roster_traverse(struct roster *r, visitproc visit, void *arg)
{
	uint32_t i;

	for (i = 0; i < r->n; i++)
		Py_VISIT((PyObject *)r->entries[i].armed);
	return 0;
}

static int roster_grow(struct roster *r)
{
	uint32_t room = r->room ? 2 * r->room : 16;
	struct entry *entries;

	if (r->room == SLOTS) {
		PyErr_Format(PyExc_OverflowError, "a ring has room for %u requests", SLOTS);
		return -1;
	}
	entries = PyMem_Realloc(r->entries, room * sizeof(*entries));
	if (!entries) {
		PyErr_NoMemory();
		return -1;
	}
	r->entries = entries;
	r->room = room;
	return 0;
}

int roster_enlist(struct roster *r, struct receiver *receiver, int ifq)
{
	uint32_t slot = r->free;
	struct entry *e;

	if (receiver->roster || ifq < 0 || ifq > PZ_TOKEN_IFQ_MASK) {
		PyErr_SetString(PyExc_ValueError, "it has a token, or there is no such ifq");
		return -1;
	}
	if (slot == NO_SLOT) {
		if (r->n == r->room && roster_grow(r))
			return -1;
		slot = r->n++;
		r->entries[slot] = (struct entry){ .next = NO_SLOT };
	} else {
		r->free = r->entries[slot].next;
	}
	e = &r->entries[slot];
	e->token = PZ_TOKEN_RECEIVE | (uint64_t)ifq << PZ_TOKEN_IFQ_SHIFT |
		   (uint64_t)e->generation << PZ_TOKEN_REQUEST_BITS | slot;
	e->owner = receiver;
	r->users++;
	receiver->roster = r;
	receiver->token = e->token;
	return 0;
}

void roster_leave(struct receiver *receiver)
{
	struct roster *r = receiver->roster;
	struct entry *e = roster_entry(r, receiver->token);

	e->token = 0;
	e->owner = NULL;
	if (++e->generation < GENERATIONS) {
		e->next = r->free;
		r->free = e - r->entries;
	}
	receiver->roster = NULL;
	roster_put(r);
}

int roster_set_armed(struct roster *r, struct receiver *receiver, int armed)
{
	struct entry *e = receiver->roster == r ? roster_entry(r, receiver->token) : NULL;

	if (!e) {
		PyErr_SetString(PyExc_ValueError, "it is of no ring, or of another one");
		return -1;
	}
	if (armed && !e->armed) {
		Py_INCREF((PyObject *)receiver);
		e->armed = receiver;
	} else if (!armed) {
		Py_CLEAR(e->armed);
	}
	return 0;
}

struct receiver *roster_owner(const struct roster *r, uint64_t token)
{
	const struct entry *e = roster_entry(r, token);

	/* One that is dying may still be here: nobody gets hold of it again. */
	return e && e->owner && Py_REFCNT((PyObject *)e->owner) > 0 ? e->owner : NULL;
}

PyObject *roster_owners(const struct roster *r, int ifq)
{
	PyObject *owners = PyList_New(0);
	uint32_t i;

	for (i = 0; owners && i < r->n; i++) {
		struct receiver *owner = roster_owner(r, r->entries[i].token);

		if (!owner || ((owner->token >> PZ_TOKEN_IFQ_SHIFT) & PZ_TOKEN_IFQ_MASK) != (uint64_t)ifq)
			continue;
		if (PyList_Append(owners, (PyObject *)owner))
			Py_CLEAR(owners);
	}
	return owners;
}
