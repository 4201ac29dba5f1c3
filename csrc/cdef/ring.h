/*
 * One io_uring, its memory supplied by the caller (IORING_SETUP_NO_MMAP), so
 * that no mapping of ours ever holds the ring file.  Every call is for the
 * thread that initialised the ring, except pz_ring_free.
 */
struct pz_ring;

struct pz_cq {
	uint64_t cqes;		/* address of the first CQE */
	uint64_t head;		/* addresses of the two indices */
	uint64_t tail;
	uint64_t flags;		/* of the SQ: where the kernel says that the CQ overflowed */
	uint32_t entries;
};

/*
 * What one turn drained.  Data completions (token bit 63, F_MORE, res > 0) go
 * to the first block, in the order of arrival; neighbours of one request form
 * a run.  All others go to the last block.  Each array has room for
 * `capacity` entries, run_start for one more.
 */
struct pz_columns {
	uint64_t *token;
	uint64_t *off;
	uint32_t *len;

	uint64_t *run_token;
	uint32_t *run_start;
	uint64_t *run_bytes;

	uint64_t *other_token;
	int32_t *other_res;
	uint32_t *other_flags;

	uint64_t capacity;
	/* One look, a cast to words, sees all that follows. */
	uint64_t n_data;
	uint64_t n_runs;
	uint64_t n_other;
	uint64_t bytes;
	uint64_t overflow;	/* CQEs wait on the kernel's overflow list */
	uint64_t now_ns;	/* CLOCK_MONOTONIC, once the turn was over */
	uint64_t fresh;		/* how far one got with what was drained; 0: it is done */
};

/*
 * The token of a RECV_ZC request, from the top: the bit, which of its ring's ifqs, how many
 * requests had its slot before, the slot.  Others have a number instead.
 */
enum {
	PZ_TOKEN_RECEIVE_BIT = 63,
	PZ_TOKEN_IFQ_SHIFT = 48,
	PZ_TOKEN_IFQ_MASK = 0x7FFF,
	PZ_TOKEN_REQUEST_BITS = 22,
};

/* A signal in the moment before the kernel is entered ends no wait: look again so often. */
enum {
	PZ_SIGNAL_TIMEOUT_NS = 1000000000,
};

/* Values of fresh. */
enum {
	PZ_DRAINED = 1,
	PZ_COUNTED = 2,
};

struct pz_ring *pz_ring_new(void);
void pz_ring_free(struct pz_ring *ring);
/* Bytes of zeroed, page-aligned memory that pz_ring_init needs. */
size_t pz_ring_bytes(uint32_t sq_entries, uint32_t cq_entries);
int pz_ring_init(struct pz_ring *ring, uint32_t sq_entries, uint32_t cq_entries,
		 uint32_t flags, uint64_t memory, size_t bytes);
/* A ring that has ended, or was never initialised, answers requests and turns with -EBADF. */
void pz_ring_exit(struct pz_ring *ring);
int pz_ring_fd(const struct pz_ring *ring);
void pz_ring_cq(const struct pz_ring *ring, struct pz_cq *cq);

/* Whether the kernel can gather (IORING_FEAT_MIN_TIMEOUT, 6.12). */
int pz_ring_gathers(const struct pz_ring *ring);
/*
 * Submit what was prepared, wait, flush the overflow list and drain.  Waits at
 * most timeout_ns (< 0: for ever) for a completion, and before that gather_us
 * long for gather_nr of them (0: not at all).  Returns the number of
 * completions drained, 0 after a time-out, -EINTR, or another -errno.
 */
int pz_ring_turn(struct pz_ring *ring, int64_t timeout_ns, uint32_t gather_nr,
		 uint32_t gather_us, struct pz_columns *columns);

/* Submit what was prepared, without waiting and without draining. 0 or -errno. */
int pz_ring_submit(struct pz_ring *ring);
/* Whether there are completions, or work that will post some (IORING_SETUP_TASKRUN_FLAG). */
int pz_ring_pending(const struct pz_ring *ring);

int pz_register(int fd, uint32_t opcode, uint64_t argument, uint32_t nr);
int pz_register_ifq(struct pz_ring *ring, struct pz_ifq_reg *reg);
int pz_zcrx_ctrl(struct pz_ring *ring, struct pz_ctrl *ctrl);
