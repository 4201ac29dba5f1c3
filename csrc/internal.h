/* SPDX-License-Identifier: MIT */
/* What the shim's own files share and Python does not see. */
#ifndef PYZCRX_INTERNAL_H
#define PYZCRX_INTERNAL_H

#include <stdbool.h>
#include <liburing.h>

#include "shim.h"

struct pz_ring {
	struct io_uring uring;
};

/*
 * Whether the SQE prepared last is this very request and was not submitted yet.
 * A signal handler may raise between a call of the shim and the note in Python
 * that it was made; the call is then repeated, and must count once.
 */
bool prepared(const struct pz_ring *ring, uint8_t opcode, uint64_t token);

/* An SQE, if need be after submitting those that fill the SQ. 0 or -errno. */
int get_sqe(struct pz_ring *ring, struct io_uring_sqe **sqe);

/* Whether it was initialised and has not ended: its queues lie in memory. */
static inline bool usable(const struct pz_ring *ring)
{
	return ring->uring.sq.sqes;
}

#endif
