// SPDX-License-Identifier: GPL-2.0
/*
 * The sending card and the wire: a ring of skbs for each transmit queue, cut
 * into frames unless the receiver takes them whole (rx-gro-hw).
 */
#include "zcrxsim.h"
#include "faults.h"

/* The receiver aggregates what fits one skb of it, as cards with GRO do */
static bool zs_whole(const struct zs_queue *q, const struct sk_buff *skb, u32 hdr_len)
{
	const struct zs_ring *ring = READ_ONCE(q->ring);

	if (!(q->port->dev->features & NETIF_F_GRO_HW) || !ring || zs_fault_frames(q))
		return false;
	if (skb_shinfo(skb)->gso_type & ~(SKB_GSO_TCPV4 | SKB_GSO_TCPV6 | SKB_GSO_TCP_ECN))
		return false;
	return DIV_ROUND_UP(skb->len - hdr_len, ring->buf_size) < MAX_SKB_FRAGS &&
	       DIV_ROUND_UP(skb->len - hdr_len, ring->buf_size) <= ring->size;
}

/* Write the headers of the segment that starts at @off of the payload */
static void zs_segment(u8 *hdr, const struct zs_pkt *pkt, u32 off, u32 len, u32 nr, bool last)
{
	struct tcphdr *th = (struct tcphdr *)(hdr + pkt->l4_off);
	u32 l3_len = pkt->hdr_len - pkt->l3_off + len;

	if (pkt->l3 == 4) {
		struct iphdr *ih = (struct iphdr *)(hdr + pkt->l3_off);

		ih->tot_len = htons(l3_len);
		ih->id = htons(ntohs(ih->id) + nr);
		ih->check = 0;
		ih->check = ip_fast_csum(ih, ih->ihl);
	} else {
		struct ipv6hdr *ih = (struct ipv6hdr *)(hdr + pkt->l3_off);

		ih->payload_len = htons(l3_len - sizeof(*ih));
	}

	if (pkt->l4 == IPPROTO_UDP) {
		struct udphdr *uh = (struct udphdr *)(hdr + pkt->l4_off);

		uh->len = htons(sizeof(*uh) + len);
		return;
	}

	th->seq = htonl(ntohl(th->seq) + off);
	if (off)
		th->cwr = 0;
	if (!last) {
		th->fin = 0;
		th->psh = 0;
	}
}

/* A short frame may be padded; what is behind the IP packet is not sent on */
static u32 zs_payload_len(const struct sk_buff *skb, const struct zs_pkt *pkt)
{
	u32 end = skb->len;

	if (pkt->l3 == 4)
		end = pkt->l3_off + ntohs(((struct iphdr *)(skb->data + pkt->l3_off))->tot_len);
	else if (pkt->l3 == 6)
		end = pkt->l3_off + sizeof(struct ipv6hdr) +
		      ntohs(((struct ipv6hdr *)(skb->data + pkt->l3_off))->payload_len);
	if (end > skb->len || end < pkt->hdr_len)
		return U32_MAX;
	return end - pkt->hdr_len;
}

static bool zs_send_one(struct zs_queue *txq, struct zs_queue *rxq, struct sk_buff *skb)
{
	struct zs_txq *tx = &txq->tx;
	struct zs_frame f = {
		.skb		= skb,
		.pkt		= &tx->pkt,
		.draw		= &tx->draw,
		.hdr		= skb->data,
		.hdr_len	= tx->pkt.hdr_len,
		.hash		= tx->hash,
		.hash_type	= tx->hash_type,
		.fill_csum	= skb->ip_summed == CHECKSUM_PARTIAL,
	};

	if (!tx->pkt.l4)
		f.hdr_len = ETH_HLEN;
	f.off = f.hdr_len;
	f.len = tx->pkt.l4 ? zs_payload_len(skb, &tx->pkt) : skb->len - f.hdr_len;
	if (f.len == U32_MAX) {
		tx->stats.drops++;
		return true;
	}
	if (!zs_fault_place(rxq, &f, txq->idx))
		return false;
	tx->stats.wire_packets++;
	return true;
}

static bool zs_send_gso(struct zs_queue *txq, struct zs_queue *rxq, struct sk_buff *skb)
{
	struct zs_txq *tx = &txq->tx;
	u32 mss = skb_shinfo(skb)->gso_size;
	u32 total = skb->len - tx->pkt.hdr_len;
	struct zs_frame f = {
		.skb		= skb,
		.pkt		= &tx->pkt,
		.draw		= &tx->draw,
		.hdr		= tx->hdr,
		.hdr_len	= tx->pkt.hdr_len,
		.hash		= tx->hash,
		.hash_type	= tx->hash_type,
		.fill_csum	= true,
	};

	if (!tx->sent && total > mss && zs_whole(rxq, skb, f.hdr_len)) {
		f.hdr = skb->data;
		f.off = f.hdr_len;
		f.len = total;
		f.gso_size = mss;
		f.gso_segs = DIV_ROUND_UP(total, mss);
		f.gso_type = skb_shinfo(skb)->gso_type;
		if (!zs_fault_place(rxq, &f, txq->idx))
			return false;
		tx->stats.wire_packets += f.gso_segs;
		tx->stats.gso_wire_packets += f.gso_segs;
		tx->stats.gso_wire_bytes += total + f.gso_segs * f.hdr_len;
		return true;
	}

	while (tx->sent < total) {
		f.off = f.hdr_len + tx->sent;
		f.len = min(mss, total - tx->sent);
		memcpy(tx->hdr, skb->data, f.hdr_len);
		zs_segment(tx->hdr, &tx->pkt, tx->sent, f.len, tx->segs, tx->sent + f.len == total);
		if (!zs_fault_place(rxq, &f, txq->idx))
			return false;
		tx->sent += f.len;
		tx->segs++;
		tx->stats.wire_packets++;
		tx->stats.gso_wire_packets++;
		tx->stats.gso_wire_bytes += f.len + f.hdr_len;
	}
	return true;
}

/* Returns false if the head of the ring has to wait */
static bool zs_send(struct zs_queue *txq, struct sk_buff *skb)
{
	struct zs_port *peer = txq->port->peer;
	struct zs_txq *tx = &txq->tx;
	struct zs_queue *rxq;
	bool done;

	if (!tx->parsed) {
		zs_parse(skb->data, skb_headlen(skb), &tx->pkt);
		tx->rxq = zs_steer(peer, &tx->pkt, &tx->hash, &tx->hash_type);
		zs_parse_tunnel(skb->data, skb_headlen(skb), &tx->pkt);
		tx->sent = 0;
		tx->segs = 0;
		tx->draw.drawn = false;
		tx->parsed = true;
	}
	if (zs_fault_link_down(peer)) {
		tx->stats.drops++;
		return true;
	}
	if (zs_mac_control(skb))
		return true;
	if (tx->rxq < 0) {
		spin_lock(&peer->queue[0].lock);
		peer->queue[0].wire.drop_rule++;
		spin_unlock(&peer->queue[0].lock);
		return true;
	}

	rxq = &peer->queue[tx->rxq];
	if (skb_is_gso(skb))
		done = zs_send_gso(txq, rxq, skb);
	else
		done = zs_send_one(txq, rxq, skb);
	zs_irq_raise(rxq);
	return done;
}

static void zs_tx_sent(struct zs_txq *tx, const struct sk_buff *skb)
{
	u32 segs = skb_is_gso(skb) ? skb_shinfo(skb)->gso_segs : 1;

	zs_mac_sent(tx, skb);
	tx->stats.packets += segs;
	tx->stats.bytes += skb->len;
	if (skb_is_gso(skb)) {
		tx->stats.gso_packets++;
		tx->stats.gso_bytes += skb->len;
	}
	if (skb->ip_summed == CHECKSUM_PARTIAL)
		tx->stats.csum++;
}

/* Send what is in the ring. Caller holds the queue's lock. */
static void zs_tx_run(struct zs_queue *q)
{
	struct netdev_queue *txq = netdev_get_tx_queue(q->port->dev, q->idx);
	struct zs_txq *tx = &q->tx;
	u64 drops = tx->stats.drops;
	u32 packets = 0, bytes = 0;
	struct sk_buff *skb;

	while ((skb = skb_peek(&tx->ring)) && zs_send(q, skb)) {
		__skb_unlink(skb, &tx->ring);
		tx->parsed = false;
		if (tx->stats.drops == drops)
			zs_tx_sent(tx, skb);
		drops = tx->stats.drops;
		packets++;
		bytes += skb->len;
		dev_consume_skb_any(skb);
	}

	if (packets)
		netdev_tx_completed_queue(txq, packets, bytes);
	if (tx->stopped && skb_queue_len(&tx->ring) <= q->port->tx_size / 2) {
		tx->stopped = false;
		tx->stats.wake++;
		netif_tx_wake_queue(txq);
	}
}

/* From the NAPI: a receive queue that was full has room again */
void zs_tx_pump(struct zs_queue *q)
{
	spin_lock(&q->tx.lock);
	zs_tx_run(q);
	spin_unlock(&q->tx.lock);
}

void zs_tx_purge(struct zs_queue *q)
{
	struct zs_txq *tx = &q->tx;

	spin_lock_bh(&tx->lock);
	tx->stats.drops += skb_queue_len(&tx->ring);
	__skb_queue_purge(&tx->ring);
	tx->parsed = false;
	tx->stopped = false;
	netdev_tx_reset_queue(netdev_get_tx_queue(q->port->dev, q->idx));
	spin_unlock_bh(&tx->lock);
}

/* The parser looks at the linear part only; few senders put headers elsewhere */
static void zs_parse_skb(struct sk_buff *skb, struct zs_pkt *pkt)
{
	zs_parse(skb->data, skb_headlen(skb), pkt);
	if (!pkt->l4 && skb_is_nonlinear(skb) &&
	    pskb_may_pull(skb, min(skb->len, ZS_HDR_MAX)))
		zs_parse(skb->data, skb_headlen(skb), pkt);
}

/* Does the card know how to segment and to sum this? It sums itself if not. */
static bool zs_can_send(struct sk_buff *skb)
{
	struct zs_pkt pkt;

	if (skb->len < ETH_HLEN)
		return false;
	zs_parse_skb(skb, &pkt);
	if (skb_is_gso(skb))
		return pkt.l4;
	if (skb->ip_summed != CHECKSUM_PARTIAL)
		return true;
	if (pkt.l4 && skb_checksum_start_offset(skb) == pkt.l4_off)
		return true;
	return !skb_checksum_help(skb);
}

/* From a NAPI, of XDP: a frame that is lost if there is no room for it */
void zs_xmit_napi(struct zs_queue *q, struct sk_buff *skb)
{
	struct netdev_queue *txq = netdev_get_tx_queue(q->port->dev, q->idx);
	struct zs_txq *tx = &q->tx;
	bool room;

	__netif_tx_lock(txq, smp_processor_id());
	spin_lock(&tx->lock);
	room = skb_queue_len(&tx->ring) < q->port->tx_size && zs_can_send(skb);
	if (room) {
		__skb_queue_tail(&tx->ring, skb);
		netdev_tx_sent_queue(txq, skb->len);
		zs_tx_run(q);
	} else {
		tx->stats.drops++;
	}
	spin_unlock(&tx->lock);
	__netif_tx_unlock(txq);
	if (!room)
		dev_kfree_skb_any(skb);
}

netdev_tx_t zs_start_xmit(struct sk_buff *skb, struct net_device *dev)
{
	struct zs_port *port = zs_port(dev);
	struct zs_queue *q = &port->queue[skb_get_queue_mapping(skb)];
	struct netdev_queue *txq = netdev_get_tx_queue(dev, q->idx);
	bool kick = !netdev_xmit_more(), good;
	struct zs_txq *tx = &q->tx;

	good = zs_can_send(skb);
	skb_tx_timestamp(skb);

	spin_lock(&tx->lock);
	if (good && skb_queue_len(&tx->ring) >= port->tx_size) {
		tx->stopped = true;
		netif_tx_stop_queue(txq);
		spin_unlock(&tx->lock);
		return NETDEV_TX_BUSY;
	}
	if (good) {
		__skb_queue_tail(&tx->ring, skb);
		kick |= __netdev_tx_sent_queue(txq, skb->len, !kick);
	} else {
		tx->stats.drops++;
	}
	if (skb_queue_len(&tx->ring) >= port->tx_size) {
		tx->stopped = true;
		tx->stats.stop++;
		netif_tx_stop_queue(txq);
		kick = true;
	}
	if (kick)
		zs_tx_run(q);
	spin_unlock(&tx->lock);

	if (!good)
		dev_kfree_skb_any(skb);
	return NETDEV_TX_OK;
}
