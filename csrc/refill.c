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

uint32_t pz_rq_room(const struct pz_rq *rq)
{
	uint32_t pending = pz_rq_pending(rq);

	/* A head beyond the tail is not the kernel's doing: push nothing. */
	return pending <= rq->entries ? rq->entries - pending : 0;
}

void pz_rq_publish(struct pz_rq *rq, uint32_t n)
{
	/* Pairs with the kernel's acquire of the tail. */
	io_uring_smp_store_release(rq->tail, *rq->tail + n);
}

uint32_t pz_rq_push(struct pz_rq *rq, const uint64_t *offs, uint32_t n)
{
	/* In locals, since a store to an entry might alias anything else. */
	const uint32_t room = pz_rq_room(rq), tail = *rq->tail, last = rq->entries - 1;
	struct pz_rqe *restrict rqes = rq->rqes;
	uint32_t i;

	if (n > room)
		n = room;
	for (i = 0; i < n; i++)
		rqes[(tail + i) & last] = (struct pz_rqe){ .off = offs[i] };
	pz_rq_publish(rq, n);
	return n;
}
