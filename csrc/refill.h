/*
 * The refill queue: we write the tail, the kernel the head.
 */
struct pz_rq {
	uint32_t *head;
	uint32_t *tail;
	struct pz_rqe *rqes;
	uint32_t entries;	/* a power of two */
};

/* Entries that the kernel has not consumed yet. */
uint32_t pz_rq_pending(const struct pz_rq *rq);
/* Push up to n offsets; returns how many found room. */
uint32_t pz_rq_push(struct pz_rq *rq, const uint64_t *offs, uint32_t n);
