// SPDX-License-Identifier: MIT
#include <liburing/barrier.h>

#include "shim.h"

/*
 * The kernel stores the head with release after it has read the entries below
 * it (zcrx_parse_rq, io_zcrx_ring_refill): acquire it before reusing a slot.
 */
uint32_t pz_rq_pending(const struct pz_rq *rq)
{
	return *rq->tail - io_uring_smp_load_acquire(rq->head);
}

uint32_t pz_rq_push(struct pz_rq *rq, const uint64_t *offs, uint32_t n)
{
	uint32_t pending = pz_rq_pending(rq);
	uint32_t tail = *rq->tail;
	uint32_t room, i;

	/* A head beyond the tail is not the kernel's doing: push nothing. */
	room = pending <= rq->entries ? rq->entries - pending : 0;
	if (n > room)
		n = room;
	for (i = 0; i < n; i++) {
		struct pz_rqe *rqe = &rq->rqes[(tail + i) & (rq->entries - 1)];

		rqe->off = offs[i];
		rqe->len = 0;
		rqe->pad = 0;
	}
	/* Publishes the entries: pairs with the kernel's acquire of the tail. */
	io_uring_smp_store_release(rq->tail, tail + n);
	return n;
}
