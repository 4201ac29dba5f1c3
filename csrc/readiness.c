// SPDX-License-Identifier: MIT
/* What an event loop of others watches: pyzcrx/_ring/readiness.py says how these play together. */
#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "internal.h"

#define NS_PER_S	1000000000LL

int pz_ring_signals(struct pz_ring *ring, int eventfd)
{
	return io_uring_register_eventfd(&ring->uring, eventfd);
}

int pz_signal(void)
{
	int signal = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	return signal < 0 ? -errno : signal;
}

void pz_signal_set(int signal)
{
	const uint64_t one = 1;
	ssize_t written = write(signal, &one, sizeof(one));

	(void)written; /* fails where it is set 2^64 - 2 times */
}

void pz_signal_clear(int signal)
{
	uint64_t count;
	ssize_t got = read(signal, &count, sizeof(count));

	(void)got; /* fails where it is clear */
}

int pz_any(int kernel, int signal, int timer)
{
	struct epoll_event event = { .events = EPOLLIN };
	int any = epoll_create1(EPOLL_CLOEXEC), error;

	if (any < 0)
		return -errno;
	if (epoll_ctl(any, EPOLL_CTL_ADD, kernel, &event) ||
	    epoll_ctl(any, EPOLL_CTL_ADD, signal, &event) ||
	    epoll_ctl(any, EPOLL_CTL_ADD, timer, &event)) {
		error = errno;
		close(any);
		return -error;
	}
	return any;
}

int pz_timer(void)
{
	int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);

	return timer < 0 ? -errno : timer;
}

int pz_timer_set(int timer, int64_t ns)
{
	/* 0 would disarm it. */
	struct itimerspec at = { .it_value.tv_nsec = 1 };

	if (ns < 0)
		at.it_value.tv_nsec = 0;
	else if (ns > 1)
		at.it_value = (struct timespec){ ns / NS_PER_S, ns % NS_PER_S };
	return timerfd_settime(timer, 0, &at, NULL) ? -errno : 0;
}
