/* SPDX-License-Identifier: MIT */
/* Time that has passed, and time on a CPU, for the receiver's figures. */
#ifndef PYZCRX_BENCH_SPENT_H
#define PYZCRX_BENCH_SPENT_H

#include <stdio.h>
#include <sys/time.h>
#include <time.h>

static inline double seconds(struct timespec *from)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec - from->tv_sec + (now.tv_nsec - from->tv_nsec) / 1e9;
}

static inline double of(struct timeval t)
{
	return t.tv_sec + t.tv_usec / 1e6;
}

static inline double on_cpu(void)
{
	unsigned long long ns = 0;
	FILE *file = fopen("/proc/self/schedstat", "r");

	if (file) {
		if (fscanf(file, "%llu", &ns) != 1)
			ns = 0;
		fclose(file);
	}
	return ns / 1e9;
}

/* The most memory that was resident, of this program: ru_maxrss knows what ran before exec. */
static inline long peak_kib(void)
{
	FILE *file = fopen("/proc/self/status", "r");
	char line[256];
	long kib = 0;

	while (file && !kib && fgets(line, sizeof(line), file))
		if (sscanf(line, "VmHWM: %ld", &kib) != 1)
			kib = 0;
	if (file)
		fclose(file);
	return kib;
}

#endif
