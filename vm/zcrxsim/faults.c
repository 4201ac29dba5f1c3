// SPDX-License-Identifier: GPL-2.0
/* What goes wrong with a frame, or with the memory for it. */
#include <linux/etherdevice.h>

#include "zcrxsim.h"
#include "faults.h"

/* A frame that waits, as it was on the wire */
struct zs_held {
	u64	due;		/* on CLOCK_MONOTONIC */
	u32	after;		/* or so many frames later, 0: at its time */
	u32	hash;
	u8	hash_type;
};

#define ZS_HELD(skb)		((struct zs_held *)(skb)->cb)

/* A frame to be overtaken waits for others, but not longer than this */
#define ZS_REORDER_NS		(2 * NSEC_PER_MSEC)
#define ZS_RETRY_NS		(100 * NSEC_PER_USEC)

static bool zs_draw(struct zs_faults *faults, enum zs_fault kind)
{
	u32 rate = READ_ONCE(faults->rate[kind]), times = READ_ONCE(faults->times);

	if (!rate || (times && faults->count[kind] >= times))
		return false;
	if (prandom_u32_state(&faults->rnd[kind]) % 1000000 >= rate)
		return false;
	faults->count[kind]++;
	return true;
}

bool zs_fault_post(struct zs_queue *q)
{
	return zs_draw(q->faults, ZS_FAULT_POST);
}

bool zs_fault_skb(struct zs_queue *q)
{
	return zs_draw(q->faults, ZS_FAULT_SKB);
}

u32 zs_fault_room(const struct zs_queue *q, u32 posted, u32 room)
{
	const struct zs_faults *faults = q->faults;
	u32 limit = READ_ONCE(faults->post_limit);

	if (READ_ONCE(faults->starve))
		return 0;
	if (!limit)
		return room;
	return posted < limit ? min(room, limit - posted) : 0;
}

int zs_fault_mem(struct zs_queue *q)
{
	if (!q->faults->fail_mem)
		return 0;
	q->faults->fail_mem--;
	return -ENOMEM;
}

int zs_fault_start(struct zs_queue *q)
{
	if (!q->faults->fail_start)
		return 0;
	q->faults->fail_start--;
	return -EIO;
}

/* How much of the payload stays beside the headers */
u32 zs_fault_linear(const struct zs_frame *f)
{
	if (f->draw->mask & BIT(ZS_FAULT_LINEAR))
		return f->len;
	if (f->draw->mask & BIT(ZS_FAULT_PART))
		return 1 + f->draw->random % min(f->len, 128);
	return 0;
}

static void zs_held_start(struct zs_faults *faults)
{
	const struct sk_buff *skb;
	u64 due = U64_MAX;

	skb_queue_walk(&faults->held, skb)
		due = min(due, ZS_HELD(skb)->due);
	if (due != U64_MAX)
		hrtimer_start(&faults->timer, ns_to_ktime(due), HRTIMER_MODE_ABS_SOFT);
}

static bool zs_held_place(struct zs_queue *q, struct sk_buff *skb, u32 waiter)
{
	struct zs_draw draw = {};
	struct zs_frame f = {
		.skb		= skb,
		.hdr		= skb->data,
		.hash		= ZS_HELD(skb)->hash,
		.hash_type	= ZS_HELD(skb)->hash_type,
		.draw		= &draw,
	};
	struct zs_pkt pkt;

	zs_parse(skb->data, skb->len, &pkt);
	f.pkt = &pkt;
	f.hdr_len = pkt.l4 ? pkt.hdr_len : ETH_HLEN;
	f.off = f.hdr_len;
	f.len = skb->len - f.hdr_len;
	return zs_place(q, &f, waiter);
}

static enum hrtimer_restart zs_held_timer(struct hrtimer *timer)
{
	struct zs_faults *faults = container_of(timer, struct zs_faults, timer);
	struct zs_queue *q = faults->q;
	u64 now = ktime_get_ns();
	struct sk_buff *skb, *next;

	spin_lock_bh(&faults->lock);
	skb_queue_walk_safe(&faults->held, skb, next) {
		if (ZS_HELD(skb)->due > now)
			continue;
		if (!zs_held_place(q, skb, q->idx)) {
			ZS_HELD(skb)->due = now + ZS_RETRY_NS;
			continue;
		}
		__skb_unlink(skb, &faults->held);
		dev_consume_skb_any(skb);
	}
	zs_held_start(faults);
	zs_irq_raise(q);
	spin_unlock_bh(&faults->lock);
	return HRTIMER_NORESTART;
}

/* Another frame has passed: whom did it overtake? */
static void zs_held_count(struct zs_queue *q)
{
	struct zs_faults *faults = q->faults;
	struct sk_buff *skb;
	bool due = false;

	if (skb_queue_empty_lockless(&faults->held))
		return;
	spin_lock(&faults->lock);
	skb_queue_walk(&faults->held, skb) {
		if (ZS_HELD(skb)->after && !--ZS_HELD(skb)->after) {
			ZS_HELD(skb)->due = 0;
			due = true;
		}
	}
	if (due)
		zs_held_start(faults);
	spin_unlock(&faults->lock);
}

static void zs_hold(struct zs_queue *q, struct sk_buff *skb, u64 delay, u32 after)
{
	struct zs_faults *faults = q->faults;

	spin_lock(&faults->lock);
	ZS_HELD(skb)->due = ktime_get_ns() + delay;
	ZS_HELD(skb)->after = after;
	__skb_queue_tail(&faults->held, skb);
	zs_held_start(faults);
	spin_unlock(&faults->lock);
}

/* The frame with its payload and its checksum, apart from the sender's skb */
static struct sk_buff *zs_flat(struct zs_queue *q, const struct zs_frame *f)
{
	struct sk_buff *skb = alloc_skb(f->hdr_len + f->len, GFP_ATOMIC | __GFP_NOWARN);

	if (!skb)
		return NULL;
	zs_flatten(q, f, skb_put(skb, f->hdr_len + f->len));
	ZS_HELD(skb)->hash = f->hash;
	ZS_HELD(skb)->hash_type = f->hash_type;
	return skb;
}

static u32 zs_csum_at(const struct zs_pkt *pkt)
{
	switch (pkt->l4) {
	case IPPROTO_TCP:
		return pkt->l4_off + offsetof(struct tcphdr, check);
	case IPPROTO_UDP:
		return pkt->l4_off + offsetof(struct udphdr, check);
	default:
		return 0;
	}
}

/* One bit of the payload; of a frame without, one of the checksum or, without that, any */
static void zs_corrupt(const struct zs_frame *f, struct sk_buff *skb)
{
	u32 at = f->hdr_len + f->draw->random % max(f->len, 1);

	if (!f->len)
		at = zs_csum_at(f->pkt);
	if (at < skb->len)
		skb->data[at] ^= BIT(f->draw->random % 8);
}

static void zs_draw_all(struct zs_faults *faults, const struct zs_frame *f)
{
	struct zs_draw *draw = f->draw;
	enum zs_fault kind;

	draw->drawn = true;
	draw->mask = 0;
	if (!f->len && READ_ONCE(faults->payload_only))
		return;
	/* Frames of several senders share the generators */
	guard(spinlock)(&faults->lock);
	for (kind = 0; kind < ZS_FAULT_FRAME; kind++) {
		if (zs_draw(faults, kind)) {
			draw->mask |= BIT(kind);
			draw->random = prandom_u32_state(&faults->rnd[kind]);
		}
	}
}

/* One frame through the faults. Returns false if it must come again. */
static bool zs_fault_apply(struct zs_queue *q, struct zs_frame *f, u32 waiter)
{
	struct zs_faults *faults = q->faults;
	struct zs_draw *draw = f->draw;
	struct sk_buff *skb, *twin;
	bool done;

	if (draw->mask & BIT(ZS_FAULT_DROP))
		return true;
	if (!(draw->mask & (BIT(ZS_FAULT_WIRE) - 1)))
		return zs_place(q, f, waiter);

	skb = zs_flat(q, f);
	if (!skb)
		return true;
	if (draw->mask & BIT(ZS_FAULT_CORRUPT))
		zs_corrupt(f, skb);
	if (draw->mask & BIT(ZS_FAULT_DUPLICATE)) {
		twin = skb_copy(skb, GFP_ATOMIC | __GFP_NOWARN);
		if (twin)
			zs_hold(q, twin, 0, 0);
	}
	if (draw->mask & BIT(ZS_FAULT_REORDER)) {
		zs_hold(q, skb, ZS_REORDER_NS, 1 + draw->random % 3);
		return true;
	}
	if (draw->mask & BIT(ZS_FAULT_DELAY)) {
		zs_hold(q, skb, (u64)READ_ONCE(faults->delay_us) * NSEC_PER_USEC, 0);
		return true;
	}

	done = zs_held_place(q, skb, waiter);
	if (!done)
		draw->mask &= ~BIT(ZS_FAULT_DUPLICATE);
	dev_consume_skb_any(skb);
	return done;
}

bool zs_fault_place(struct zs_queue *q, struct zs_frame *f, u32 waiter)
{
	struct zs_draw *draw = f->draw;

	if (!draw->drawn)
		zs_draw_all(q->faults, f);
	if (!zs_fault_apply(q, f, waiter))
		return false;
	draw->drawn = false;
	zs_held_count(q);
	return true;
}

/* The queue goes down, and what was under way to it is lost */
void zs_fault_flush(struct zs_queue *q)
{
	struct zs_faults *faults = q->faults;

	hrtimer_cancel(&faults->timer);
	spin_lock_bh(&faults->lock);
	__skb_queue_purge(&faults->held);
	spin_unlock_bh(&faults->lock);
}

static void zs_fault_setup(struct zs_queue *q, struct zs_faults *faults)
{
	enum zs_fault kind;

	faults->q = q;
	faults->payload_only = true;
	faults->delay_us = 1000;
	for (kind = 0; kind < ZS_FAULT_COUNT; kind++)
		prandom_seed_state(&faults->rnd[kind], kind);
	spin_lock_init(&faults->lock);
	__skb_queue_head_init(&faults->held);
	hrtimer_setup(&faults->timer, zs_held_timer, CLOCK_MONOTONIC, HRTIMER_MODE_ABS_SOFT);
	q->faults = faults;
}

int zs_faults_alloc(struct zs_port *port)
{
	struct zs_faults *faults = kvzalloc_objs(*faults, ZS_MAX_QUEUES);
	u32 i;

	if (!faults)
		return -ENOMEM;
	for (i = 0; i < ZS_MAX_QUEUES; i++)
		zs_fault_setup(&port->queue[i], &faults[i]);
	return 0;
}

void zs_faults_free(struct zs_port *port)
{
	u32 i;

	if (!port->queue[0].faults)
		return;
	for (i = 0; i < ZS_MAX_QUEUES; i++)
		zs_fault_flush(&port->queue[i]);
	kvfree(port->queue[0].faults);
}
