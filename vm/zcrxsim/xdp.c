// SPDX-License-Identifier: GPL-2.0
/*
 * XDP in the driver. A program gets each frame in a buffer of its own, with the
 * headers and as much of the payload as fits there; the rest are fragments.
 */
#include <linux/bpf.h>
#include <linux/bpf_trace.h>
#include <linux/filter.h>
#include <net/netdev_lock.h>
#include <net/page_pool/helpers.h>
#include <net/xdp.h>

#include "zcrxsim.h"

#define ZS_XDP_ROOM(size)	((size) - XDP_PACKET_HEADROOM - \
				 SKB_DATA_ALIGN(sizeof(struct skb_shared_info)))

/* What a program without support for fragments can be given */
#define ZS_XDP_MAX_MTU		(ZS_XDP_ROOM(PAGE_SIZE) - ETH_HLEN - VLAN_HLEN)

struct zs_xdp {
	struct xdp_buff		buff;	/* the program's context: comes first */
	const struct zs_slot	*slot;
};

/* Of a ring that is being made. Memory the kernel cannot read is never shown. */
int zs_xdp_ring_init(struct zs_port *port, int idx, struct zs_ring *ring)
{
	int err;

	if (page_pool_is_unreadable(ring->pool))
		return 0;
	err = __xdp_rxq_info_reg(&ring->xdp_rxq, port->dev, idx, 0, ring->buf_size);
	if (err)
		return err;
	err = xdp_rxq_info_reg_mem_model(&ring->xdp_rxq, MEM_TYPE_PAGE_POOL, ring->pool);
	if (err)
		xdp_rxq_info_unreg(&ring->xdp_rxq);
	return err;
}

void zs_xdp_ring_free(struct zs_ring *ring)
{
	if (xdp_rxq_info_is_reg(&ring->xdp_rxq))
		xdp_rxq_info_unreg(&ring->xdp_rxq);
}

static void zs_xdp_add_frag(struct xdp_buff *xdp, netmem_ref netmem, u32 off, u32 len,
			    u32 truesize)
{
	struct skb_shared_info *sinfo = xdp_get_shared_info_from_buff(xdp);

	skb_frag_fill_netmem_desc(&sinfo->frags[sinfo->nr_frags++], netmem, off, len);
	sinfo->xdp_frags_size += len;
	sinfo->xdp_frags_truesize += truesize;
	xdp_buff_set_frags_flag(xdp);
}

/* What was linear and is too long for one buffer goes to more of them */
static bool zs_xdp_spill(struct zs_ring *ring, struct xdp_buff *xdp, const u8 *data, u32 len)
{
	struct page *page;
	u32 n;

	for (; len; data += n, len -= n) {
		n = min(len, ring->buf_size);
		page = page_pool_dev_alloc_pages(ring->pool);
		if (!page)
			return false;
		memcpy(page_address(page), data, n);
		zs_xdp_add_frag(xdp, page_to_netmem(page), 0, n, ring->buf_size);
	}
	return true;
}

/* Payload that does not fit beside the headers; what did fit is given back */
static void zs_xdp_frags(struct zs_ring *ring, struct zs_slot *slot, struct xdp_buff *xdp,
			 u32 room)
{
	u32 i, n;

	for (i = 0; i < slot->nr_frags; i++) {
		const struct zs_frag *frag = &slot->frags[i];

		n = min(room, frag->len);
		page_pool_dma_sync_netmem_for_cpu(ring->pool, frag->netmem, frag->off, frag->len);
		memcpy(xdp->data_end, netmem_address(frag->netmem) + frag->off, n);
		xdp->data_end += n;
		room -= n;
		if (n == frag->len)
			page_pool_put_full_netmem(ring->pool, frag->netmem, true);
		else
			zs_xdp_add_frag(xdp, frag->netmem, frag->off + n, frag->len - n,
					frag->truesize);
	}
}

static bool zs_xdp_fill(struct zs_ring *ring, struct zs_slot *slot, struct zs_xdp *ctx)
{
	struct page *page = page_pool_dev_alloc_pages(ring->pool);
	u32 room = ZS_XDP_ROOM(ring->buf_size);
	u32 n = min(room, slot->linear);
	struct xdp_buff *xdp = &ctx->buff;
	const u8 *data = slot->big ?: slot->hdr;
	struct skb_shared_info *sinfo;

	if (!page)
		return false;
	ctx->slot = slot;
	xdp_init_buff(xdp, ring->buf_size, &ring->xdp_rxq);
	xdp_prepare_buff(xdp, page_address(page), XDP_PACKET_HEADROOM, n, true);
	sinfo = xdp_get_shared_info_from_buff(xdp);
	memset(sinfo, 0, offsetof(struct skb_shared_info, frags));

	memcpy(xdp->data, data, n);
	if (!zs_xdp_spill(ring, xdp, data + n, slot->linear - n)) {
		xdp_return_buff(xdp);
		return false;
	}
	zs_xdp_frags(ring, slot, xdp, room - n);
	return true;
}

static void zs_xdp_tx(struct zs_queue *q, struct xdp_buff *xdp)
{
	struct sk_buff *skb = xdp_build_skb_from_buff(xdp);

	if (!skb) {
		xdp_return_buff(xdp);
		return;
	}
	skb_push(skb, ETH_HLEN);
	zs_xmit_napi(q, skb);
}

/**
 * zs_xdp_run() - show a frame to the program
 * @q: the receive queue
 * @ring: its ring
 * @slot: the frame; what it holds is given away
 * @prog: the program
 *
 * Return: an skb for the stack, or NULL.
 */
struct sk_buff *zs_xdp_run(struct zs_queue *q, struct zs_ring *ring, struct zs_slot *slot,
			   struct bpf_prog *prog)
{
	struct net_device *dev = q->port->dev;
	struct sk_buff *skb = NULL;
	struct zs_xdp ctx;
	u32 act;

	if (!zs_xdp_fill(ring, slot, &ctx)) {
		q->rx.skb_alloc_fail++;
		zs_slot_put(ring, slot);
		return NULL;
	}

	/* The other end may send longer frames than this one's MTU tells */
	if (xdp_buff_has_frags(&ctx.buff) && !prog->aux->xdp_has_frags) {
		trace_xdp_exception(dev, prog, XDP_ABORTED);
		xdp_return_buff(&ctx.buff);
		kfree(slot->big);
		return NULL;
	}

	act = bpf_prog_run_xdp(prog, &ctx.buff);
	switch (act) {
	case XDP_PASS:
		skb = xdp_build_skb_from_buff(&ctx.buff);
		if (!skb)
			xdp_return_buff(&ctx.buff);
		break;
	case XDP_TX:
		zs_xdp_tx(q, &ctx.buff);
		break;
	case XDP_REDIRECT:
		if (xdp_do_redirect(dev, &ctx.buff, prog)) {
			trace_xdp_exception(dev, prog, act);
			xdp_return_buff(&ctx.buff);
		} else {
			q->xdp_redirected = true;
		}
		break;
	default:
		bpf_warn_invalid_xdp_action(dev, prog, act);
		fallthrough;
	case XDP_ABORTED:
		trace_xdp_exception(dev, prog, act);
		fallthrough;
	case XDP_DROP:
		xdp_return_buff(&ctx.buff);
		break;
	}
	kfree(slot->big);
	return skb;
}

/* Frames that other cards were told to send here */
int zs_xdp_xmit(struct net_device *dev, int n, struct xdp_frame **frames, u32 flags)
{
	struct zs_port *port = zs_port(dev);
	struct sk_buff *skb;
	int i;

	if (flags & ~XDP_XMIT_FLAGS_MASK)
		return -EINVAL;
	if (!netif_running(dev) || !netif_carrier_ok(dev))
		return -ENETDOWN;

	for (i = 0; i < n; i++) {
		skb = xdp_build_skb_from_frame(frames[i], dev);
		if (!skb)
			break;
		skb_push(skb, ETH_HLEN);
		zs_xmit_napi(&port->queue[smp_processor_id() % dev->real_num_tx_queues], skb);
	}
	return i;
}

static int zs_xdp_set(struct net_device *dev, struct bpf_prog *prog,
		      struct netlink_ext_ack *extack)
{
	struct zs_port *port = zs_port(dev);
	struct bpf_prog *old;

	if (prog && !prog->aux->xdp_has_frags && dev->mtu > ZS_XDP_MAX_MTU) {
		NL_SET_ERR_MSG_MOD(extack, "the MTU is too large for a program without fragments");
		return -EOPNOTSUPP;
	}
	old = xchg(&port->xdp_prog, prog);
	/* What the card merges is too large for a program */
	netdev_update_features(dev);
	if (old)
		bpf_prog_put(old);
	return 0;
}

int zs_bpf(struct net_device *dev, struct netdev_bpf *bpf)
{
	if (bpf->command != XDP_SETUP_PROG)
		return -EOPNOTSUPP;
	return zs_xdp_set(dev, bpf->prog, bpf->extack);
}

int zs_change_mtu(struct net_device *dev, int mtu)
{
	const struct bpf_prog *prog = zs_port(dev)->xdp_prog;

	if (prog && !prog->aux->xdp_has_frags && mtu > ZS_XDP_MAX_MTU)
		return -EINVAL;
	WRITE_ONCE(dev->mtu, mtu);
	return 0;
}

static int zs_xdp_rx_hash(const struct xdp_md *md, u32 *hash, enum xdp_rss_hash_type *type)
{
	const struct zs_slot *slot = ((const struct zs_xdp *)md)->slot;
	const struct ethhdr *eth = (const struct ethhdr *)(slot->big ?: slot->hdr);

	if (slot->hash_type == PKT_HASH_TYPE_NONE)
		return -ENODATA;
	*hash = slot->hash;
	if (slot->hash_type == PKT_HASH_TYPE_L4)
		*type = XDP_RSS_TYPE_L4_ANY;
	else if (eth->h_proto == htons(ETH_P_IPV6))
		*type = XDP_RSS_TYPE_L3_IPV6;
	else
		*type = XDP_RSS_TYPE_L3_IPV4;
	return 0;
}

const struct xdp_metadata_ops zs_xdp_metadata_ops = {
	.xmo_rx_hash	= zs_xdp_rx_hash,
};
