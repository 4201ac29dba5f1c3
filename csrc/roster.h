/* SPDX-License-Identifier: MIT */
/* How a run of completions finds its request (roster.c): inline, since each run does. */
#ifndef PYZCRX_ROSTER_H
#define PYZCRX_ROSTER_H

#include "lease.h"

#include "shim.h"

struct entry {
	uint64_t token;			/* of the request that has the slot */
	struct receiver *owner;		/* that request, borrowed: it leaves when it dies; or NULL */
	struct receiver *armed;		/* that request, while the kernel holds it */
	uint32_t generation;		/* how many requests have had it */
	uint32_t next;			/* of the free ones */
};

struct roster {
	struct entry *entries;
	uint32_t n, room, free;
	Py_ssize_t users;
};

static inline uint32_t roster_slot(uint64_t token)
{
	return token & ((1u << PZ_TOKEN_REQUEST_BITS) - 1);
}

/* NULL if the token is no request's. */
static inline struct entry *roster_entry(const struct roster *r, uint64_t token)
{
	const uint32_t slot = roster_slot(token);

	return slot < r->n && r->entries[slot].token == token ? &r->entries[slot] : NULL;
}

/* Borrowed; NULL if no request that is armed has that token. */
static inline struct receiver *roster_find(const struct roster *r, uint64_t token)
{
	const struct entry *e = roster_entry(r, token);

	return e ? e->armed : NULL;
}

#endif
