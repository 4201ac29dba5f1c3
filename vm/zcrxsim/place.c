// SPDX-License-Identifier: GPL-2.0
/*
 * The receiving card: take a frame from the wire, put it where the driver has
 * posted memory, write a completion. Runs on the sender's CPU, as a card's DMA
 * engine costs the receiver's CPU nothing.
 */
#include <linux/dma-direct.h>
#include <linux/skbuff.h>
#include <net/checksum.h>
#include <net/ip6_checksum.h>
#include <net/page_pool/helpers.h>

#include "zcrxsim.h"
#include "faults.h"

/* Where the bytes of a frame shall go */
struct zs_layout {
	u32	linear;		/* payload that goes to the linear part */
	u32	rest;		/* payload that goes to buffers */
	u32	need;		/* so many buffers */
	bool	split;
	bool	pack;
};

/* Of memory that has a DMA address. There is no IOMMU: it is a physical one. */
void *zs_netmem_va(struct device *dma, netmem_ref netmem)
{
	return phys_to_virt(dma_to_phys(dma, page_pool_get_dma_addr_netmem(netmem)));
}

static u8 *zs_frag_va(struct device *dma, const skb_frag_t *frag)
{
	if (!skb_frag_is_net_iov(frag))
		return skb_frag_address(frag);
	return zs_netmem_va(dma, skb_frag_netmem(frag)) + skb_frag_off(frag);
}

static void zs_copy_piece(u8 *dst, const u8 *src, u32 len, u32 pos, __wsum *csum)
{
	if (csum)
		*csum = csum_block_add(*csum, csum_partial_copy_nocheck(src, dst, len), pos);
	else
		memcpy(dst, src, len);
}

/*
 * Copy payload out of the sender's skb, whatever its fragments are made of.
 * @pos: where in the checksummed data this is, @csum: NULL if not wanted.
 */
void zs_copy(struct device *dma, const struct sk_buff *skb, u32 off,
	     u8 *dst, u32 len, u32 pos, __wsum *csum)
{
	u32 start = skb_headlen(skb), n;
	int i;

	if (off < start) {
		n = min(len, start - off);
		zs_copy_piece(dst, skb->data + off, n, pos, csum);
		dst += n;
		off += n;
		pos += n;
		len -= n;
	}

	for (i = 0; len && i < skb_shinfo(skb)->nr_frags; i++) {
		const skb_frag_t *frag = &skb_shinfo(skb)->frags[i];
		u32 size = skb_frag_size(frag);

		if (off < start + size) {
			n = min(len, start + size - off);
			zs_copy_piece(dst, zs_frag_va(dma, frag) + off - start, n, pos, csum);
			dst += n;
			off += n;
			pos += n;
			len -= n;
		}
		start += size;
	}
}

static void zs_lay_out(const struct zs_queue *q, const struct zs_ring *ring,
		       const struct zs_frame *f, bool hold, struct zs_layout *lay)
{
	lay->split = ring->split && f->pkt->l4 == IPPROTO_TCP;
	if (!ring->split) {
		/* Buffers hold all of it; the driver pulls the first bytes out */
		lay->linear = min(f->len, ZS_HDR_MAX - f->hdr_len);
	} else if (!lay->split || f->len <= ring->hds_thresh) {
		lay->linear = f->len;
	} else {
		lay->linear = zs_fault_linear(f);
	}
	lay->rest = f->len - lay->linear;
	/*
	 * What is held gets more payload behind its own. A program may write
	 * behind what it is shown.
	 */
	lay->pack = ring->split && !hold && q->port->priv_flags & ZS_PRIV_PACK &&
		    !READ_ONCE(q->port->xdp_prog);

	if (lay->pack && lay->rest <= ring->buf_size - ring->open.len && ring->open.netmem)
		lay->need = 0;
	else
		lay->need = DIV_ROUND_UP(lay->rest, ring->buf_size);
}

static bool zs_pending(const struct zs_ring *ring)
{
	/* The tail comes after the buffers that were posted before it moved */
	return ring->slot_head != smp_load_acquire(&ring->slot_tail);
}

bool zs_has_room(const struct zs_ring *ring, u32 slots, u32 bufs)
{
	/* What the driver has read of a slot or written to a buffer is done */
	u32 tail = smp_load_acquire(&ring->slot_tail);
	/* As above */
	u32 head = smp_load_acquire(&ring->post_head);

	/* What is held will want a slot as well */
	return ring->slot_head - tail + zs_gro_held(ring) + slots <= ring->size &&
	       head - ring->post_tail >= bufs;
}

/*
 * Returns true if there is room, else false; @wait then says whether to come
 * again after the NAPI has run. That is what pause frames do on a real link:
 * a driver that is merely late costs no frames. One that has nothing left to
 * post does.
 */
static bool zs_reserve(struct zs_queue *q, struct zs_ring *ring, u32 need, u32 waiter,
		       bool *wait)
{
	*wait = false;
	while (!zs_has_room(ring, 1, need)) {
		zs_gro_flush(ring);
		if (need > ring->size || !zs_pending(ring) || !zs_may_pause(q->port))
			return false;

		set_bit(waiter, q->waiters);
		/* Pairs with the barrier in zs_wake_waiters() */
		smp_mb__after_atomic();
		if (zs_pending(ring)) {
			*wait = true;
			return false;
		}
		clear_bit(waiter, q->waiters);
	}
	return true;
}

void zs_add_frag(struct zs_slot *slot, netmem_ref netmem, u32 off, u32 len, u32 truesize)
{
	struct zs_frag *frag = &slot->frags[slot->nr_frags++];

	frag->netmem = netmem;
	frag->off = off;
	frag->len = len;
	frag->truesize = truesize;
}

/*
 * Take @len bytes of posted memory. A buffer that is being packed has one
 * reference for each of its frames and one for the card.
 */
static u8 *zs_take(struct zs_ring *ring, struct zs_slot *slot, u32 len, bool pack, u32 *taken)
{
	struct zs_frag *open = &ring->open;
	struct zs_buf *buf;
	u8 *va;

	if (pack && open->netmem && len <= ring->buf_size - open->len) {
		va = ring->open_va + open->len;
		page_pool_ref_netmem(open->netmem);
		zs_add_frag(slot, open->netmem, open->len, len, L1_CACHE_ALIGN(len));
		open->len = min(ring->buf_size, L1_CACHE_ALIGN(open->len + len));
		return va;
	}

	buf = &ring->bufs[(ring->post_tail + (*taken)++) & ring->mask];
	if (!pack || len > ring->buf_size / 2) {
		zs_add_frag(slot, buf->netmem, 0, len, ring->buf_size);
		return buf->va;
	}

	if (open->netmem)
		page_pool_put_full_netmem(ring->pool, open->netmem, false);
	open->netmem = buf->netmem;
	open->len = L1_CACHE_ALIGN(len);
	ring->open_va = buf->va;
	page_pool_ref_netmem(buf->netmem);
	zs_add_frag(slot, buf->netmem, 0, len, L1_CACHE_ALIGN(len));
	return buf->va;
}

/* Is there payload that the kernel cannot read? */
bool zs_unreadable(const struct zs_slot *slot)
{
	int i;

	for (i = 0; i < slot->nr_frags; i++)
		if (netmem_is_net_iov(slot->frags[i].netmem))
			return true;
	return false;
}

/* What a slot took goes back to the pool, the NAPI posts anew */
void zs_slot_put(struct zs_ring *ring, struct zs_slot *slot)
{
	int i;

	for (i = 0; i < slot->nr_frags; i++)
		page_pool_put_full_netmem(ring->pool, slot->frags[i].netmem, false);
	kfree(slot->big);
}

static __sum16 zs_l4_sum(const struct zs_frame *f, const u8 *hdr, __wsum payload)
{
	const struct zs_pkt *pkt = f->pkt;
	u32 l4_hdr = f->hdr_len - pkt->l4_off;
	__wsum sum = csum_partial(hdr + pkt->l4_off, l4_hdr, payload);

	if (pkt->l3 == 4)
		return csum_tcpudp_magic(pkt->saddr[0], pkt->daddr[0], l4_hdr + f->len,
					 pkt->l4, sum);
	return csum_ipv6_magic((const struct in6_addr *)pkt->saddr,
			       (const struct in6_addr *)pkt->daddr, l4_hdr + f->len,
			       pkt->l4, sum);
}

static __sum16 *zs_l4_check(const struct zs_pkt *pkt, u8 *hdr)
{
	if (pkt->l4 == IPPROTO_TCP)
		return &((struct tcphdr *)(hdr + pkt->l4_off))->check;
	return &((struct udphdr *)(hdr + pkt->l4_off))->check;
}

/* The sender's card fills the checksum in, the receiver's verifies it */
bool zs_csum(const struct zs_frame *f, u8 *ip_summed, u8 *hdr, __wsum payload)
{
	const struct zs_pkt *pkt = f->pkt;
	__sum16 *check;

	*ip_summed = CHECKSUM_NONE;
	if (!pkt->l4)
		return true;

	check = zs_l4_check(pkt, hdr);
	if (f->fill_csum) {
		*check = 0;
		*check = zs_l4_sum(f, hdr, payload);
		if (!*check && pkt->l4 == IPPROTO_UDP)
			*check = CSUM_MANGLED_0;
	} else {
		if (pkt->l4 == IPPROTO_UDP &&
		    (!*check || ((struct udphdr *)(hdr + pkt->l4_off))->len !=
				htons(sizeof(struct udphdr) + f->len)))
			return true;
		if (zs_l4_sum(f, hdr, payload))
			return false;
	}
	*ip_summed = CHECKSUM_UNNECESSARY;
	return true;
}

/* The whole frame as it is on the wire */
void zs_flatten(struct zs_queue *q, const struct zs_frame *f, u8 *dst)
{
	bool sum = f->pkt->l4 && f->fill_csum;
	__wsum csum = 0;
	u8 ip_summed;

	memcpy(dst, f->hdr, f->hdr_len);
	zs_copy(q->port->dev->dev.parent, f->skb, f->off, dst + f->hdr_len, f->len, 0,
		sum ? &csum : NULL);
	if (sum)
		zs_csum(f, &ip_summed, dst, csum);
}

/* Headers and what else is linear, in the slot or, if it is too much, beside it */
static u8 *zs_linear(struct zs_slot *slot, u32 len)
{
	slot->linear = len;
	slot->big = NULL;
	if (len <= ZS_HDR_MAX)
		return slot->hdr;
	slot->big = kmalloc(len, GFP_ATOMIC | __GFP_NOWARN);
	return slot->big;
}

static void zs_fill(struct zs_queue *q, struct zs_ring *ring, const struct zs_frame *f,
		    const struct zs_layout *lay, bool hold)
{
	struct zs_slot *slot = &ring->slots[ring->slot_head & ring->mask];
	struct device *dma = q->port->dev->dev.parent;
	bool sum = f->pkt->l4 && !f->gso_size;
	u32 pos, taken = 0, n;
	bool good = true;
	__wsum csum = 0;
	u8 *hdr, *va;

	hdr = zs_linear(slot, f->hdr_len + lay->linear);
	if (!hdr) {
		q->wire.drop_nomem++;
		return;
	}

	memcpy(hdr, f->hdr, f->hdr_len);
	if (lay->linear)
		zs_copy(dma, f->skb, f->off, hdr + f->hdr_len, lay->linear, 0,
			sum ? &csum : NULL);

	slot->nr_frags = 0;
	for (pos = lay->linear; pos < f->len; pos += n) {
		n = min(f->len - pos, ring->buf_size);
		va = zs_take(ring, slot, n, lay->pack, &taken);
		zs_copy(dma, f->skb, f->off + pos, va, n, pos, sum ? &csum : NULL);
	}

	slot->hdr_len = f->hdr_len;
	slot->payload = lay->linear;
	slot->tcp = f->pkt->l4 == IPPROTO_TCP;
	slot->split = lay->split && f->len;
	slot->hash = f->hash;
	slot->hash_type = f->hash_type;
	slot->gso_size = f->gso_size;
	slot->gso_segs = f->gso_segs;
	slot->gso_type = f->gso_type;
	slot->wire_packets = f->gso_size ? f->gso_segs : 1;
	if (f->gso_size) {
		/* Each of its frames was good; for the stack it is one to be sent */
		slot->ip_summed = CHECKSUM_PARTIAL;
		slot->csum_start = f->pkt->l4_off;
		slot->csum_offset = offsetof(struct tcphdr, check);
	} else if (!zs_csum(f, &slot->ip_summed, hdr, csum)) {
		q->wire.csum_bad++;
		/*
		 * That is the stack's business, as with real cards, as long as
		 * it can look. What it cannot read it would only warn of.
		 */
		if (zs_unreadable(slot) && !zs_fault_pass_bad(q)) {
			q->wire.drop_csum++;
			zs_slot_put(ring, slot);
			good = false;
		}
	}

	/* The addresses of the buffers have been read */
	smp_store_release(&ring->post_tail, ring->post_tail + taken);
	if (!good)
		return;
	if (hold && slot->ip_summed == CHECKSUM_UNNECESSARY && zs_gro_hold(q, ring, f, slot))
		return;
	/* The slot is complete before the driver sees it */
	smp_store_release(&ring->slot_head, ring->slot_head + 1);
}

/**
 * zs_place() - receive a frame
 * @q: the receive queue
 * @f: the frame
 * @waiter: index of the sender's transmit queue
 *
 * Context: BH disabled, the transmit queue's lock is held.
 * Return: false if the sender has to wait for the queue's NAPI.
 */
bool zs_place(struct zs_queue *q, const struct zs_frame *f, u32 waiter)
{
	bool wait = false, hold;
	struct zs_layout lay;
	struct zs_ring *ring;

	spin_lock(&q->lock);
	ring = q->ring;
	if (!ring) {
		q->wire.drop_down++;
		goto out;
	}

	hold = zs_gro_can(q, f);
	if (zs_gro_receive(q, ring, f, hold))
		goto out;
	hold = hold && zs_gro_first(f);
	zs_gro_age(ring);

	zs_lay_out(q, ring, f, hold, &lay);
	if (lay.need > MAX_SKB_FRAGS) {
		q->wire.drop_frags++;
		goto out;
	}
	if (!zs_reserve(q, ring, lay.need, waiter, &wait)) {
		if (wait)
			q->wire.waits++;
		else
			q->wire.drop_nobuf++;
		goto out;
	}
	zs_fill(q, ring, f, &lay, hold);
out:
	spin_unlock(&q->lock);
	return !wait;
}
