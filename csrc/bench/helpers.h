/* SPDX-License-Identifier: MIT */
/*
 * What liburing's examples/zcrx.c wants of the helpers.h beside it, which Debian's
 * liburing-dev leaves out. With BENCH_GATHER its wait gathers for $GATHER_US microseconds.
 */
#ifndef PYZCRX_BENCH_HELPERS_H
#define PYZCRX_BENCH_HELPERS_H

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define T_ALIGN_UP(n, to)	(((n) + (to) - 1) / (to) * (to))
#define uring_ptr_to_u64(p)	((uint64_t)(uintptr_t)(p))

/* Says what is wrong, with the errno if there is one, and ends. */
static inline __attribute__((format(printf, 3, 4), noreturn))
void t_error(int status, int err, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fprintf(stderr, err ? ": %s\n" : "\n", strerror(err));
	exit(status);
}

#ifdef BENCH_GATHER
#include "gather.h"

static inline int bench_wait(struct io_uring *ring)
{
	static unsigned int us;

	if (!us)
		us = atoi(getenv("GATHER_US"));
	return submit_and_gather(ring, us);
}

#define io_uring_submit_and_wait(ring, n)	bench_wait(ring)
#endif

#endif
