// SPDX-License-Identifier: MIT
/* What every request of the shim is prepared by. */
#include <errno.h>

#include "internal.h"

bool prepared(const struct pz_ring *ring, uint8_t opcode, uint64_t token)
{
	const struct io_uring_sq *sq = &ring->uring.sq;
	const struct io_uring_sqe *last = &sq->sqes[(sq->sqe_tail - 1) & sq->ring_mask];

	return sq->sqe_head != sq->sqe_tail && last->opcode == opcode && last->user_data == token;
}

int get_sqe(struct pz_ring *ring, struct io_uring_sqe **sqe)
{
	int ret;

	if (!usable(ring))
		return -EBADF;
	*sqe = io_uring_get_sqe(&ring->uring);
	if (*sqe)
		return 0;
	ret = io_uring_submit(&ring->uring);
	if (ret < 0)
		return ret;
	*sqe = io_uring_get_sqe(&ring->uring);
	return *sqe ? 0 : -EAGAIN;
}
