// SPDX-License-Identifier: MIT
#include <errno.h>

#include "internal.h"

/* The words of a bare ring's header; the entries follow at ENTRIES_AT, as the kernel's do. */
struct header {
	unsigned sq_tail, sq_flags, sq_dropped;
	unsigned cq_head, cq_tail, cq_overflow;
};

#define ENTRIES_AT	1024

int pz_ring_bare(struct pz_ring *ring, uint32_t sq_entries, uint32_t cq_entries,
		 uint64_t memory, size_t bytes)
{
	char *at = (char *)(uintptr_t)memory;
	size_t sqes = sq_entries * sizeof(struct io_uring_sqe);
	struct header *header;

	if (!sq_entries || (sq_entries & (sq_entries - 1)) || !cq_entries ||
	    (cq_entries & (cq_entries - 1)) || bytes < pz_ring_bytes(sq_entries, cq_entries))
		return -EINVAL;
	sqes = (sqes + 4095) & ~(size_t)4095;
	header = (struct header *)(at + sqes);
	ring->uring = (struct io_uring){
		/* Nobody reads the SQ: its head is its tail, so it is never full. */
		.sq = {
			.khead = &header->sq_tail,
			.ktail = &header->sq_tail,
			.kflags = &header->sq_flags,
			.kdropped = &header->sq_dropped,
			.ring_mask = sq_entries - 1,
			.ring_entries = sq_entries,
			.sqes = (struct io_uring_sqe *)at,
		},
		.cq = {
			.khead = &header->cq_head,
			.ktail = &header->cq_tail,
			.koverflow = &header->cq_overflow,
			.ring_mask = cq_entries - 1,
			.ring_entries = cq_entries,
			.cqes = (struct io_uring_cqe *)(at + sqes + ENTRIES_AT),
		},
		.flags = IORING_SETUP_CQE32,
		.ring_fd = -1,
		.enter_ring_fd = -1,
	};
	return 0;
}
