// SPDX-License-Identifier: GPL-2.0
/*
 * The driver's side of a receive queue: its memory, its NAPI, and the
 * operations that let the stack restart one queue with other memory.
 */
#include <linux/etherdevice.h>
#include <linux/ethtool_netlink.h>
#include <linux/filter.h>
#include <net/gro.h>
#include <net/netdev_lock.h>
#include <net/netdev_rx_queue.h>
#include <net/page_pool/helpers.h>

#include "zcrxsim.h"
#include "faults.h"

/* While a change is under way, the new configuration is the one that counts */
bool zs_split(const struct net_device *dev)
{
	switch (dev->cfg_pending->hds_config) {
	case ETHTOOL_TCP_DATA_SPLIT_ENABLED:
		return true;
	case ETHTOOL_TCP_DATA_SPLIT_DISABLED:
		return false;
	default:
		return zs_split_auto;
	}
}

static bool zs_post(struct device *dma, struct zs_ring *ring, gfp_t gfp)
{
	u32 head = ring->post_head;
	netmem_ref netmem;

	netmem = page_pool_alloc_netmems(ring->pool, gfp);
	if (!netmem)
		return false;

	ring->bufs[head & ring->mask].netmem = netmem;
	ring->bufs[head & ring->mask].va = zs_netmem_va(dma, netmem);
	/* The wire sees the buffer before it sees the new head */
	smp_store_release(&ring->post_head, head + 1);
	return true;
}

static u32 zs_room(const struct zs_ring *ring)
{
	/* The wire has copied the address of what it took */
	return ring->size - (ring->post_head - smp_load_acquire(&ring->post_tail));
}

/* Post what is missing, as far as there is memory */
static void zs_refill(struct zs_queue *q, struct zs_ring *ring)
{
	struct device *dma = q->port->dev->dev.parent;
	u32 room = zs_room(ring);

	room = zs_fault_room(q, ring->size - room, room);

	while (room--) {
		if (zs_fault_post(q) ||
		    !zs_post(dma, ring, GFP_ATOMIC | __GFP_NOWARN)) {
			q->rx.alloc_fail++;
			return;
		}
	}
}

static struct page_pool *zs_pool_create(struct zs_port *port, int idx, struct zs_ring *ring)
{
	struct page_pool_params params = {
		.order		= get_order(ring->buf_size),
		.pool_size	= ring->size,
		.nid		= NUMA_NO_NODE,
		.dev		= port->dev->dev.parent,
		.dma_dir	= DMA_FROM_DEVICE,
		.max_len	= ring->buf_size,
		.netdev		= port->dev,
		.queue_idx	= idx,
		.flags		= PP_FLAG_DMA_MAP | PP_FLAG_DMA_SYNC_DEV,
	};

	/* Payload the kernel cannot read is welcome where headers do not mix in */
	if (ring->split && !zs_fault_ignore(&port->queue[idx]))
		params.flags |= PP_FLAG_ALLOW_UNREADABLE_NETMEM;
	return page_pool_create(&params);
}

struct zs_ring *zs_ring_alloc(struct zs_port *port, int idx, u32 rx_size, u32 buf_size)
{
	u32 slots = roundup_pow_of_two(rx_size), room;
	struct zs_ring *ring;
	int err = -ENOMEM;

	ring = kzalloc_obj(*ring);
	if (!ring)
		return ERR_PTR(-ENOMEM);

	ring->size = rx_size;
	ring->mask = slots - 1;
	ring->buf_size = buf_size;
	ring->split = zs_split(port->dev);
	ring->hds_thresh = port->dev->cfg_pending->hds_thresh;

	ring->bufs = kvcalloc(slots, sizeof(*ring->bufs), GFP_KERNEL);
	ring->slots = kvcalloc(slots, sizeof(*ring->slots), GFP_KERNEL);
	if (!ring->bufs || !ring->slots || zs_gro_alloc(ring))
		goto free;

	ring->pool = zs_pool_create(port, idx, ring);
	if (IS_ERR(ring->pool)) {
		err = PTR_ERR(ring->pool);
		goto free;
	}

	err = zs_xdp_ring_init(port, idx, ring);
	if (err) {
		page_pool_destroy(ring->pool);
		goto free;
	}

	/*
	 * Not all may be there: the queue's last ring may still hold them. The
	 * NAPI posts the rest.
	 */
	room = zs_fault_room(&port->queue[idx], 0, rx_size);
	while (room--)
		if (!zs_post(port->dev->dev.parent, ring, GFP_KERNEL | __GFP_NOWARN))
			break;
	return ring;

free:
	kfree(ring->gro);
	kvfree(ring->slots);
	kvfree(ring->bufs);
	kfree(ring);
	return ERR_PTR(err);
}

void zs_ring_free(struct zs_ring *ring)
{
	u32 i;

	if (!ring)
		return;

	zs_gro_free(ring);
	for (i = ring->slot_tail; i != ring->slot_head; i++)
		zs_slot_put(ring, &ring->slots[i & ring->mask]);
	for (i = ring->post_tail; i != ring->post_head; i++)
		page_pool_put_full_netmem(ring->pool, ring->bufs[i & ring->mask].netmem, false);
	if (ring->open.netmem)
		page_pool_put_full_netmem(ring->pool, ring->open.netmem, false);

	zs_xdp_ring_free(ring);
	page_pool_destroy(ring->pool);
	kvfree(ring->slots);
	kvfree(ring->bufs);
	kfree(ring);
}

/* Receive */

static void zs_rx_csum(struct zs_queue *q, const struct zs_slot *slot, struct sk_buff *skb)
{
	if (slot->ip_summed == CHECKSUM_PARTIAL) {
		skb->ip_summed = CHECKSUM_PARTIAL;
		skb->csum_start = skb_headroom(skb) + slot->csum_start;
		skb->csum_offset = slot->csum_offset;
		q->rx.csum_ok++;
	} else if (slot->ip_summed == CHECKSUM_UNNECESSARY &&
		   (q->port->dev->features & NETIF_F_RXCSUM || zs_unreadable(slot))) {
		/* What the stack cannot read it cannot verify, whatever was asked for */
		skb->ip_summed = CHECKSUM_UNNECESSARY;
		q->rx.csum_ok++;
	} else {
		skb_checksum_none_assert(skb);
		q->rx.csum_none++;
	}
}

static void zs_rx_count_payload(struct zs_queue *q, const struct zs_slot *slot)
{
	int i;

	/* Neighbour discovery and its like come along; the books are of TCP */
	if (!slot->tcp) {
		q->rx.other_bytes += slot->payload;
		for (i = 0; i < slot->nr_frags; i++)
			q->rx.other_bytes += slot->frags[i].len;
		return;
	}

	q->rx.linear_bytes += slot->payload;
	for (i = 0; i < slot->nr_frags; i++) {
		if (netmem_is_net_iov(slot->frags[i].netmem))
			q->rx.zc_bytes += slot->frags[i].len;
		else
			q->rx.page_bytes += slot->frags[i].len;
	}
}

static void zs_rx_count(struct zs_queue *q, const struct zs_slot *slot)
{
	u32 len = slot->linear;
	int i;

	for (i = 0; i < slot->nr_frags; i++)
		len += slot->frags[i].len;
	/* In frames as they were on the wire, as the peer counts them */
	q->rx.packets += slot->wire_packets;
	q->rx.bytes += len;
	q->rx.split_packets += slot->split;
	zs_rx_count_payload(q, slot);
	if (slot->gso_size) {
		q->rx.gro_packets++;
		q->rx.gro_bytes += len;
		q->rx.gro_wire_packets += slot->gso_segs;
		q->rx.gro_wire_bytes += len + (slot->gso_segs - 1) * slot->hdr_len;
	}
}

static void zs_rx_drop(struct zs_ring *ring, const struct zs_slot *slot)
{
	int i;

	for (i = 0; i < slot->nr_frags; i++)
		page_pool_put_full_netmem(ring->pool, slot->frags[i].netmem, true);
}

/* Little payload is copied, so that a socket is not charged for a whole buffer */
static bool zs_copybreak(const struct zs_ring *ring, const struct zs_slot *slot)
{
	return !ring->split && slot->nr_frags == 1 && slot->frags[0].len <= ZS_COPYBREAK;
}

static struct sk_buff *zs_rx_skb(struct zs_queue *q, struct zs_ring *ring, struct zs_slot *slot)
{
	bool copy = zs_copybreak(ring, slot);
	struct sk_buff *skb;
	int i;

	skb = zs_fault_skb(q) ? NULL :
	      napi_alloc_skb(&q->napi, slot->linear + (copy ? slot->frags[0].len : 0));
	if (!skb) {
		q->rx.skb_alloc_fail++;
		zs_rx_drop(ring, slot);
		kfree(slot->big);
		return NULL;
	}

	skb_put_data(skb, slot->big ?: slot->hdr, slot->linear);
	kfree(slot->big);
	for (i = 0; i < slot->nr_frags; i++) {
		const struct zs_frag *frag = &slot->frags[i];

		page_pool_dma_sync_netmem_for_cpu(ring->pool, frag->netmem, frag->off, frag->len);
		if (!copy) {
			skb_add_rx_frag_netmem(skb, i, frag->netmem, frag->off, frag->len,
					       frag->truesize);
			continue;
		}
		skb_put_data(skb, netmem_address(frag->netmem) + frag->off, frag->len);
		page_pool_put_full_netmem(ring->pool, frag->netmem, true);
	}
	skb_mark_for_recycle(skb);
	skb_record_rx_queue(skb, q->idx);
	if (slot->gso_size) {
		skb_shinfo(skb)->gso_size = slot->gso_size;
		skb_shinfo(skb)->gso_segs = slot->gso_segs;
		skb_shinfo(skb)->gso_type = slot->gso_type;
	}
	if (slot->gso_size && slot->gso_type & (SKB_GSO_IPXIP4 | SKB_GSO_IPXIP6)) {
		skb->encapsulation = 1;
		skb_set_inner_network_header(skb, slot->inner_off);
		skb_set_inner_transport_header(skb, slot->csum_start);
	}
	zs_rx_csum(q, slot, skb);
	skb->protocol = eth_type_trans(skb, q->port->dev);
	return skb;
}

/*
 * Software GRO does not look at whether the host can read what it merges
 * (skb_gro_receive() of 7.3): behind payload that lies beside the headers it
 * hangs payload that nobody can read, and TCP then copies from what is no page.
 * So all payload that comes this way is told to be unreadable, wherever it is.
 */
static void zs_rx_mind_gro(const struct zs_ring *ring, const struct zs_slot *slot,
			   struct sk_buff *skb)
{
	if (slot->tcp && slot->payload && page_pool_is_unreadable(ring->pool))
		skb->unreadable = true;
}

static void zs_rx_one(struct zs_queue *q, struct zs_ring *ring, struct zs_slot *slot)
{
	struct bpf_prog *prog = READ_ONCE(q->port->xdp_prog);
	struct sk_buff *skb;

	zs_rx_count(q, slot);
	/* What was merged before there was a program is not for it */
	if (prog && !slot->gso_size)
		skb = zs_xdp_run(q, ring, slot, prog);
	else
		skb = zs_rx_skb(q, ring, slot);
	if (!skb)
		return;
	if (q->port->dev->features & NETIF_F_RXHASH && slot->hash_type != PKT_HASH_TYPE_NONE)
		skb_set_hash(skb, slot->hash, slot->hash_type);
	zs_rx_mind_gro(ring, slot, skb);
	napi_gro_receive(&q->napi, skb);
}

/* Senders that found the rings full try again, on their own cards' NAPIs */
static void zs_wake_waiters(struct zs_queue *q)
{
	struct zs_queue *waiter;
	unsigned long i;

	/* Pairs with the barrier in zs_reserve() */
	smp_mb();
	if (bitmap_empty(q->waiters, ZS_MAX_QUEUES))
		return;
	for_each_set_bit(i, q->waiters, ZS_MAX_QUEUES) {
		if (!test_and_clear_bit(i, q->waiters))
			continue;
		waiter = &q->port->peer->queue[i];
		set_bit(ZS_Q_TX_KICK, &waiter->flags);
		zs_irq_raise(waiter);
	}
}

static bool zs_has_work(const struct zs_queue *q, const struct zs_ring *ring)
{
	return READ_ONCE(ring->slot_head) != ring->slot_tail ||
	       test_bit(ZS_Q_TX_KICK, &q->flags);
}

static int zs_poll(struct napi_struct *napi, int budget)
{
	struct zs_queue *q = container_of(napi, struct zs_queue, napi);
	struct zs_ring *ring = q->ring;
	u32 head, tail = ring->slot_tail;
	int done = 0;

	if (test_and_clear_bit(ZS_Q_TX_KICK, &q->flags))
		zs_tx_pump(q);
	/* What GRO still holds is of the last ring, and perhaps of other memory */
	if (test_and_clear_bit(ZS_Q_FRESH, &q->flags))
		napi_gro_flush(napi, false);

	/* Slots up to here are complete */
	head = smp_load_acquire(&ring->slot_head);
	while (done < budget && tail != head) {
		zs_rx_one(q, ring, &ring->slots[tail++ & ring->mask]);
		done++;
	}

	if (q->xdp_redirected) {
		q->xdp_redirected = false;
		xdp_do_flush();
	}

	/*
	 * New buffers first: a sender that finds no slot in use and too few
	 * buffers shall know that the driver has none.
	 */
	zs_refill(q, ring);
	/* The slots have been read */
	smp_store_release(&ring->slot_tail, tail);
	zs_wake_waiters(q);

	if (done < budget && napi_complete_done(napi, done)) {
		zs_irq_arm(q);
		if (zs_has_work(q, ring))
			zs_irq_raise(q);
	}
	return done;
}

/* Up and down */

void zs_queue_init(struct zs_port *port, int idx)
{
	struct zs_queue *q = &port->queue[idx];

	q->port = port;
	q->idx = idx;
	spin_lock_init(&q->lock);
	spin_lock_init(&q->tx.lock);
	__skb_queue_head_init(&q->tx.ring);
	zs_irq_init(q);
	zs_gro_init(q);
}

/* Let the NAPI have a look: it may have buffers to post or senders to wake */
void zs_queue_kick(struct zs_queue *q)
{
	local_bh_disable();
	zs_irq_raise(q);
	local_bh_enable();
}

void zs_queue_start(struct zs_queue *q, struct zs_ring *ring)
{
	page_pool_enable_direct_recycling(ring->pool, &q->napi);
	spin_lock_bh(&q->lock);
	WRITE_ONCE(q->ring, ring);
	spin_unlock_bh(&q->lock);
	set_bit(ZS_Q_FRESH, &q->flags);
	napi_enable_locked(&q->napi);
	zs_irq_start(q);
	zs_irq_arm(q);
	zs_queue_kick(q);
}

struct zs_ring *zs_queue_stop(struct zs_queue *q)
{
	struct zs_ring *ring = q->ring;

	napi_disable_locked(&q->napi);
	spin_lock_bh(&q->lock);
	WRITE_ONCE(q->ring, NULL);
	spin_unlock_bh(&q->lock);
	zs_gro_stop(q);
	/* The last poll may still be on its way out, with this ring in hand */
	zs_irq_stop(q);
	page_pool_disable_direct_recycling(ring->pool);
	return ring;
}

void zs_queue_up(struct zs_queue *q, struct zs_ring *ring)
{
	struct net_device *dev = q->port->dev;

	netif_napi_add_config_locked(dev, &q->napi, zs_poll, q->idx);
	zs_irq_request(q);
	zs_queue_start(q, ring);
	netif_queue_set_napi(dev, q->idx, NETDEV_QUEUE_TYPE_RX, &q->napi);
	netif_queue_set_napi(dev, q->idx, NETDEV_QUEUE_TYPE_TX, &q->napi);
}

struct zs_ring *zs_queue_down(struct zs_queue *q)
{
	struct net_device *dev = q->port->dev;
	struct zs_ring *ring;

	netif_queue_set_napi(dev, q->idx, NETDEV_QUEUE_TYPE_TX, NULL);
	netif_queue_set_napi(dev, q->idx, NETDEV_QUEUE_TYPE_RX, NULL);
	ring = zs_queue_stop(q);
	zs_fault_flush(q);
	local_bh_disable();
	zs_wake_waiters(q);
	local_bh_enable();
	zs_irq_free(q);
	netif_napi_del_locked(&q->napi);
	zs_tx_purge(q);
	return ring;
}

/* Queue management */

/* What the stack hands around as the memory of a queue */
struct zs_mem {
	struct zs_port	*port;
	struct zs_ring	*ring;
	int		idx;
	bool		old;	/* was in use: back it goes if the new one cannot start */
};

static int zs_mem_alloc(struct net_device *dev, struct netdev_queue_config *qcfg,
			void *per_queue_mem, int idx)
{
	struct zs_port *port = zs_port(dev);
	struct zs_mem *mem = per_queue_mem;
	struct zs_ring *ring;
	int err;

	err = zs_fault_mem(&port->queue[idx]);
	if (err)
		return err;
	ring = zs_ring_alloc(port, idx, port->rx_size, qcfg->rx_page_size);
	if (IS_ERR(ring))
		return PTR_ERR(ring);
	mem->port = port;
	mem->ring = ring;
	mem->idx = idx;
	return 0;
}

static void zs_mem_free(struct net_device *dev, void *per_queue_mem)
{
	struct zs_mem *mem = per_queue_mem;

	zs_ring_free(mem->ring);
	/* The new ring may have lacked what this one held */
	if (mem->port)
		zs_queue_kick(&mem->port->queue[mem->idx]);
}

static int zs_mem_start(struct net_device *dev, struct netdev_queue_config *qcfg,
			void *per_queue_mem, int idx)
{
	struct zs_queue *q = &zs_port(dev)->queue[idx];
	struct zs_mem *mem = per_queue_mem;
	int err;

	err = mem->old ? 0 : zs_fault_start(q);
	if (err)
		return err;
	zs_queue_start(q, mem->ring);
	return 0;
}

static int zs_mem_stop(struct net_device *dev, void *per_queue_mem, int idx)
{
	struct zs_mem *mem = per_queue_mem;

	mem->port = zs_port(dev);
	mem->ring = zs_queue_stop(&mem->port->queue[idx]);
	mem->idx = idx;
	mem->old = true;
	return 0;
}

static void zs_default_qcfg(struct net_device *dev, struct netdev_queue_config *qcfg)
{
	qcfg->rx_page_size = PAGE_SIZE;
}

static int zs_validate_qcfg(struct net_device *dev, struct netdev_queue_config *qcfg,
			    struct netlink_ext_ack *extack)
{
	if (!is_power_of_2(qcfg->rx_page_size) || qcfg->rx_page_size < PAGE_SIZE ||
	    qcfg->rx_page_size > ZS_MAX_BUF) {
		NL_SET_ERR_MSG_MOD(extack, "rx_page_size is a power of two up to 64 KiB");
		return -EINVAL;
	}
	return 0;
}

u32 zs_queue_buf_size(struct zs_port *port, int idx)
{
	struct netdev_queue_config qcfg;

	netdev_queue_config(port->dev, idx, &qcfg);
	return qcfg.rx_page_size;
}

const struct netdev_queue_mgmt_ops zs_queue_ops = {
	.ndo_queue_mem_size	= sizeof(struct zs_mem),
	.ndo_queue_mem_alloc	= zs_mem_alloc,
	.ndo_queue_mem_free	= zs_mem_free,
	.ndo_queue_start	= zs_mem_start,
	.ndo_queue_stop		= zs_mem_stop,
	.ndo_default_qcfg	= zs_default_qcfg,
	.ndo_validate_qcfg	= zs_validate_qcfg,
	.supported_params	= QCFG_RX_PAGE_SIZE,
};
