/*
 * Sending. Each takes one SQE, as in receive.h; msg and iov are the caller's until the first
 * completion, what iov leads to until the last.
 */
struct pz_iov {			/* struct iovec */
	uint64_t base;
	uint64_t len;
};

struct pz_msg {			/* room for a struct msghdr */
	uint64_t space[7];
};

/* Of iov in order as much as the socket takes (MSG_WAITALL, MSG_NOSIGNAL). */
int pz_prep_send(struct pz_ring *ring, int fd, struct pz_msg *msg, struct pz_iov *iov,
		 uint32_t n, uint64_t token);
/*
 * The same, without a copy: the NIC reads what iov leads to. Where the first completion has
 * F_MORE, a second one (F_NOTIF) follows once nothing reads it any more.
 */
int pz_prep_send_zc(struct pz_ring *ring, int fd, struct pz_msg *msg, struct pz_iov *iov,
		    uint32_t n, uint64_t token);
/*
 * Whether what this socket sends leaves the machine, by TCP: 1; 0: the kernel would copy it;
 * or -errno.
 */
int pz_leaves(int fd);
/* Drop what a TCP socket did not get acknowledged and reset the connection. 0 or -errno. */
int pz_disconnect(int fd);
