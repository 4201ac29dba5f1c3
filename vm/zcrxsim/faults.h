/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Faults, asked for through debugfs for each receive queue. A fault is drawn
 * once for each frame, from a generator of its own, so that a run with the same
 * frames and the same seed has the same faults.
 */
#ifndef ZCRXSIM_FAULTS_H
#define ZCRXSIM_FAULTS_H

#include <linux/hrtimer.h>
#include <linux/prandom.h>

#include "zcrxsim.h"

enum zs_fault {
	/* On the wire: frames come one by one while one of these is set */
	ZS_FAULT_DROP,
	ZS_FAULT_DUPLICATE,
	ZS_FAULT_REORDER,
	ZS_FAULT_DELAY,
	ZS_FAULT_CORRUPT,
	ZS_FAULT_WIRE,		/* number of those */
	/* In the receiving card: where the payload goes */
	ZS_FAULT_LINEAR = ZS_FAULT_WIRE,
	ZS_FAULT_PART,
	ZS_FAULT_FRAME,		/* number of all that concern a frame */
	/* In its driver */
	ZS_FAULT_POST = ZS_FAULT_FRAME,
	ZS_FAULT_SKB,
	ZS_FAULT_COUNT
};

struct zs_faults {
	u32			rate[ZS_FAULT_COUNT];	/* of a million */
	u64			count[ZS_FAULT_COUNT];
	struct rnd_state	rnd[ZS_FAULT_COUNT];
	u32			seed;
	u32			times;		/* at most so many of a kind, 0: any number */
	u32			delay_us;
	u32			post_limit;	/* buffers posted at most, 0: no limit */
	u32			fail_mem;	/* so many allocations of a ring fail */
	u32			fail_start;	/* so many starts of the queue fail */
	bool			ignore_provider; /* rings are of the driver's own memory */
	bool			starve;		/* post no more buffers */
	bool			payload_only;	/* let frames without payload pass */
	bool			pass_bad_csum;

	struct zs_queue		*q;
	spinlock_t		lock;	/* held */
	struct sk_buff_head	held;	/* frames that come later */
	struct hrtimer		timer;
};

static inline bool zs_fault_frames(const struct zs_queue *q)
{
	const struct zs_faults *faults = q->faults;
	u32 any = 0, i;

	for (i = 0; i < ZS_FAULT_WIRE; i++)
		any |= READ_ONCE(faults->rate[i]);
	return any;
}

static inline bool zs_fault_pass_bad(const struct zs_queue *q)
{
	return READ_ONCE(q->faults->pass_bad_csum);
}

static inline bool zs_fault_ignore(const struct zs_queue *q)
{
	return READ_ONCE(q->faults->ignore_provider);
}

bool zs_fault_post(struct zs_queue *q);
bool zs_fault_skb(struct zs_queue *q);
u32 zs_fault_room(const struct zs_queue *q, u32 posted, u32 room);
int zs_fault_mem(struct zs_queue *q);
int zs_fault_start(struct zs_queue *q);
u32 zs_fault_linear(const struct zs_frame *f);
bool zs_fault_place(struct zs_queue *q, struct zs_frame *f, u32 waiter);
void zs_fault_flush(struct zs_queue *q);
bool zs_fault_link_down(const struct zs_port *port);

void zs_faults_init(void);
void zs_faults_exit(void);
int zs_faults_alloc(struct zs_port *port);
void zs_faults_free(struct zs_port *port);
void zs_faults_create(struct zs_port *port);
void zs_faults_destroy(struct zs_port *port);

#endif
