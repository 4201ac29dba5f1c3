// SPDX-License-Identifier: MIT
/*
 * The receiver that pyzcrx is compared with: one connection, one ring, one ifq,
 * multishot RECV_ZC, each buffer given back at once, nothing done to the bytes.
 *
 *   zcrx-c-receiver PORT [INTERFACE QUEUE]      (without a card: NODEV)
 *
 * Says "listening" on standard error, then prints one line of JSON.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
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

#define CQ_ENTRIES	4096
#define RQ_ENTRIES	4096
#define AREA_BYTES	(64UL << 20)
#define REG_NODEV	2	/* ZCRX_REG_NODEV: not in every liburing */
#define REGISTER_CTRL	36	/* IORING_REGISTER_ZCRX_CTRL; op 0 is FLUSH_RQ */
#define TOKEN_RECV	1

struct ctrl {
	__u32 zcrx_id, op;
	__u64 resv[8];
};

struct queue {
	struct io_uring ring;
	__u32 zcrx_id;
	int nodev;
	unsigned int *head, *tail;
	struct io_uring_zcrx_rqe *rqes;
	unsigned int entries, pushed;
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

static void set_up(struct queue *q, const char *interface, unsigned int rx_queue)
{
	struct io_uring_params params = {
		.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
			 IORING_SETUP_CQE32 | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE,
		.cq_entries = CQ_ENTRIES,
	};
	size_t region_bytes = 4096 + RQ_ENTRIES * sizeof(struct io_uring_zcrx_rqe);
	char *region_memory = pages(region_bytes);
	struct io_uring_zcrx_area_reg area = {
		.addr = (__u64)(uintptr_t)pages(AREA_BYTES),
		.len = AREA_BYTES,
	};
	struct io_uring_region_desc region = {
		.user_addr = (__u64)(uintptr_t)region_memory,
		.size = region_bytes,
		.flags = IORING_MEM_REGION_TYPE_USER,
	};
	struct io_uring_zcrx_ifq_reg reg = {
		.if_idx = interface ? if_nametoindex(interface) : 0,
		.if_rxq = rx_queue,
		.rq_entries = RQ_ENTRIES,
		.flags = interface ? 0 : REG_NODEV,
		.area_ptr = (__u64)(uintptr_t)&area,
		.region_ptr = (__u64)(uintptr_t)&region,
	};
	int ret = io_uring_queue_init_params(64, &q->ring, &params);

	if (ret)
		die("io_uring_queue_init_params", ret);
	ret = io_uring_register_ifq(&q->ring, &reg);
	if (ret)
		die("io_uring_register_ifq", ret);
	q->zcrx_id = reg.zcrx_id;
	q->nodev = !interface;
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

static void arm(struct queue *q, int fd)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&q->ring);

	io_uring_prep_rw(IORING_OP_RECV_ZC, sqe, fd, NULL, 0, 0);
	sqe->ioprio = IORING_RECV_MULTISHOT;
	sqe->zcrx_ifq_idx = q->zcrx_id;
	sqe->user_data = TOKEN_RECV;
}

static int accept_one(unsigned short port)
{
	struct sockaddr_in6 address = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	int fd, one = 1, listener = socket(AF_INET6, SOCK_STREAM, 0);

	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(listener, (struct sockaddr *)&address, sizeof(address)) || listen(listener, 1))
		die("listen", errno);
	fprintf(stderr, "zcrx-c-receiver: listening on :: port %u\n", port);
	fd = accept(listener, NULL, NULL);
	if (fd < 0)
		die("accept", errno);
	close(listener);
	return fd;
}

static double seconds(struct timespec *from)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec - from->tv_sec + (now.tv_nsec - from->tv_nsec) / 1e9;
}

static double of(struct timeval t)
{
	return t.tv_sec + t.tv_usec / 1e6;
}

int main(int argc, char **argv)
{
	unsigned long long bytes = 0, buffers = 0, rearms = 0;
	struct queue q = { 0 };
	struct timespec began;
	struct rusage before, after;
	int fd, over = 0;

	if (argc != 2 && argc != 4)
		die("usage: zcrx-c-receiver PORT [INTERFACE QUEUE]", EINVAL);
	set_up(&q, argc == 4 ? argv[2] : NULL, argc == 4 ? atoi(argv[3]) : 0);
	fd = accept_one(atoi(argv[1]));
	clock_gettime(CLOCK_MONOTONIC, &began);
	getrusage(RUSAGE_SELF, &before);
	arm(&q, fd);

	while (!over) {
		struct io_uring_cqe *cqe;
		unsigned int head, n = 0;
		int ret = io_uring_submit_and_wait(&q.ring, 1);

		if (ret < 0)
			die("io_uring_submit_and_wait", ret);
		io_uring_for_each_cqe(&q.ring, head, cqe) {
			const struct io_uring_zcrx_cqe *zc = (const void *)(cqe + 1);

			n++;
			if (cqe->flags & IORING_CQE_F_MORE) {
				bytes += cqe->res;
				buffers++;
				give_back(&q, zc->off);
			} else if (cqe->res == -ENOSPC || cqe->res == -ENOMEM) {
				rearms++;
				over = -1;
			} else if (cqe->res) {
				die("receive", cqe->res);
			} else {
				over = 1;
			}
		}
		io_uring_cq_advance(&q.ring, n);
		io_uring_smp_store_release(q.tail, q.pushed);
		if (q.nodev && (over < 0 || q.pushed - *q.head >= q.entries / 2))
			flush(&q);
		if (over < 0) {
			io_uring_get_events(&q.ring);
			arm(&q, fd);
			over = 0;
		}
	}
	getrusage(RUSAGE_SELF, &after);
	printf("{\"bytes\": %llu, \"buffers\": %llu, \"rearms\": %llu, \"seconds\": %.6f, "
	       "\"user\": %.6f, \"system\": %.6f}\n",
	       bytes, buffers, rearms, seconds(&began),
	       of(after.ru_utime) - of(before.ru_utime), of(after.ru_stime) - of(before.ru_stime));
	return 0;
}
