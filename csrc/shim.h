/* SPDX-License-Identifier: MIT */
/*
 * The shim between liburing and Python: barriers, batch drain, rqe push and
 * nothing that has an opinion.  Functions return -errno, keep no state that
 * Python cannot see, and their contracts stand in cdef/.
 */
#ifndef PYZCRX_SHIM_H
#define PYZCRX_SHIM_H

#include <stddef.h>
#include <stdint.h>

#include "cdef/uapi.h"
#include "cdef/memory.h"
#include "cdef/ring.h"
#include "cdef/readiness.h"
#include "cdef/requests.h"
#include "cdef/send.h"
#include "refill.h"
#include "cdef/privilege.h"

/* Tokens with this bit belong to RECV_ZC requests. */
#define PZ_TOKEN_RECEIVE	((uint64_t)1 << 63)
/* Behind that: of which ifq of its ring. */
#define PZ_TOKEN_SLOT_SHIFT	48
#define PZ_TOKEN_SLOT_MASK	0x7FFF

/* For who writes the entries behind the tail himself: how many, and once it is done. */
uint32_t pz_rq_room(const struct pz_rq *rq);

void pz_rq_publish(struct pz_rq *rq, uint32_t n);

#endif
