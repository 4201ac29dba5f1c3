// SPDX-License-Identifier: MIT
/*
 * The receiver that pyzcrx is compared with. It does what liburing's example does:
 * one ring, one ifq, multishot RECV_ZC, each buffer given back at once.
 *
 *   zcrx-c-receiver -p PORT [-a ADDRESS] [-i INTERFACE -q QUEUE]   (without: NODEV)
 *       [-c CONNECTIONS] [-l RX_BUF_LEN] [-A AREA_BYTES] [-g GATHER_US] [-r] [-e] [-m MARK]
 *       [-F FD]... [-s CONNECTIONS]
 *
 * -g gathers up to GATHER_NR completions for so many microseconds, else it returns with the
 * first. -r reads every byte, -e sends it back, -m marks the run for an emulator. -F names
 * connections that were inherited, then there are no others. -s takes so many connections
 * that come and go, as they come. Says "listening", or "ready", on standard error, then
 * prints one line of JSON.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <liburing.h>
#include <liburing/barrier.h>

#include "gather.h"
#include "mark.h"
#include "spent.h"

#define CQ_ENTRIES	4096
#define MOST_INHERITED	128
#define RQ_ENTRIES	4096
#define ACCEPTS		(1ULL << 32) /* user_data of the accept; others are descriptors */
#define REG_NODEV	2	/* ZCRX_REG_NODEV: not in every liburing */
#define REGISTER_CTRL	36	/* IORING_REGISTER_ZCRX_CTRL; op 0 is FLUSH_RQ */

struct ctrl {
	__u32 zcrx_id, op;
	__u64 resv[8];
};

struct options {
	const char *address, *port, *interface;
	unsigned int queue, connections, rx_buf_len, gather_us, mark, shorts;
	size_t area_bytes;
	int read, echo;
	unsigned int inherited;
	int fds[MOST_INHERITED];
};

struct queue {
	struct io_uring ring;
	__u32 zcrx_id;
	int nodev;
	unsigned int *head, *tail;
	struct io_uring_zcrx_rqe *rqes;
	unsigned int entries, pushed;
	const unsigned char *area;
};

static void die(const char *what, int err)
{
	fprintf(stderr, "zcrx-c-receiver: %s: %s\n", what, strerror(err < 0 ? -err : err));
	exit(1);
}

static void *pages(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		die("mmap", errno);
	return p;
}

static void set_up(struct queue *q, const struct options *o)
{
	struct io_uring_params params = {
		.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
			 IORING_SETUP_CQE32 | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE,
		.cq_entries = CQ_ENTRIES,
	};
	size_t region_bytes = 4096 + RQ_ENTRIES * sizeof(struct io_uring_zcrx_rqe);
	char *region_memory = pages(region_bytes);
	struct io_uring_zcrx_area_reg area = {
		.addr = (__u64)(uintptr_t)pages(o->area_bytes),
		.len = o->area_bytes,
	};
	struct io_uring_region_desc region = {
		.user_addr = (__u64)(uintptr_t)region_memory,
		.size = region_bytes,
		.flags = IORING_MEM_REGION_TYPE_USER,
	};
	struct io_uring_zcrx_ifq_reg reg = {
		.if_idx = o->interface ? if_nametoindex(o->interface) : 0,
		.if_rxq = o->queue,
		.rq_entries = RQ_ENTRIES,
		.flags = o->interface ? 0 : REG_NODEV,
		.area_ptr = (__u64)(uintptr_t)&area,
		.region_ptr = (__u64)(uintptr_t)&region,
	};
	int tries, ret = io_uring_queue_init_params(256, &q->ring, &params);

	if (ret)
		die("io_uring_queue_init_params", ret);
	/* The last user's queue is given back a moment after it went. */
	for (tries = 0; tries < 3000; tries++) {
		reg.rx_buf_len = o->rx_buf_len;
		ret = io_uring_register_ifq(&q->ring, &reg);
		if (ret != -EEXIST)
			break;
		usleep(20000);
	}
	if (ret)
		die("io_uring_register_ifq", ret);
	q->area = (const unsigned char *)(uintptr_t)area.addr;
	q->zcrx_id = reg.zcrx_id;
	q->nodev = !o->interface;
	q->head = (unsigned int *)(region_memory + reg.offsets.head);
	q->tail = (unsigned int *)(region_memory + reg.offsets.tail);
	q->rqes = (struct io_uring_zcrx_rqe *)(region_memory + reg.offsets.rqes);
	q->entries = reg.rq_entries;
}

static void flush(struct queue *q)
{
	struct ctrl ctrl = { .zcrx_id = q->zcrx_id };
	int ret = io_uring_register(q->ring.ring_fd, REGISTER_CTRL, &ctrl, 0);

	if (ret)
		die("flush refill queue", ret);
}

static void give_back(struct queue *q, __u64 off)
{
	if (q->pushed - io_uring_smp_load_acquire(q->head) == q->entries) {
		io_uring_smp_store_release(q->tail, q->pushed);
		flush(q);
	}
	q->rqes[q->pushed & (q->entries - 1)] = (struct io_uring_zcrx_rqe){ .off = off };
	q->pushed++;
}

static struct io_uring_sqe *free_sqe(struct queue *q)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&q->ring);

	if (!sqe) {
		int ret = io_uring_submit(&q->ring);

		if (ret < 0)
			die("io_uring_submit", ret);
		sqe = io_uring_get_sqe(&q->ring);
	}
	return sqe;
}

static void arm(struct queue *q, int fd)
{
	struct io_uring_sqe *sqe = free_sqe(q);

	io_uring_prep_rw(IORING_OP_RECV_ZC, sqe, fd, NULL, 0, 0);
	sqe->ioprio = IORING_RECV_MULTISHOT;
	sqe->zcrx_ifq_idx = q->zcrx_id;
	sqe->user_data = fd;
}

static void arm_accept(struct queue *q, int listener)
{
	struct io_uring_sqe *sqe = free_sqe(q);

	io_uring_prep_multishot_accept(sqe, listener, NULL, NULL, SOCK_CLOEXEC);
	sqe->user_data = ACCEPTS;
}

/* A connection came. */
static void accepted(struct queue *q, const struct io_uring_cqe *cqe, int listener)
{
	if (cqe->res < 0)
		die("accept", cqe->res);
	arm(q, cqe->res);
	if (!(cqe->flags & IORING_CQE_F_MORE))
		arm_accept(q, listener);
}

static int listen_at(const struct options *o)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE }, *found;
	int one = 1, listener, ret = getaddrinfo(o->address, o->port, &hints, &found);

	if (ret) {
		fprintf(stderr, "zcrx-c-receiver: %s: %s\n", o->address, gai_strerror(ret));
		exit(1);
	}
	listener = socket(found->ai_family, SOCK_STREAM, 0);
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(listener, found->ai_addr, found->ai_addrlen) ||
	    listen(listener, o->connections > 128 ? o->connections : 128))
		die("listen", errno);
	if (getsockname(listener, found->ai_addr, &found->ai_addrlen))
		die("getsockname", errno);
	/* The port is at the same place in both families. */
	fprintf(stderr, "listening on %s port %u\n", o->address,
		ntohs(((struct sockaddr_in *)found->ai_addr)->sin_port));
	freeaddrinfo(found);
	return listener;
}

/* Where connections come and go; the first one knocks. */
static int busy_listener(const struct options *o)
{
	struct pollfd first = { .fd = listen_at(o), .events = POLLIN };

	if (poll(&first, 1, -1) < 0)
		die("poll", errno);
	return first.fd;
}

/* All of them: those that were inherited, or as many as come. */
static void connections(const struct options *o, int *fds)
{
	int listener, one = 1;
	unsigned int i;

	if (o->inherited) {
		memcpy(fds, o->fds, o->inherited * sizeof(*fds));
		fputs("ready\n", stderr);
		return;
	}
	listener = listen_at(o);
	for (i = 0; i < o->connections; i++) {
		fds[i] = accept(listener, NULL, NULL);
		if (fds[i] < 0)
			die("accept", errno);
		setsockopt(fds[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	}
	close(listener);
}

/* A word at a time, as a checksum would. */
static void read_bytes(const unsigned char *at, size_t n)
{
	uint64_t sum = 0, word;

	for (; n >= sizeof(word); n -= sizeof(word), at += sizeof(word)) {
		memcpy(&word, at, sizeof(word));
		sum += word;
	}
	while (n--)
		sum += *at++;
	__asm__ volatile("" : : "r"(sum)); /* nobody else wants it, and yet it is made */
}

static void send_back(int fd, const unsigned char *at, size_t n)
{
	while (n) {
		ssize_t sent = send(fd, at, n, MSG_NOSIGNAL);

		if (sent < 0)
			die("send", errno);
		at += sent;
		n -= sent;
	}
}

static struct options parse(int argc, char **argv)
{
	struct options o = { .address = "::", .connections = 1, .area_bytes = 64UL << 20 };
	int option;

	while ((option = getopt(argc, argv, "p:a:i:q:c:l:A:g:rem:F:s:")) != -1) {
		switch (option) {
		case 'p': o.port = optarg; break;
		case 'a': o.address = optarg; break;
		case 'i': o.interface = optarg; break;
		case 'q': o.queue = atoi(optarg); break;
		case 'c': o.connections = atoi(optarg); break;
		case 'l': o.rx_buf_len = atoi(optarg); break;
		case 'A': o.area_bytes = strtoul(optarg, NULL, 0); break;
		case 'g': o.gather_us = atoi(optarg); break;
		case 'r': o.read = 1; break;
		case 'e': o.echo = 1; break;
		case 'm': o.mark = atoi(optarg); break;
		case 's': o.shorts = atoi(optarg); break;
		case 'F':
			if (o.inherited == MOST_INHERITED)
				exit(2);
			o.fds[o.inherited++] = atoi(optarg);
			break;
		default: exit(2);
		}
	}
	if (o.inherited)
		o.connections = o.inherited;
	if (!o.port || optind != argc) {
		fprintf(stderr, "zcrx-c-receiver: -p PORT is needed, see csrc/bench/receiver.c\n");
		exit(2);
	}
	return o;
}

int main(int argc, char **argv)
{
	unsigned long long bytes = 0, buffers = 0, rearms = 0, turns = 0;
	struct options o = parse(argc, argv);
	struct queue q = { 0 };
	struct marks marks = marks_open();
	void (*begin)(void) = mark(&marks, MARK_BEGIN, o.mark);
	void (*end)(void) = mark(&marks, MARK_END, o.mark);
	unsigned int i, live = o.shorts ? o.shorts : o.connections;
	struct timespec began;
	struct rusage before, after;
	int listener = -1, *fds = calloc(o.connections, sizeof(*fds));
	double cpu, took;

	set_up(&q, &o);
	mark_payload(&marks, o.mark, q.area, o.area_bytes);
	if (o.shorts)
		listener = busy_listener(&o);
	else
		connections(&o, fds);
	cpu = on_cpu();
	clock_gettime(CLOCK_MONOTONIC, &began);
	getrusage(RUSAGE_SELF, &before);
	begin();
	if (o.shorts)
		arm_accept(&q, listener);
	for (i = 0; i < o.connections && !o.shorts; i++)
		arm(&q, fds[i]);

	while (live) {
		struct io_uring_cqe *cqe;
		unsigned int head, n = 0;
		int again = 0, ret = submit_and_gather(&q.ring, o.gather_us);

		if (ret < 0 && ret != -EINTR)
			die("io_uring_enter", ret);
		turns++;
		io_uring_for_each_cqe(&q.ring, head, cqe) {
			const struct io_uring_zcrx_cqe *zc = (const void *)(cqe + 1);

			n++;
			if (cqe->user_data == ACCEPTS) {
				accepted(&q, cqe, listener);
			} else if (cqe->flags & IORING_CQE_F_MORE) {
				const unsigned char *at =
					q.area + (zc->off & ((1ULL << IORING_ZCRX_AREA_SHIFT) - 1));

				bytes += cqe->res;
				buffers++;
				if (o.read)
					read_bytes(at, cqe->res);
				if (o.echo)
					send_back(cqe->user_data, at, cqe->res);
				give_back(&q, zc->off);
			} else if (cqe->res == -ENOSPC || cqe->res == -ENOMEM) {
				rearms++;
				again = 1;
				arm(&q, cqe->user_data);
			} else if (cqe->res) {
				die("receive", cqe->res);
			} else {
				live--;
				if (o.shorts)
					close(cqe->user_data);
			}
		}
		io_uring_cq_advance(&q.ring, n);
		io_uring_smp_store_release(q.tail, q.pushed);
		if (q.nodev && (again || q.pushed - *q.head >= q.entries / 2))
			flush(&q);
		if (again)
			io_uring_get_events(&q.ring);
	}
	end();
	getrusage(RUSAGE_SELF, &after);
	took = seconds(&began);
	printf("{\"bytes\": %llu, \"chunks\": %llu, \"turns\": %llu, \"rearms\": %llu, "
	       "\"seconds\": %.6f, \"user_s\": %.6f, \"system_s\": %.6f, \"on_cpu_s\": %.6f, "
	       "\"waits\": %ld, \"preemptions\": %ld, \"page_faults\": %ld, "
	       "\"began_s\": %.6f, \"peak_kib\": %ld}\n",
	       bytes, buffers, turns, rearms, took,
	       of(after.ru_utime) - of(before.ru_utime), of(after.ru_stime) - of(before.ru_stime),
	       on_cpu() - cpu, after.ru_nvcsw - before.ru_nvcsw,
	       after.ru_nivcsw - before.ru_nivcsw, after.ru_minflt - before.ru_minflt,
	       began.tv_sec + began.tv_nsec / 1e9, peak_kib());
	return 0;
}
