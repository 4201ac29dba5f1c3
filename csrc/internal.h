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

/* Whether it was initialised and has not ended: its queues lie in memory. */
static inline bool usable(const struct pz_ring *ring)
{
	return ring->uring.sq.sqes;
}

#endif
