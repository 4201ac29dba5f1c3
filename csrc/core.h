/* SPDX-License-Identifier: MIT */
/* Core: what a turn needs of a ring, for the files that take one in C. */
#ifndef PYZCRX_CORE_H
#define PYZCRX_CORE_H

#include "lease.h"

#include "internal.h"

/* Functions of the shim that C calls itself. */
enum shim_function {
	RING_TURN,
	PREP_RECV_ZC,
	TCP_READY,
	UNREAD,
	SHIM_FUNCTIONS,
};

struct core {
	PyObject_HEAD
	PyObject *shared;	/* the Shared that ring lies in */
	struct pz_ring *ring;
	struct roster *roster;	/* the requests that the kernel holds, by slot */
	PyObject *turn;		/* Turn, or NULL before there is one */
	PyObject *accounts;	/* list of Account, by slot of the ifq */
	PyObject *unrest;	/* list of containers: one that is not empty wants policy */
	PyObject *operations;	/* dict, by token: all that the kernel holds */
	PyObject *own;		/* dict, by token: those of the ring itself, which nobody waits for */
	PyObject *finishing;	/* whose last completion is being told, or NULL */
	PyObject *receivers;	/* list: whose each run of the last turn is, once it is named */
	PyObject *posted;	/* list: events that no data goes with */
	PyObject *looked_at;	/* who still looks at the columns, or None */
	PyObject *pace;		/* Pace, or NULL */
	PyObject *functions;	/* dict: the shim's, by name; one may have been replaced */
	PyObject *built;	/* dict: the same, as they were built */
	PyObject *built_ones[SHIM_FUNCTIONS];	/* of those; borrowed */
	PyObject *raw;		/* this ring, as pz_ring_turn takes it */
	PyObject *raw_columns;	/* and its columns */
	uint64_t owner;		/* the thread that may turn it, by thread_number() */
	unsigned long long collected;	/* counts the turns that filled inboxes */
	Py_ssize_t readers;	/* of streams, among which the area is shared */
	Py_ssize_t others_done;	/* completions of the last turn, but for data, that were dealt with */
	/* Of the last turn, where a piece of it was leased: so many runs, so many entries. */
	Py_ssize_t leased_runs, leased;
	char named;		/* receivers has been filled for the last turn */
	char quiet;		/* no turn must go through Python: it is open, not watched, no debug */
};

PyObject *core_owned(PyObject *self, void *unused);

/* Once it has both dicts, before core_stand_in(). -1 with an exception. */
int core_know_built(struct core *k);
/* What stands in the place of that function, a new reference; NULL where nothing does. */
PyObject *core_stand_in(const struct core *k, enum shim_function function);
/* What calling it gave, as the shim's own; takes both references. -EIO or -1 with an exception. */
int stand_in_answer(PyObject *stand_in, PyObject *result);

/* Core.arm() */
PyObject *core_arm(PyObject *self, PyObject *const *args, Py_ssize_t n);
struct inbox;
/*
 * Where all that is in an inbox is the event that its request reached its limit, that leaves, and
 * the request receives as much again, as by Request.resume().  1; 0: Python must go on; -1 with an
 * exception.
 */
int core_renew(struct core *k, struct receiver *r, struct inbox *in);
/* Whether nobody told it yet what its turns work with. */
static inline int core_is_bare(const struct core *k)
{
	return !k->turn;
}

/* Whether the calling thread may act on it without Python. */
int core_is_quiet(const struct core *k);
/*
 * A turn in one call: settle, enter, drain, count; what comes beside data is told to its
 * operations, whose events are posted.  1: all of it is done; 0: Python must go on, from the start
 * or from what the columns say; -1 with an exception.  may() says of an event whether the caller
 * deals with it: 1, 0 (Python must go on), or -1 with an exception; NULL: he does with all.
 */
int core_turn(struct core *k, long long timeout_ns, int (*may)(PyObject *event));
/* more(), which is kept alive meanwhile: it may come to the same iterator again, and end it. */
PyObject *call_more(PyObject *more);
/*
 * Have the operations make events of the last turn's completions but for data, each once.
 * -1 with an exception; it may be called again.
 */
int core_complete(struct core *k);
/* Whether a container has nothing; no exception is set. */
int is_empty(PyObject *container);
/* Whose each run of the last turn was is not known for the next one. */
void core_forget_names(struct core *k);
/* Whose each run of the last turn is stands in receivers then. -1 with an exception. */
int core_name(struct core *k);
/* Whether every container of a tuple is empty. */
int nothing_in(PyObject *containers);
/* Nobody looks at the columns any more, which hold nothing. */
void core_forget(struct core *k);

struct queue;

/* Where leases go, or the events with them: a list, or a Queue. */
struct sink {
	PyObject *list;
	struct queue *queue;
	Py_ssize_t room;	/* so many, and no more */
};

/*
 * A lease on each entry of the last turn that has none, for its request: in an event at the end
 * of the sink, or by itself at the end of the request's inbox.  -1 with an exception.
 */
enum {
	LEASED,
	NO_PLACE = 1,	/* some entry names no place in its area */
	NO_ROOM = 2,	/* the sink has all that it takes; the rest is fresh: call again */
};
int core_lease_runs(struct core *k, struct sink *into);
/* A new reference to a request's inbox, or to None; NULL with an exception. */
PyObject *receiver_inbox(PyObject *receiver);

/*
 * A quiet turn, whose data is in the inboxes of its requests then, which join the list changed (or
 * NULL), and their events behind it; what has no inbox is in the queue.  As queue_turn() (queue.h),
 * and CROWDED.
 */
enum {
	CROWDED = 2,	/* some inbox may have too much, or something was copied */
};
int core_collect(struct core *k, struct queue *q, PyObject *changed, long long timeout_ns);
/* Core.collect_quietly() */
PyObject *core_collect_quietly(PyObject *self, PyObject *args);

/* What of a look at the columns was not taken goes back. -1 with an exception. */
int batch_expire(PyObject *batch);

#endif
