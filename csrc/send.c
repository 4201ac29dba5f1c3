// SPDX-License-Identifier: MIT
/* Sending, by copy and without. */
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "internal.h"

static_assert(sizeof(struct pz_iov) == sizeof(struct iovec), "pz_iov");
static_assert(sizeof(struct pz_msg) >= sizeof(struct msghdr), "pz_msg");

static struct msghdr *fill(struct pz_msg *msg, struct pz_iov *iov, uint32_t n)
{
	struct msghdr *hdr = (struct msghdr *)msg;

	memset(hdr, 0, sizeof(*hdr));
	hdr->msg_iov = (struct iovec *)iov;
	hdr->msg_iovlen = n;
	return hdr;
}

int pz_prep_send(struct pz_ring *ring, int fd, struct pz_msg *msg, struct pz_iov *iov,
		 uint32_t n, uint64_t token)
{
	struct io_uring_sqe *sqe;
	int ret;

	if (prepared(ring, IORING_OP_SENDMSG, token))
		return 0;
	ret = get_sqe(ring, &sqe);
	if (ret)
		return ret;
	io_uring_prep_sendmsg(sqe, fd, fill(msg, iov, n), MSG_WAITALL | MSG_NOSIGNAL);
	sqe->user_data = token;
	return 0;
}

int pz_prep_send_zc(struct pz_ring *ring, int fd, struct pz_msg *msg, struct pz_iov *iov,
		    uint32_t n, uint64_t token)
{
	struct io_uring_sqe *sqe;
	int ret;

	if (prepared(ring, IORING_OP_SENDMSG_ZC, token))
		return 0;
	ret = get_sqe(ring, &sqe);
	if (ret)
		return ret;
	/* Without MSG_EOR sends share skbs, and are notified only when all of them are ACKed. */
	io_uring_prep_sendmsg_zc(sqe, fd, fill(msg, iov, n),
				 MSG_WAITALL | MSG_EOR | MSG_NOSIGNAL);
	sqe->ioprio |= IORING_SEND_ZC_REPORT_USAGE;
	sqe->user_data = token;
	return 0;
}

union address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
	struct sockaddr_storage room;
};

/* Both ends are of this machine: by loopback, or by an address that is its own. */
static bool is_local(const union address *own, const union address *peer)
{
	if (peer->any.sa_family == AF_INET)
		return ntohl(peer->v4.sin_addr.s_addr) >> 24 == IN_LOOPBACKNET ||
		       peer->v4.sin_addr.s_addr == own->v4.sin_addr.s_addr;
	return IN6_IS_ADDR_LOOPBACK(&peer->v6.sin6_addr) ||
	       IN6_ARE_ADDR_EQUAL(&peer->v6.sin6_addr, &own->v6.sin6_addr);
}

int pz_leaves(int fd)
{
	socklen_t own_length = sizeof(union address), peer_length = sizeof(union address);
	socklen_t length = sizeof(int);
	union address own, peer;
	int protocol = 0;

	if (getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &length))
		return -errno;
	if (protocol != IPPROTO_TCP)
		return 0;
	if (getsockname(fd, &own.any, &own_length) || getpeername(fd, &peer.any, &peer_length))
		return -errno;
	return !is_local(&own, &peer);
}

int pz_disconnect(int fd)
{
	const struct sockaddr none = { .sa_family = AF_UNSPEC };

	return connect(fd, &none, sizeof(none)) ? -errno : 0;
}
