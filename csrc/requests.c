// SPDX-License-Identifier: MIT
#include <errno.h>
#include <stdint.h>
#include <linux/filter.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "internal.h"

int pz_prep_recv_zc(struct pz_ring *ring, int fd, uint32_t zcrx_id, uint32_t len,
		    uint64_t token)
{
	struct io_uring_sqe *sqe;
	int ret;

	if (prepared(ring, IORING_OP_RECV_ZC, token))
		return 0;
	ret = get_sqe(ring, &sqe);
	if (ret)
		return ret;
	io_uring_prep_rw(IORING_OP_RECV_ZC, sqe, fd, NULL, len, 0);
	sqe->ioprio = IORING_RECV_MULTISHOT;
	sqe->zcrx_ifq_idx = zcrx_id;
	sqe->user_data = token;
	return 0;
}

int pz_prep_accept(struct pz_ring *ring, int fd, uint64_t token)
{
	struct io_uring_sqe *sqe;
	int ret;

	if (prepared(ring, IORING_OP_ACCEPT, token))
		return 0;
	ret = get_sqe(ring, &sqe);
	if (ret)
		return ret;
	io_uring_prep_multishot_accept(sqe, fd, NULL, NULL, SOCK_CLOEXEC);
	sqe->user_data = token;
	return 0;
}

int pz_prep_poll(struct pz_ring *ring, int fd, uint32_t events, int multishot,
		 uint64_t token)
{
	struct io_uring_sqe *sqe;
	int ret;

	if (prepared(ring, IORING_OP_POLL_ADD, token))
		return 0;
	ret = get_sqe(ring, &sqe);
	if (ret)
		return ret;
	if (multishot)
		io_uring_prep_poll_multishot(sqe, fd, events);
	else
		io_uring_prep_poll_add(sqe, fd, events);
	sqe->user_data = token;
	return 0;
}

int pz_prep_cancel(struct pz_ring *ring, uint64_t target, int any, uint64_t token)
{
	struct io_uring_sqe *sqe;
	int ret = get_sqe(ring, &sqe);

	if (ret)
		return ret;
	io_uring_prep_cancel64(sqe, target, any ? IORING_ASYNC_CANCEL_ANY : 0);
	sqe->user_data = token;
	return 0;
}

int pz_tcp_ready(int fd, int drop_urgent)
{
	int protocol = 0, listens = 0, one = 1, ret;
	socklen_t length = sizeof(int);

	if (getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &length))
		return -errno;
	if (protocol != IPPROTO_TCP)
		return -EPROTONOSUPPORT;
	length = sizeof(int);
	if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &length))
		return -errno;
	if (listens)
		return -ENOTCONN;
	if (setsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &one, sizeof(one)))
		return -errno;
	ret = drop_urgent ? pz_drop_urgent(fd) : 0;
	return ret == -EPERM ? 0 : ret; /* its listener's filter, which it has, must do */
}

int pz_drop_urgent(int fd)
{
	/* TCP's own header comes first: drop the segment (0 bytes) where its URG flag is set. */
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 13), /* the flags */
		BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 0x20, 0, 1), /* URG */
		BPF_STMT(BPF_RET | BPF_K, 0),
		BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
	};
	struct sock_fprog program = { .len = 4, .filter = code };
	socklen_t present = 0;

	/* One that is there already may be ours, by accept, or the user's own: it stays. */
	if (getsockopt(fd, SOL_SOCKET, SO_GET_FILTER, NULL, &present))
		return errno == EACCES ? 0 : -errno; /* an eBPF program */
	if (present)
		return 0;
	if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)))
		return -errno;
	return 0;
}

static int get_int(int fd, int name, int *value)
{
	socklen_t length = sizeof(*value);

	return getsockopt(fd, SOL_SOCKET, name, value, &length) ? -errno : 0;
}

static int set_int(int fd, int name, int value)
{
	return setsockopt(fd, SOL_SOCKET, name, &value, sizeof(value)) ? -errno : 0;
}

/* The kernel doubles it. SO_RCVBUFFORCE passes rmem_max, and needs CAP_NET_ADMIN. */
static int set_rcvbuf(int fd, int bytes)
{
	int ret = set_int(fd, SO_RCVBUFFORCE, bytes / 2);

	return ret ? set_int(fd, SO_RCVBUF, bytes / 2) : 0;
}

int pz_rcvbuf_get(int fd, struct pz_rcvbuf *rcvbuf)
{
	int ret = get_int(fd, SO_RCVBUF, &rcvbuf->bytes);

	return ret ? ret : get_int(fd, SO_BUF_LOCK, &rcvbuf->locks);
}

int pz_rcvbuf_narrow(int fd, int bytes)
{
	return set_rcvbuf(fd, bytes);
}

int pz_rcvbuf_restore(int fd, const struct pz_rcvbuf *rcvbuf)
{
	int ret = set_rcvbuf(fd, rcvbuf->bytes);

	return ret ? ret : set_int(fd, SO_BUF_LOCK, rcvbuf->locks);
}

int pz_cookie(int fd, uint64_t *cookie)
{
	socklen_t length = sizeof(*cookie);

	return getsockopt(fd, SOL_SOCKET, SO_COOKIE, cookie, &length) ? -errno : 0;
}

int pz_unread(int fd)
{
	int unread = 0;

	return ioctl(fd, SIOCINQ, &unread) ? -errno : unread;
}

int pz_recv_plain(int fd, struct pz_plain *plain, uint32_t most_bytes)
{
	size_t most = most_bytes < sizeof(plain->data) ? most_bytes : sizeof(plain->data);

	if (!plain->bytes) {
		ssize_t n = recv(fd, plain->data, most, MSG_DONTWAIT);

		if (n < 0)
			return -errno;
		plain->bytes = n;
	}
	return plain->bytes;
}
