/* SPDX-License-Identifier: MIT */
/* A wait that gathers as a busy turn of pyzcrx does (pyzcrx/_ring/pace.py). */
#ifndef PYZCRX_BENCH_GATHER_H
#define PYZCRX_BENCH_GATHER_H

#include <liburing.h>

#define GATHER_NR	1024

/*
 * Submit, then wait for GATHER_NR completions, after us microseconds for one; 0 us: for one
 * from the start. Gives what io_uring_submit_and_wait() does.
 */
static inline int submit_and_gather(struct io_uring *ring, unsigned int us)
{
	struct __kernel_timespec for_ever = { .tv_sec = 1 << 30 };
	struct io_uring_cqe *cqe;

	if (!us)
		return io_uring_submit_and_wait(ring, 1);
	return io_uring_submit_and_wait_min_timeout(ring, &cqe, GATHER_NR, &for_ever, us, NULL);
}

#endif
