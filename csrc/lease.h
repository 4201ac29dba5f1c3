/* SPDX-License-Identifier: MIT */
/* The types of pyzcrx._lease, as their files share them. */
#ifndef PYZCRX_LEASE_H
#define PYZCRX_LEASE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <structmember.h>
#include <sys/types.h>

#define HISTOGRAM	48	/* bucket i: held for [2^i, 2^(i+1)) ns */

struct pz_rq;
struct pz_columns;
struct roster;

struct descriptor {
	PyObject_HEAD
	int number;			/* -1 once it is closed */
	int shown;			/* others may know the number, and close it */
	dev_t device;			/* what file it is, then */
	ino_t inode;
	struct descriptor *next, **link;	/* link: the pointer that leads here */
};

struct account {
	PyObject_HEAD
	uint64_t *offs;			/* returned, not yet in the refill queue */
	Py_ssize_t start, count, room;
	Py_ssize_t leased;		/* out with the user */
	Py_ssize_t buffers;		/* of those, as leases of their own */
	Py_ssize_t copies;		/* leases on copies: their references are back */
	Py_ssize_t copies_bytes;
	Py_ssize_t copy_above;		/* more out than this: copy */
	Py_ssize_t copies_limit;	/* but not more bytes than this */
	Py_ssize_t copy_fair;		/* copy_above, where the request is not greedy; or -1 */
	struct pz_rq *rq;		/* where they go */
	PyObject *refill_ring;		/* whose that is, or NULL */
	unsigned long long taken, given, forgotten, pushed;
	unsigned long long bytes;	/* of what was taken */
	unsigned long long copied, copied_bytes;	/* ever */
	unsigned long long now_ns, held_max_ns;
	Py_ssize_t act_at;		/* so many entries in the refill queue want policy */
	Py_ssize_t most;		/* and more references out than this */
	Py_ssize_t crowded_above;	/* or than this, where an inbox has more than it may */
	Py_ssize_t spill_above;		/* or than this, where inboxes have unread bytes */
	unsigned long long histogram[HISTOGRAM];
	struct lease *oldest, *newest;	/* every lease that lives, by age */
	struct descriptor *signal;	/* an eventfd to add to when one comes back, or NULL */
	PyObject *lease_kind, *make_event, *make_bare, *memories, *looks;	/* see lease_as() */
	char plain;			/* leases of lease_kind are let go without Python */
	char poison;
	char orphaned;			/* this is a forked child, which has not the memory */
	char told;			/* the signal was given since what came back was pushed */
};

struct progress {
	PyObject_HEAD
	unsigned long long received;	/* bytes, ever */
	unsigned long long this_arm;	/* bytes, since it was armed last */
	unsigned long long armed_bytes;	/* the most of those; 0: no limit */
	Py_ssize_t fruitless;		/* flushes since bytes came last */
	PyObject *limit;		/* bytes in all, or None */
};

/* What Python keeps with a request (receiver.c says what it is), each None at first. */
enum {
	KEPT_COOKIE,
	KEPT_OVER,
	KEPT_FAILURE,
	KEPT_STATE,
	KEPT_PAUSE_AT,
	KEPT_RCVBUF,
	KEPT_UNBOUNDED,
	KEPT_PLAIN,
	RECEIVER_KEPT,
};

struct receiver {
	PyObject_HEAD
	PyObject *protocol;		/* its Progress */
	PyObject *held;			/* its Descriptor of the socket, or NULL */
	PyObject *ifq, *context;	/* for Python, or NULL */
	PyObject *inbox;		/* whose its events are: an Inbox, or None */
	PyObject *kept[RECEIVER_KEPT];	/* for Python */
	struct roster *roster;		/* which its token is of, or NULL */
	uint64_t token;
	int fd;				/* the socket's number as the user gave it */
	char greedy;			/* it holds much of an area that is short */
	char stopping;			/* for Python */
};

struct pace {
	PyObject_HEAD
	unsigned int us, enough;	/* how long the next turn gathers, and how much */
	unsigned int most_us, first_us, busy, busy_bytes;
	unsigned long long busy_since_us;	/* when it began to gather */
};

struct span {
	PyObject_HEAD
	char *at;
	Py_ssize_t length, exports;
	Py_ssize_t leases;		/* on bytes of it, out with the user; no copies */
	PyObject *memory;		/* what it lies in: a Span, or a memoryview of something else */
	PyObject *weakrefs;
	char readonly;
	char unreadable;		/* memory that the CPU cannot read; of no lease */
	/* of a lease, here to save room: */
	char copied;			/* it lies on a copy of our own */
	char pinned;			/* a view lives; the pin holds a reference to us */
	char released;			/* by the user; without account it is back as well */
};

struct lease {
	struct span span;
	struct account *account;	/* NULL before it is out and once given back */
	struct lease *older, *newer;
	uint64_t off, token;
	unsigned long long since_ns;
	PyObject pin;			/* what its views refer to, while pinned */
	char *shown;			/* a copy for consumers that may keep the address, or NULL */
};

extern PyType_Spec account_spec, span_spec, pin_spec, lease_spec, data_spec, queue_spec, feed_spec,
		   progress_spec, receiver_spec, descriptor_spec, shared_spec, refill_ring_spec, turn_spec,
		   pace_spec, core_spec, batch_spec, batches_spec, runs_spec, run_lease_spec,
		   pieces_spec, chunk_spec, inbox_spec, chunk_feed_spec, iovec_spec;
extern PyTypeObject *account_type, *span_type, *pin_type, *lease_type, *data_type, *queue_type,
		    *progress_type, *receiver_type, *descriptor_type, *shared_type, *refill_ring_type,
		    *turn_type, *pace_type, *core_type, *batch_type, *runs_type, *run_lease_type,
		    *pieces_type, *inbox_type;

/* Whether length bytes from start on lie in those of whole; sets an exception if not. */
int span_fits(Py_ssize_t whole, Py_ssize_t start, Py_ssize_t length);
void span_dealloc(PyObject *self);
/* Raises UnreadableMemory. -1 */
int span_refuse(Py_buffer *view);

/* A reference came back. -1 without memory for it; no exception is set. */
int account_put(struct account *a, uint64_t off);
/* n places, but for those that are all ones, which they become. -1 without memory for them. */
int account_give_back(struct account *a, uint64_t *off, Py_ssize_t n, unsigned long long since);
/* n references came back from anybody, which were out since then. As account_put(). */
int account_return(struct account *a, const uint64_t *offs, Py_ssize_t n,
		   unsigned long long since);
/* n references were out since then. */
void account_held(struct account *a, unsigned long long since, Py_ssize_t n);

/* A lease of that type, not yet out: nothing goes back if it dies. */
struct lease *lease_alloc(PyTypeObject *type, struct span *memory, uint64_t address,
			  Py_ssize_t length, uint64_t off, uint64_t token);
/* Leases of that type may be used again, if none are so far (reuse.c). */
void lease_reuse(PyObject *type);
/* One that died, zeroed, as fresh; NULL where there is none of that type, without an exception. */
struct lease *lease_reused(PyTypeObject *type);
/* It is dying, and nothing refers to it: whether it was kept, with nothing left to free. */
int lease_keep(struct lease *l);
/* It is out now, or its bytes were copied and the reference is back. */
int lease_commit(struct lease *l, struct account *a);

/* Among those that are out, as the newest; or before another one, and as old as that. */
void lease_link(struct lease *l, struct account *a);
void lease_link_before(struct lease *l, struct lease *newer);
void lease_unlink(struct lease *l);

/*
 * A lease on n entries, not yet out. NULL with an exception, or without one where some are taken
 * or do not lie in that memory.
 */
PyObject *run_lease_new(struct span *memory, const uint64_t *off, const uint32_t *length,
			Py_ssize_t n, uint64_t token);
/* It is out now. */
void run_lease_commit(PyObject *self, struct account *a);
/* RunLease.let_go() */
void run_lease_let_go(PyObject *self);
/* Entries that it has. */
Py_ssize_t run_lease_count(const PyObject *self);
/*
 * How many entries at its front have at most so many bytes (-1: all; 0 where they cannot be read
 * here), and how many bytes those are.
 */
Py_ssize_t run_lease_fits(PyObject *self, Py_ssize_t most, Py_ssize_t *entries);
/* Copy the first n entries (-1: all) together; gives how many bytes. */
Py_ssize_t run_lease_copy(PyObject *self, Py_ssize_t n, char *to);
/* The first n entries, fewer than all, go back. -1 without memory; no exception is set. */
int run_lease_drop(PyObject *self, Py_ssize_t n);
/* expand() */
PyObject *run_leases_expand(PyObject *module, PyObject *list);

/* A Shared of zeroes; NULL with an exception. */
PyObject *shared_new(size_t size);
void *shared_memory(PyObject *shared);
struct pz_rq *refill_ring_rq(PyObject *refill_ring);
struct pz_columns *turn_columns(PyObject *turn);
/* The reference goes back. -1 without memory to note it; no exception is set. */
int lease_give_back(struct lease *l);
/* Why something is not released. */
enum {
	VIEWED = 1,
	RELEASED_BEFORE,
};

/* Raise the error of such a verdict. -1 */
int lease_refuse(PyObject *self, int verdict);
/* Lease._let_go() */
void lease_let_go(struct lease *l);
/* Py_bf_getbuffer of a Lease */
int lease_getbuffer(PyObject *self, Py_buffer *view, int flags);

/* Account.lease_run(), Account.lease_as() */
PyObject *account_lease_run(PyObject *self, PyObject *args);
PyObject *account_lease_as(PyObject *self, PyObject *args);

/* Puts what came back into the refill queue; whether nothing else is to be done about it. */
int account_settled(struct account *a);

/* The Account of a token's ifq, borrowed; NULL if no ifq has that slot. */
struct account *turn_account(PyObject *accounts, uint64_t token);
/* The runs of a turn, counted once: 1; 0 where one is nobody's; -1 with an exception. */
int turn_count(struct pz_columns *c, const struct roster *roster, PyObject *accounts);
/* Fill the list with whose each run is. -1 with an exception. */
int turn_name(const struct pz_columns *c, const struct roster *roster, PyObject *receivers);
/* All that was not taken goes back, once. -1 with an exception. */
int turn_give_back(const struct pz_columns *c, PyObject *accounts);

/* The longest limit that one SQE takes: its len has 32 bits. */
#define MOST_ARM_BYTES	((1ull << 32) - (1ull << 20))

/* It is being armed. -1 with an exception. */
int progress_arm(struct progress *p);

/* So many bytes arrived. */
static inline void progress_add(struct progress *p, unsigned long long bytes)
{
	p->received += bytes;
	p->this_arm += bytes;
	p->fruitless = 0;
}

/* A turn brought so much. */
void pace_brought(struct pace *p, unsigned long long buffers, unsigned long long bytes);

/* With one user; NULL with an exception. */
struct roster *roster_new(void);
/* One user less. */
void roster_put(struct roster *r);
/* Nothing is armed any more. */
void roster_clear(struct roster *r);
int roster_traverse(struct roster *r, visitproc visit, void *arg);
/* Give it a token. Each of these two: 0, or -1 with an exception. */
int roster_enlist(struct roster *r, struct receiver *receiver, int ifq);
int roster_set_armed(struct roster *r, struct receiver *receiver, int armed);
/* Borrowed; NULL if no request that lives has that token. */
struct receiver *roster_owner(const struct roster *r, uint64_t token);
/* A list of those that live, of the ifq in that slot. */
PyObject *roster_owners(const struct roster *r, int ifq);
/* It dies, with its token. */
void roster_leave(struct receiver *receiver);

/* gather(), gather_into() */
PyObject *gather_bytes(PyObject *module, PyObject *args);
PyObject *gather_into(PyObject *module, PyObject *args);

/* A Descriptor of the same file; NULL with an OSError. */
PyObject *descriptor_dup(int number);
int descriptor_number(const PyObject *self);
/* close_descriptors() */
PyObject *descriptors_close(PyObject *module, PyObject *unused);

/* The event that this lease arrived for that request. */
PyObject *data_make(PyObject *request, PyObject *buffer);

/* Of the calling thread, never used again: Python's numbers and the system's are. */
uint64_t thread_number(void);

#endif
