// SPDX-License-Identifier: MIT
/*
 * How references come back to their Account: one by one or many, into the refill queue at once
 * or into the list of those that wait for it.
 */
#include "lease.h"

#include <string.h>
#include <time.h>
#include <unistd.h>

#include "shim.h"

static int account_reserve(struct account *a, Py_ssize_t more)
{
	Py_ssize_t room = a->room ? a->room : 256;
	uint64_t *offs;

	if (a->start) {
		memmove(a->offs, a->offs + a->start, a->count * sizeof(*offs));
		a->start = 0;
	}
	while (room < a->count + more)
		room *= 2;
	if (room == a->room)
		return 0;
	offs = PyMem_Realloc(a->offs, room * sizeof(*offs));
	if (!offs)
		return -1;
	a->offs = offs;
	a->room = room;
	return 0;
}

/* The owner's next turn has something to do, although nothing arrives. */
static void account_signal(struct account *a)
{
	const uint64_t one = 1;
	ssize_t written;

	if (!a->signal || a->told)
		return;
	a->told = 1;
	/* Fails where it polls readable already, or its ring was closed. */
	written = write(a->signal->number, &one, sizeof(one));
	(void)written;
}

int account_put(struct account *a, uint64_t off)
{
	if (a->start + a->count == a->room && account_reserve(a, 1))
		return -1;
	account_signal(a);
	a->offs[a->start + a->count++] = off;
	a->given++;
	return 0;
}

static unsigned long long monotonic_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ULL + now.tv_nsec;
}

void account_held(struct account *a, unsigned long long since, Py_ssize_t n)
{
	unsigned long long now = monotonic_ns();
	unsigned long long ns = now > since ? now - since : 0;
	int bucket = ns ? 63 - __builtin_clzll(ns) : 0;

	if (ns > a->held_max_ns)
		a->held_max_ns = ns;
	a->histogram[bucket < HISTOGRAM ? bucket : HISTOGRAM - 1] += n;
}

/* Those of n references that nobody took, into entries that lie side by side; gives how many. */
static uint32_t fill(struct pz_rqe *restrict rqe, uint64_t *restrict off, uint32_t n)
{
	const struct pz_rqe *const first = rqe;
	const uint64_t *const end = off + n;

	for (; off < end; off++) {
		const uint64_t place = *off;

		if (place == PZ_TAKEN)
			continue;
		*rqe++ = (struct pz_rqe){ .off = place };
		*off = PZ_TAKEN;
	}
	return (uint32_t)(rqe - first);
}

/* What there is room for into the refill queue; gives how many, with *off behind the last. */
static uint32_t push(const struct pz_rq *rq, uint64_t **off, const uint64_t *end)
{
	const uint32_t room = pz_rq_room(rq), tail = *rq->tail, last = rq->entries - 1;
	uint32_t pushed = 0;

	while (*off < end && pushed < room) {
		const uint32_t at = (tail + pushed) & last;
		uint32_t n = rq->entries - at;		/* up to where the queue begins anew */

		if (n > room - pushed)
			n = room - pushed;
		if (n > end - *off)
			n = (uint32_t)(end - *off);
		pushed += fill(rq->rqes + at, *off, n);
		*off += n;
	}
	return pushed;
}

/* Puts what there is room for into the refill queue, the rest into the list, which has room. */
static void give_back(struct account *a, uint64_t *off, Py_ssize_t n, unsigned long long since)
{
	uint64_t *const list = a->offs + a->start + a->count, *to = list;
	const uint64_t *const end = off + n;
	const uint32_t pushed = a->rq && !a->count ? push(a->rq, &off, end) : 0;

	for (; off < end; off++) {
		if (*off == PZ_TAKEN)
			continue;
		*to++ = *off;
		*off = PZ_TAKEN;
	}
	if (pushed)
		pz_rq_publish(a->rq, pushed);
	n = pushed + (to - list);
	a->pushed += pushed;
	a->count += to - list;
	a->given += n;
	a->leased -= n;
	account_held(a, since, n);
}

int account_give_back(struct account *a, uint64_t *off, Py_ssize_t n, unsigned long long since)
{
	if (a->start + a->count + n > a->room && account_reserve(a, n))
		return -1;
	give_back(a, off, n, since);
	return 0;
}

int account_return(struct account *a, const uint64_t *offs, Py_ssize_t n,
		   unsigned long long since)
{
	Py_ssize_t pushed = 0;

	if (a->start + a->count + n > a->room && account_reserve(a, n))
		return -1;
	account_signal(a);
	if (a->rq && !a->count && !a->orphaned)	/* none is before them, and the queue is ours */
		pushed = pz_rq_push(a->rq, offs, (uint32_t)n);
	memcpy(a->offs + a->start + a->count, offs + pushed, (n - pushed) * sizeof(*offs));
	a->pushed += pushed;
	a->count += n - pushed;
	a->given += n;
	a->leased -= n;
	account_held(a, since, n);
	return 0;
}
