// SPDX-License-Identifier: GPL-2.0
/*
 * Hardware GRO: the card holds a frame of a TCP flow back for the next ones and
 * appends their payload, so that the driver sees one large frame. What may be
 * merged is what the stack's own GRO would merge.
 *
 * An aggregate is let go when a frame ends it (PSH, a short one) or does not fit,
 * when the ring has no room for more, and when the wire is silent for a while.
 */
#include <linux/hrtimer.h>
#include <linux/module.h>
#include <net/checksum.h>
#include <net/ip.h>
#include <net/ip6_checksum.h>

#include "zcrxsim.h"
#include "faults.h"

#define ZS_GRO_BUCKETS		64
#define ZS_GRO_AGE		1024	/* in frames of all flows of the queue */

static unsigned int zs_gro_idle_us = 1000;
module_param_named(gro_idle_us, zs_gro_idle_us, uint, 0644);
MODULE_PARM_DESC(gro_idle_us, "Microseconds of silence after which held frames go (default 1000)");

/* The slot to be, and what the next frame must look like */
struct zs_agg {
	struct hlist_node	node;	/* of those with a like hash */
	struct list_head	list;	/* of all, the oldest first, or of spare ones */
	struct zs_slot		slot;
	struct zs_pkt		pkt;
	u32			born;	/* in frames */
	u32			next_seq;
	u32			ip_len;	/* with all IP headers */
	u16			mss;
	u16			segs;
	u8			fixed_id;	/* a bit for each IP header */
};

struct zs_gro {
	u32			count;
	u32			frames;
	u64			last;	/* when the last frame was taken */
	struct list_head	held;
	struct list_head	spare;
	struct hlist_head	bucket[ZS_GRO_BUCKETS];
};

int zs_gro_alloc(struct zs_ring *ring)
{
	struct zs_gro *gro = kzalloc_obj(*gro);

	if (!gro)
		return -ENOMEM;
	INIT_LIST_HEAD(&gro->held);
	INIT_LIST_HEAD(&gro->spare);
	ring->gro = gro;
	return 0;
}

void zs_gro_free(struct zs_ring *ring)
{
	struct zs_gro *gro = ring->gro;
	struct zs_agg *agg, *next;

	list_for_each_entry(agg, &gro->held, list)
		zs_slot_put(ring, &agg->slot);
	list_splice(&gro->held, &gro->spare);
	list_for_each_entry_safe(agg, next, &gro->spare, list)
		kfree(agg);
	kfree(gro);
}

u32 zs_gro_held(const struct zs_ring *ring)
{
	return ring->gro->count;
}

static bool zs_gro_tunnel(const struct zs_pkt *pkt)
{
	return pkt->outer_off != pkt->l3_off;
}

/* The length of an IP packet, its header included */
static void zs_gro_set_len(u8 *hdr, u32 len)
{
	if (*hdr >> 4 == 4) {
		struct iphdr *ih = (struct iphdr *)hdr;

		ih->tot_len = htons(len);
		ih->check = 0;
		ih->check = ip_fast_csum(ih, ih->ihl);
	} else {
		struct ipv6hdr *ih = (struct ipv6hdr *)hdr;

		ih->payload_len = htons(len - sizeof(*ih));
	}
}

/* The large frame's headers, as if it had been sent so */
static void zs_gro_headers(const struct zs_agg *agg, struct zs_slot *slot)
{
	const struct zs_pkt *pkt = &agg->pkt;
	u8 *hdr = slot->big ?: slot->hdr;
	struct tcphdr *th = (struct tcphdr *)(hdr + pkt->l4_off);
	u32 end = pkt->outer_off + agg->ip_len;
	u32 l4_len = end - pkt->l4_off;

	zs_gro_set_len(hdr + pkt->l3_off, end - pkt->l3_off);
	if (zs_gro_tunnel(pkt))
		zs_gro_set_len(hdr + pkt->outer_off, agg->ip_len);
	if (pkt->l3 == 4)
		th->check = ~csum_tcpudp_magic(pkt->saddr[0], pkt->daddr[0], l4_len,
					       IPPROTO_TCP, 0);
	else
		th->check = ~csum_ipv6_magic((const struct in6_addr *)pkt->saddr,
					     (const struct in6_addr *)pkt->daddr, l4_len,
					     IPPROTO_TCP, 0);

	slot->ip_summed = CHECKSUM_PARTIAL;
	slot->csum_start = pkt->l4_off;
	slot->csum_offset = offsetof(struct tcphdr, check);
	slot->inner_off = pkt->l3_off;
	slot->wire_packets = agg->segs;
	slot->gso_segs = agg->segs;
	slot->gso_size = agg->mss;
	slot->gso_type = pkt->l3 == 4 ? SKB_GSO_TCPV4 : SKB_GSO_TCPV6;
	if (th->cwr)
		slot->gso_type |= SKB_GSO_TCP_ACCECN;
	if (agg->fixed_id & BIT(0))
		slot->gso_type |= SKB_GSO_TCP_FIXEDID;
	if (agg->fixed_id & BIT(1))
		slot->gso_type |= SKB_GSO_TCP_FIXEDID_INNER;
	if (zs_gro_tunnel(pkt))
		slot->gso_type |= hdr[pkt->outer_off] >> 4 == 4 ? SKB_GSO_IPXIP4 : SKB_GSO_IPXIP6;
}

/* Let an aggregate go. zs_has_room() has seen to it that there is a slot. */
static void zs_gro_close(struct zs_ring *ring, struct zs_agg *agg)
{
	struct zs_slot *slot = &ring->slots[ring->slot_head & ring->mask];
	struct zs_gro *gro = ring->gro;

	*slot = agg->slot;
	if (agg->segs > 1)
		zs_gro_headers(agg, slot);
	/* The slot is complete before the driver sees it */
	smp_store_release(&ring->slot_head, ring->slot_head + 1);

	hlist_del(&agg->node);
	list_move(&agg->list, &gro->spare);
	gro->count--;
}

void zs_gro_flush(struct zs_ring *ring)
{
	struct zs_agg *agg, *next;

	list_for_each_entry_safe(agg, next, &ring->gro->held, list)
		zs_gro_close(ring, agg);
}

/* IPv4 without options and with a good checksum; of IPv6 there is nothing to say */
static bool zs_gro_good_ip(const u8 *hdr)
{
	const struct iphdr *ih = (const struct iphdr *)hdr;

	return ih->version != 4 || (ih->ihl == 5 && !ip_fast_csum(ih, ih->ihl));
}

/* Is this a frame that may be merged with others? */
bool zs_gro_can(const struct zs_queue *q, const struct zs_frame *f)
{
	const struct zs_pkt *pkt = f->pkt;
	const struct tcphdr *th;

	if (!(q->port->dev->features & NETIF_F_GRO_HW) || zs_fault_frames(q) || f->draw->mask)
		return false;
	if (pkt->l4 != IPPROTO_TCP || f->gso_size || !f->len)
		return false;

	th = (const struct tcphdr *)(f->hdr + pkt->l4_off);
	if (!th->ack || th->syn || th->fin || th->rst || th->urg)
		return false;

	return zs_gro_good_ip(f->hdr + pkt->l3_off) &&
	       (!zs_gro_tunnel(pkt) || zs_gro_good_ip(f->hdr + pkt->outer_off));
}

static bool zs_gro_same_ip4(struct zs_agg *agg, const u8 *first, const u8 *next, u8 bit)
{
	const struct iphdr *a = (const struct iphdr *)first;
	const struct iphdr *b = (const struct iphdr *)next;
	u16 diff = ntohs(b->id) - ntohs(a->id);

	if (a->ihl != b->ihl || a->tos != b->tos || a->ttl != b->ttl ||
	    a->frag_off != b->frag_off || a->protocol != b->protocol ||
	    a->saddr != b->saddr || a->daddr != b->daddr)
		return false;

	/* The second frame says whether the ID counts */
	if (agg->segs == 1)
		agg->fixed_id = diff ? agg->fixed_id & ~bit : agg->fixed_id | bit;
	return diff == (agg->fixed_id & bit ? 0 : agg->segs);
}

static bool zs_gro_same_ip6(const u8 *first, const u8 *next)
{
	const u32 after_len = offsetof(struct ipv6hdr, nexthdr);

	return !memcmp(first, next, offsetof(struct ipv6hdr, payload_len)) &&
	       !memcmp(first + after_len, next + after_len, sizeof(struct ipv6hdr) - after_len);
}

static bool zs_gro_same_ip(struct zs_agg *agg, const u8 *first, const u8 *next, u8 bit)
{
	if (*first >> 4 == 4)
		return zs_gro_same_ip4(agg, first, next, bit);
	return zs_gro_same_ip6(first, next);
}

/* Does it continue the aggregate, with nothing else changed? */
static bool zs_gro_fits(struct zs_agg *agg, const struct zs_frame *f)
{
	const struct zs_pkt *pkt = &agg->pkt;
	const u8 *first = agg->slot.big ?: agg->slot.hdr;
	const struct tcphdr *a = (const struct tcphdr *)(first + pkt->l4_off);
	const struct tcphdr *b = (const struct tcphdr *)(f->hdr + f->pkt->l4_off);
	const u32 options = pkt->l4_off + sizeof(*a);
	u32 off = pkt->l3_off;

	if (f->pkt->l4_off != pkt->l4_off || f->pkt->l3_off != pkt->l3_off ||
	    f->pkt->outer_off != pkt->outer_off || f->hdr_len != pkt->hdr_len)
		return false;
	if (f->len > agg->mss || agg->ip_len + f->len > IP_MAX_MTU)
		return false;
	if (ntohl(b->seq) != agg->next_seq || b->ack_seq != a->ack_seq ||
	    (tcp_flag_word(a) ^ tcp_flag_word(b)) & ~TCP_FLAG_PSH ||
	    memcmp(first + options, f->hdr + options, pkt->hdr_len - options))
		return false;

	if (memcmp(first, f->hdr, pkt->outer_off))
		return false;
	if (zs_gro_tunnel(pkt) &&
	    !zs_gro_same_ip(agg, first + pkt->outer_off, f->hdr + pkt->outer_off, BIT(0)))
		return false;
	if (!zs_gro_same_ip(agg, first + off, f->hdr + off, BIT(zs_gro_tunnel(pkt))))
		return false;
	if (pkt->l3 == 4)
		return true;
	off += sizeof(struct ipv6hdr);
	return !memcmp(first + off, f->hdr + off, pkt->l4_off - off);
}

/* Append the payload, unless it is bad or there is no room for it */
static bool zs_gro_append(struct zs_queue *q, struct zs_ring *ring, struct zs_agg *agg,
			  const struct zs_frame *f)
{
	struct device *dma = q->port->dev->dev.parent;
	struct zs_slot *slot = &agg->slot;
	struct zs_frag *last = slot->nr_frags ? &slot->frags[slot->nr_frags - 1] : NULL;
	const struct zs_buf *bufs = ring->bufs;
	__wsum csum = 0, *sum = f->fill_csum ? NULL : &csum;
	u32 room = 0, need, pos, n, at;
	u8 ip_summed;

	if (last)
		room = min(f->len, ring->buf_size - last->off - last->len);
	need = DIV_ROUND_UP(f->len - room, ring->buf_size);
	if (slot->nr_frags + need > MAX_SKB_FRAGS || !zs_has_room(ring, 0, need))
		return false;

	if (room)
		zs_copy(dma, f->skb, f->off,
			zs_netmem_va(dma, last->netmem) + last->off + last->len, room, 0, sum);
	at = ring->post_tail;
	for (pos = room; pos < f->len; pos += n) {
		n = min(f->len - pos, ring->buf_size);
		zs_copy(dma, f->skb, f->off + pos, bufs[at++ & ring->mask].va, n, pos, sum);
	}
	if (sum && !zs_csum(f, &ip_summed, f->hdr, csum))
		return false;

	if (last)
		last->len += room;
	at = ring->post_tail;
	for (pos = room; pos < f->len; pos += n) {
		n = min(f->len - pos, ring->buf_size);
		zs_add_frag(slot, bufs[at++ & ring->mask].netmem, 0, n, ring->buf_size);
	}
	/* The addresses of the buffers have been read */
	smp_store_release(&ring->post_tail, ring->post_tail + need);
	return true;
}

static struct hlist_head *zs_gro_bucket(struct zs_gro *gro, const struct zs_frame *f)
{
	return &gro->bucket[f->hash % ZS_GRO_BUCKETS];
}

static struct zs_agg *zs_gro_find(struct zs_gro *gro, const struct zs_frame *f)
{
	const struct zs_pkt *pkt = f->pkt;
	struct zs_agg *agg;

	hlist_for_each_entry(agg, zs_gro_bucket(gro, f), node)
		if (agg->pkt.l3 == pkt->l3 &&
		    agg->pkt.sport == pkt->sport && agg->pkt.dport == pkt->dport &&
		    !memcmp(agg->pkt.saddr, pkt->saddr, sizeof(pkt->saddr)) &&
		    !memcmp(agg->pkt.daddr, pkt->daddr, sizeof(pkt->daddr)))
			return agg;
	return NULL;
}

static u64 zs_gro_due(const struct zs_gro *gro)
{
	return gro->last + (u64)READ_ONCE(zs_gro_idle_us) * NSEC_PER_USEC;
}

static void zs_gro_touch(struct zs_queue *q, struct zs_gro *gro)
{
	gro->frames++;
	gro->last = ktime_get_ns();
	if (!hrtimer_is_queued(&q->gro_timer))
		hrtimer_start(&q->gro_timer, ns_to_ktime(zs_gro_due(gro)), HRTIMER_MODE_ABS_SOFT);
}

/**
 * zs_gro_receive() - look for the aggregate that a frame belongs to
 * @q: the receive queue
 * @ring: its ring
 * @f: the frame
 * @can: what zs_gro_can() said of it
 *
 * Return: true if the frame was appended. If not, nothing of its flow is held
 * any longer, so that it may be placed.
 */
bool zs_gro_receive(struct zs_queue *q, struct zs_ring *ring, const struct zs_frame *f, bool can)
{
	const struct tcphdr *th = (const struct tcphdr *)(f->hdr + f->pkt->l4_off);
	struct tcphdr *first;
	struct zs_agg *agg;

	if (!ring->gro->count || f->pkt->l4 != IPPROTO_TCP)
		return false;
	agg = zs_gro_find(ring->gro, f);
	if (!agg)
		return false;
	if (!can || !zs_gro_fits(agg, f) || !zs_gro_append(q, ring, agg, f)) {
		zs_gro_close(ring, agg);
		return false;
	}

	first = (struct tcphdr *)((agg->slot.big ?: agg->slot.hdr) + agg->pkt.l4_off);
	first->psh |= th->psh;
	agg->next_seq += f->len;
	agg->ip_len += f->len;
	agg->segs++;
	zs_gro_touch(q, ring->gro);
	if (th->psh || f->len < agg->mss)
		zs_gro_close(ring, agg);
	return true;
}

/* Is it worth while to hold this frame, the first of its flow? */
bool zs_gro_first(const struct zs_frame *f)
{
	return !((const struct tcphdr *)(f->hdr + f->pkt->l4_off))->psh;
}

/* Hold a frame that is complete in @slot but for its publication */
bool zs_gro_hold(struct zs_queue *q, struct zs_ring *ring, const struct zs_frame *f,
		 const struct zs_slot *slot)
{
	const struct tcphdr *th = (const struct tcphdr *)(f->hdr + f->pkt->l4_off);
	struct zs_gro *gro = ring->gro;
	struct zs_agg *agg = list_first_entry_or_null(&gro->spare, struct zs_agg, list);

	if (agg)
		list_del(&agg->list);
	else
		agg = kmalloc_obj(*agg, GFP_ATOMIC | __GFP_NOWARN);
	if (!agg)
		return false;

	agg->slot = *slot;
	agg->pkt = *f->pkt;
	agg->born = gro->frames;
	agg->next_seq = ntohl(th->seq) + f->len;
	agg->ip_len = f->hdr_len - f->pkt->outer_off + f->len;
	agg->mss = f->len;
	agg->segs = 1;
	agg->fixed_id = 0;
	hlist_add_head(&agg->node, zs_gro_bucket(gro, f));
	list_add_tail(&agg->list, &gro->held);
	gro->count++;
	zs_gro_touch(q, gro);
	return true;
}

/* Nobody is held for ever because others keep the queue busy */
void zs_gro_age(struct zs_ring *ring)
{
	struct zs_gro *gro = ring->gro;
	struct zs_agg *agg, *next;

	list_for_each_entry_safe(agg, next, &gro->held, list) {
		if (gro->frames - agg->born < ZS_GRO_AGE)
			break;
		zs_gro_close(ring, agg);
	}
}

static enum hrtimer_restart zs_gro_timer(struct hrtimer *timer)
{
	struct zs_queue *q = container_of(timer, struct zs_queue, gro_timer);
	struct zs_ring *ring;

	spin_lock(&q->lock);
	ring = q->ring;
	if (ring && ring->gro->count) {
		u64 due = zs_gro_due(ring->gro);

		if (ktime_get_ns() < due) {
			hrtimer_start(timer, ns_to_ktime(due), HRTIMER_MODE_ABS_SOFT);
		} else {
			zs_gro_flush(ring);
			zs_irq_raise(q);
		}
	}
	spin_unlock(&q->lock);
	return HRTIMER_NORESTART;
}

void zs_gro_init(struct zs_queue *q)
{
	hrtimer_setup(&q->gro_timer, zs_gro_timer, CLOCK_MONOTONIC, HRTIMER_MODE_ABS_SOFT);
}

/* The queue has no ring any more: nothing starts the timer again */
void zs_gro_stop(struct zs_queue *q)
{
	hrtimer_cancel(&q->gro_timer);
}
