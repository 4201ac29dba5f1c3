/*
 * Requests.  Each takes one SQE (submitting what is queued when the SQ is
 * full) and returns 0 or -errno; the completion carries `token`.
 */
/* Multishot RECV_ZC; len 0: until the end of the stream. */
int pz_prep_recv_zc(struct pz_ring *ring, int fd, uint32_t zcrx_id, uint32_t len,
		    uint64_t token);
/* Multishot accept, close-on-exec. */
int pz_prep_accept(struct pz_ring *ring, int fd, uint64_t token);
/* Poll: multishot, or one completion only. */
int pz_prep_poll(struct pz_ring *ring, int fd, uint32_t events, int multishot,
		 uint64_t token);
/* Cancel the request of that token, or every request (any != 0). */
int pz_prep_cancel(struct pz_ring *ring, uint64_t target, int any, uint64_t token);

/*
 * Make a socket ready to receive: 0, or -EPROTONOSUPPORT (not TCP), -ENOTCONN
 * (listening), -ENOTSOCK, -EBADF.  Sets SO_OOBINLINE, so that pz_unread also
 * counts what lies behind an urgent byte.  With drop_urgent it also calls
 * pz_drop_urgent(), whose -EPERM counts for nothing.
 */
int pz_tcp_ready(int fd, int drop_urgent);
/*
 * Have the kernel drop this TCP socket's segments that carry the URG flag, by a socket
 * filter, which those accepted from it inherit.  Leaves a filter that is there alone.
 * -EPERM: Linux 7.3 asks for CAP_NET_ADMIN.
 */
int pz_drop_urgent(int fd);
/* How much a socket may hold unread, as the kernel counts it, and who says so. */
struct pz_rcvbuf {
	int bytes;		/* SO_RCVBUF */
	int locks;		/* SO_BUF_LOCK */
};

/* Each 0 or -errno. */
int pz_rcvbuf_get(int fd, struct pz_rcvbuf *rcvbuf);
int pz_rcvbuf_narrow(int fd, int bytes);
/* All as it was; a buffer that TCP sized goes on being sized by it. */
int pz_rcvbuf_restore(int fd, const struct pz_rcvbuf *rcvbuf);
/* SO_COOKIE: a number that no other socket ever has. 0 or -errno. */
int pz_cookie(int fd, uint64_t *cookie);
/* Bytes in the socket that were not received (SIOCINQ), or -errno. */
int pz_unread(int fd);
struct pz_plain {
	uint32_t bytes;		/* that were received, and nobody has yet */
	char data[65536];
};
/* Bytes at the front of the socket that lie in the kernel's own memory, where there are some now:
 * how many, 0 at the end, or -errno (-EFAULT: they lie in the area).  Receives nothing more while
 * plain has some, so it may be called again after an interruption. */
int pz_recv_plain(int fd, struct pz_plain *plain, uint32_t most_bytes);
