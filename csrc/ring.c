// SPDX-License-Identifier: MIT
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <liburing/barrier.h>

#include "internal.h"

#define NS_PER_S	1000000000LL
#define FOR_EVER_NS	(INT64_MAX / 4)

/* Nothing of its memory is known any more: see usable(). */
void ring_forget(struct pz_ring *ring)
{
	memset(&ring->uring, 0, sizeof(ring->uring));
	ring->uring.ring_fd = ring->uring.enter_ring_fd = -1;
}

struct pz_ring *pz_ring_new(void)
{
	struct pz_ring *ring = calloc(1, sizeof(*ring));

	if (ring)
		ring_forget(ring);
	return ring;
}

void pz_ring_free(struct pz_ring *ring)
{
	free(ring);
}

static size_t page_align(size_t bytes)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	return (bytes + page - 1) / page * page;
}

static uint32_t power_of_two(uint32_t n)
{
	uint32_t p = 1;

	while (p < n && p < 1U << 31)
		p <<= 1;
	return p;
}

size_t pz_ring_bytes(uint32_t sq_entries, uint32_t cq_entries)
{
	size_t sq = power_of_two(sq_entries), cq = power_of_two(cq_entries);

	/* SQEs, then in pages of their own: header, 32-byte CQEs, SQ array. */
	return page_align(sq * sizeof(struct io_uring_sqe)) +
	       page_align(1024 + cq * 32 + sq * sizeof(uint32_t));
}

int pz_ring_init(struct pz_ring *ring, uint32_t sq_entries, uint32_t cq_entries,
		 uint32_t flags, uint64_t memory, size_t bytes)
{
	struct io_uring_params params = {
		.flags = flags | IORING_SETUP_CQSIZE,
		.cq_entries = cq_entries,
	};
	int ret;

	if (!ring)
		return -ENOMEM;
	ret = io_uring_queue_init_mem(sq_entries, &ring->uring, &params,
				      (void *)memory, bytes);
	if (ret < 0) {
		ring_forget(ring);
		return ret;
	}
	return 0;
}

void pz_ring_exit(struct pz_ring *ring)
{
	if (ring->uring.ring_fd >= 0)
		io_uring_queue_exit(&ring->uring);
	ring_forget(ring);
}

int pz_ring_fd(const struct pz_ring *ring)
{
	return ring->uring.ring_fd;
}

void pz_ring_cq(const struct pz_ring *ring, struct pz_cq *cq)
{
	const struct io_uring_cq *c = &ring->uring.cq;

	cq->cqes = (uint64_t)(uintptr_t)c->cqes;
	cq->head = (uint64_t)(uintptr_t)c->khead;
	cq->tail = (uint64_t)(uintptr_t)c->ktail;
	cq->flags = (uint64_t)(uintptr_t)ring->uring.sq.kflags;
	cq->entries = c->ring_entries;
}

static bool overflowed(const struct pz_ring *ring)
{
	return IO_URING_READ_ONCE(*ring->uring.sq.kflags) & IORING_SQ_CQ_OVERFLOW;
}

static bool brings_bytes(const struct io_uring_cqe *cqe)
{
	return (cqe->flags & IORING_CQE_F_MORE) && cqe->res > 0;
}

static bool is_data(const struct io_uring_cqe *cqe)
{
	return (cqe->user_data & PZ_TOKEN_RECEIVE) && brings_bytes(cqe);
}

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/*
 * The data completion at head and those that follow it, up to where the ring begins anew;
 * gives the new head.  In locals, since a store to a column might alias anything else.
 */
static unsigned drain_data(const struct io_uring_cq *cq, unsigned head, unsigned tail,
			   struct pz_columns *c)
{
	const unsigned first = head & cq->ring_mask;
	const struct io_uring_cqe *cqe = &cq->cqes[first << 1];
	const uint64_t n = c->n_data;
	const uint64_t most = least(least(tail - head, cq->ring_entries - first), c->capacity - n);
	uint64_t *restrict token = c->token + n, *restrict off = c->off + n;
	uint32_t *restrict len = c->len + n, *restrict run_start = c->run_start;
	uint64_t *restrict run_token = c->run_token, *restrict run_bytes = c->run_bytes;
	uint64_t run = c->n_runs, before = 0, bytes = 0, i = 0;

	if (run && run_token[run - 1] == cqe->user_data)	/* that run goes on */
		before = run_bytes[--run];
	do {
		const uint64_t request = cqe->user_data, bytes_before = bytes;

		do {
			const uint32_t size = (uint32_t)cqe->res;

			token[i] = request;
			off[i] = ((const struct io_uring_zcrx_cqe *)(cqe + 1))->off;
			len[i] = size;
			bytes += size;
			cqe += 2;
		} while (++i < most && cqe->user_data == request && brings_bytes(cqe));
		run_token[run] = request;
		run_bytes[run] = before + bytes - bytes_before;
		run_start[++run] = (uint32_t)(n + i);
		before = 0;
	} while (i < most && is_data(cqe));
	c->n_runs = run;
	c->bytes += bytes;
	c->n_data = n + i;
	return head + (unsigned)i;
}

static void put_other(struct pz_columns *c, const struct io_uring_cqe *cqe)
{
	uint32_t i = (uint32_t)c->n_other++;

	c->other_token[i] = cqe->user_data;
	c->other_res[i] = cqe->res;
	c->other_flags[i] = cqe->flags;
}

static bool full(const struct pz_columns *c)
{
	return c->n_data == c->capacity || c->n_other == c->capacity;
}

/* Each CQE takes two slots: the ring was made with IORING_SETUP_CQE32. */
static void drain(struct pz_ring *ring, struct pz_columns *c)
{
	const struct io_uring_cq *cq = &ring->uring.cq;
	unsigned head = *cq->khead, tail = io_uring_smp_load_acquire(cq->ktail);

	while (head != tail && !full(c)) {
		const struct io_uring_cqe *cqe = &cq->cqes[(head & cq->ring_mask) << 1];

		if (is_data(cqe)) {
			head = drain_data(cq, head, tail, c);
		} else {
			put_other(c, cqe);
			head++;
		}
	}
	io_uring_smp_store_release(cq->khead, head);
}

int pz_ring_gathers(const struct pz_ring *ring)
{
	return !!(ring->uring.features & IORING_FEAT_MIN_TIMEOUT);
}

static struct __kernel_timespec timespec(int64_t ns)
{
	return (struct __kernel_timespec){
		.tv_sec = ns / NS_PER_S,
		.tv_nsec = ns % NS_PER_S,
	};
}

/* Whether the kernel says that entering it would bring something. */
static bool said(const struct pz_ring *ring)
{
	return IO_URING_READ_ONCE(*ring->uring.sq.kflags) &
	       (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW);
}

int pz_ring_pending(const struct pz_ring *ring)
{
	return usable(ring) && (io_uring_cq_ready(&ring->uring) || said(ring));
}

static int enter(struct pz_ring *ring, int64_t timeout_ns, uint32_t gather_nr,
		 uint32_t gather_us)
{
	struct __kernel_timespec ts = timespec(timeout_ns < 0 ? FOR_EVER_NS : timeout_ns);
	struct io_uring_cqe *cqe;

	if (!timeout_ns && !io_uring_sq_ready(&ring->uring) && !said(ring))
		return 0;
	/* DEFER_TASKRUN: completions only appear to who enters with GETEVENTS. */
	if (!timeout_ns || io_uring_cq_ready(&ring->uring) || overflowed(ring))
		return io_uring_submit_and_get_events(&ring->uring);
	if (gather_us)
		return io_uring_submit_and_wait_min_timeout(&ring->uring, &cqe, gather_nr,
							    &ts, gather_us, NULL);
	return io_uring_submit_and_wait_timeout(&ring->uring, &cqe, 1,
						timeout_ns < 0 ? NULL : &ts, NULL);
}

static uint64_t monotonic_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * NS_PER_S + now.tv_nsec;
}

int pz_ring_turn(struct pz_ring *ring, int64_t timeout_ns, uint32_t gather_nr,
		 uint32_t gather_us, struct pz_columns *c)
{
	int ret;

	if (!usable(ring))
		return -EBADF;
	c->n_data = c->n_runs = c->n_other = 0;
	c->bytes = 0;
	c->run_start[0] = 0;
	c->fresh = PZ_DRAINED;

	ret = enter(ring, timeout_ns, gather_nr, gather_us);
	drain(ring, c);
	/*
	 * Until the overflow list is empty every RECV_ZC ends with ENOSPC at
	 * once: bring it over, as far as there is room, before anything is
	 * armed again. A flag that brings nothing over is not the kernel's.
	 */
	while (overflowed(ring) && !full(c)) {
		int err = io_uring_get_events(&ring->uring);
		uint32_t before = c->n_data + c->n_other;

		if (err < 0) {
			ret = err;
			break;
		}
		drain(ring, c);
		if (c->n_data + c->n_other == before)
			break;
	}
	c->overflow = overflowed(ring);
	c->now_ns = monotonic_ns();

	if (c->n_data || c->n_other)
		return (int)(c->n_data + c->n_other);
	return ret < 0 && ret != -ETIME ? ret : 0;
}

int pz_ring_submit(struct pz_ring *ring)
{
	int ret = io_uring_sq_ready(&ring->uring) ? io_uring_submit(&ring->uring) : 0;

	return ret < 0 ? ret : 0;
}

int pz_register(int fd, uint32_t opcode, uint64_t argument, uint32_t nr)
{
	return io_uring_register((unsigned int)fd, opcode, (void *)argument, nr);
}

int pz_register_ifq(struct pz_ring *ring, struct pz_ifq_reg *reg)
{
	return io_uring_register_ifq(&ring->uring, (struct io_uring_zcrx_ifq_reg *)reg);
}

int pz_zcrx_ctrl(struct pz_ring *ring, struct pz_ctrl *ctrl)
{
	/* By opcode: io_uring_register_zcrx_ctrl() came with liburing 2.15. */
	return io_uring_register((unsigned int)ring->uring.ring_fd,
				 PZ_REGISTER_ZCRX_CTRL, ctrl, 0);
}
