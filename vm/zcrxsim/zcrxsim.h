/* SPDX-License-Identifier: GPL-2.0 */
/*
 * zcrxsim: a simulated network card for io_uring zero-copy receive.
 *
 * A pair of cards is linked back to back. Each end (a port) has queues; each
 * queue has a ring of posted buffers, a ring of completions and a NAPI. The
 * sender's CPU plays the wire and the DMA engine: it cuts frames, copies their
 * payload to the DMA addresses of posted buffers, writes a completion and
 * raises the queue's interrupt. The receiver's NAPI does what a driver does:
 * it builds skbs from completions and posts new buffers.
 */
#ifndef ZCRXSIM_H
#define ZCRXSIM_H

#include <linux/bitmap.h>
#include <linux/ethtool.h>
#include <linux/hrtimer.h>
#include <linux/if_vlan.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/netdevice.h>
#include <linux/platform_device.h>
#include <linux/skbuff.h>
#include <linux/smp.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <linux/workqueue.h>
#include <net/netdev_queues.h>
#include <net/netmem.h>
#include <net/page_pool/types.h>
#include <net/xdp.h>

#define ZS_NAME			"zcrxsim"

#define ZS_MAX_QUEUES		66
#define ZS_MIN_RING		4
#define ZS_MAX_RING		16384
#define ZS_DEFAULT_RING		512
#define ZS_MAX_BUF		SZ_64K

/* A header slot; also how much of an unsplit frame goes to the linear part */
#define ZS_HDR_MAX		256
#define ZS_HDS_THRESH_MAX	1024
#define ZS_COPYBREAK		256

#define ZS_RSS_ENTRIES		512	/* at least four times the queues */
#define ZS_RSS_KEY		52	/* what is hashed and four bytes at least */
#define ZS_RSS_CONTEXTS		64	/* without the default one */
#define ZS_RULES		1024

struct irq_domain;
struct zs_faults;
struct zs_gro;
struct zs_port;
struct zs_queue;

/* One posted buffer. A free one has no owner but the card. */
struct zs_buf {
	netmem_ref	netmem;
	u8		*va;
};

struct zs_frag {
	netmem_ref	netmem;
	u32		off;
	u32		len;
	u32		truesize;
};

/* A completion: what the card tells the driver about a frame */
struct zs_slot {
	u8		hdr[ZS_HDR_MAX];
	u8		*big;		/* instead of hdr if that is too small */
	u32		linear;		/* bytes for the linear part */
	u32		payload;	/* of the linear bytes, those behind the headers */
	u32		wire_packets;
	u32		hash;
	u32		gso_type;
	u16		gso_size;
	u16		gso_segs;
	u16		hdr_len;
	u16		inner_off;	/* of the inner IP header, if there is a tunnel */
	u16		csum_start;
	u16		csum_offset;
	u8		hash_type;
	u8		ip_summed;
	u8		tcp:1;
	u8		split:1;
	u8		nr_frags;
	struct zs_frag	frags[MAX_SKB_FRAGS];
};

/*
 * The memory of a receive queue. Both rings have one producer and one consumer:
 * the queue's NAPI and whoever holds the queue's lock.
 */
struct zs_ring {
	struct page_pool *pool;
	u32		size;		/* buffers posted at most, slots in use at most */
	u32		mask;
	u32		buf_size;
	u32		hds_thresh;
	bool		split;

	u32		post_head;	/* NAPI posts buffers */
	u32		slot_tail;	/* NAPI frees slots */
	u32		post_tail ____cacheline_aligned;	/* wire takes buffers */
	u32		slot_head;	/* wire fills slots */
	struct zs_frag	open;		/* a buffer being packed; len is what is used */
	u8		*open_va;

	struct zs_gro	*gro;		/* aggregates that are not slots yet */
	struct xdp_rxq_info xdp_rxq;
	struct zs_buf	*bufs;
	struct zs_slot	*slots;
};

/* Written by the queue's NAPI */
struct zs_rx_stats {
	u64	packets;
	u64	bytes;
	u64	zc_bytes;		/* TCP payload in memory of a provider */
	u64	page_bytes;		/* TCP payload in pages of the kernel */
	u64	linear_bytes;		/* TCP payload beside the headers */
	u64	other_bytes;		/* payload of all else, wherever it is */
	u64	split_packets;
	u64	alloc_fail;
	u64	skb_alloc_fail;
	u64	csum_ok;
	u64	csum_none;
	u64	gro_packets;
	u64	gro_bytes;
	u64	gro_wire_packets;
	u64	gro_wire_bytes;
	u64	irqs;
};

/* Written by the wire under the queue's lock */
struct zs_wire_stats {
	u64	drop_nobuf;
	u64	drop_down;
	u64	drop_rule;
	u64	drop_nomem;
	u64	drop_frags;		/* longer than an skb takes */
	u64	drop_csum;		/* of csum_bad those that are not passed on */
	u64	csum_bad;
	u64	waits;
};

/* Written under the transmit queue's lock */
struct zs_tx_stats {
	u64	packets;
	u64	bytes;
	u64	wire_packets;
	u64	gso_packets;
	u64	gso_bytes;
	u64	gso_wire_packets;
	u64	gso_wire_bytes;
	u64	csum;
	u64	drops;
	u64	stop;
	u64	wake;
};

#define ZS_MAC_HIST		8

/* What has left a port, written under the transmit queue's lock */
struct zs_mac_stats {
	u64	frames;
	u64	octets;
	u64	broadcast;
	u64	multicast;
	u64	control;
	u64	pause;
	u64	hist[ZS_MAC_HIST];	/* by size, checksum included */
};

/* What the parser found in a frame */
struct zs_pkt {
	u8	l3;		/* 4, 6 or 0 */
	u8	l4;		/* IPPROTO_TCP, IPPROTO_UDP or 0: ports are valid */
	u8	proto;		/* of the IP header */
	u16	eth_type;
	u16	outer_off;	/* of the first IP header */
	u16	l3_off;		/* of the last one */
	u16	l4_off;
	u16	hdr_len;	/* up to the payload of TCP or UDP */
	__be16	sport;
	__be16	dport;
	__be32	flow_label;	/* of IPv6 */
	__be32	saddr[4];
	__be32	daddr[4];
};

/* The faults of a frame, drawn once even if it is tried again */
struct zs_draw {
	bool	drawn;
	u32	mask;
	u32	random;
};

/* A frame on its way: headers to be written, payload to be copied */
struct zs_frame {
	const struct sk_buff	*skb;
	const struct zs_pkt	*pkt;
	struct zs_draw		*draw;
	u8			*hdr;
	u32			hdr_len;
	u32			off;	/* of the payload in skb */
	u32			len;
	u32			hash;
	u8			hash_type;
	u32			gso_type;
	u16			gso_size;
	u16			gso_segs;
	bool			fill_csum;	/* else it is there and is verified */
};

struct zs_txq {
	spinlock_t		lock;	/* all below */
	struct sk_buff_head	ring;
	bool			parsed;	/* the head: pkt, rxq, hash are valid */
	bool			stopped;
	struct zs_pkt		pkt;
	int			rxq;
	u32			hash;
	enum pkt_hash_types	hash_type;
	u32			sent;	/* payload bytes of the head already sent */
	u32			segs;
	struct zs_draw		draw;
	struct zs_tx_stats	stats;
	struct zs_mac_stats	mac;
	u8			hdr[ZS_HDR_MAX];
};

enum zs_queue_flags {
	ZS_Q_LIVE,		/* between start and stop */
	ZS_Q_ARMED,		/* the card may interrupt */
	ZS_Q_TX_KICK,		/* a receive queue has room again */
	ZS_Q_FRESH,		/* started, and not polled since */
};

struct zs_queue {
	struct zs_port		*port;
	u16			idx;
	struct napi_struct	napi;
	unsigned long		flags;
	int			irq;	/* 0: none */
	int			cpu;	/* where it is delivered */
	call_single_data_t	csd;
	atomic_t		in_flight;	/* IPIs that are on their way */
	char			irq_name[IFNAMSIZ + 8];
	bool			xdp_redirected;	/* in this poll */

	struct zs_rx_stats	rx;

	spinlock_t		lock ____cacheline_aligned;	/* the wire's side */
	struct zs_ring		*ring;	/* NULL: down */
	struct zs_wire_stats	wire;
	struct zs_faults	*faults;
	struct hrtimer		gro_timer;
	/* transmit queues of the peer that wait for this queue's NAPI */
	DECLARE_BITMAP(waiters, ZS_MAX_QUEUES);

	struct zs_txq		tx;
};

enum zs_flow {
	ZS_FLOW_TCP4, ZS_FLOW_UDP4, ZS_FLOW_IP4,
	ZS_FLOW_TCP6, ZS_FLOW_UDP6, ZS_FLOW_IP6,
	ZS_FLOW_COUNT
};

/* An RSS context; replaced as a whole, so that the wire sees old or new */
struct zs_rss {
	struct rcu_head	rcu;
	u32		indir[ZS_RSS_ENTRIES];
	u8		key[ZS_RSS_KEY];
	u8		hfunc;
	u8		xfrm;
	u32		fields[ZS_FLOW_COUNT];
};

struct zs_rule {
	struct ethtool_rx_flow_spec	fs;
	u32				context;
};

/* All rules by rising location, replaced as a whole as well */
struct zs_rules {
	struct rcu_head	rcu;
	u32		count;
	struct zs_rule	rule[] __counted_by(count);
};

struct zs_port {
	struct net_device	*dev;
	struct zs_port		*peer;	/* lives exactly as long as this one */
	u32			rx_size;
	u32			tx_size;
	u32			priv_flags;
	bool			rx_pause;	/* it can be stopped by the other end */
	bool			tx_pause;	/* it stops the other end */
	struct zs_rss __rcu	*rss[1 + ZS_RSS_CONTEXTS];
	struct zs_rules __rcu	*rules;
	struct bpf_prog		*xdp_prog;	/* the NAPI reads it under RCU */
	struct dentry		*dir;
	struct delayed_work	flap_work;
	bool			flap;
	struct irq_domain	*irqs;
	struct zs_queue		queue[ZS_MAX_QUEUES];
};

#define ZS_PRIV_PACK		BIT(0)

struct zs_pair {
	int			id;
	struct zs_port		*port[2];
};

static inline struct zs_port *zs_port(struct net_device *dev)
{
	return netdev_priv(dev);
}

extern bool zs_split_auto;

/* netdev.c */
struct zs_port *zs_port_create(struct device *parent, int id, int end, u32 queues);
void zs_port_destroy(struct zs_port *port);
void zs_carrier_update(struct zs_port *port);
int zs_set_queues(struct zs_port *port, u32 count);
int zs_set_rings(struct zs_port *port, u32 rx_size, u32 tx_size);

/* queue.c */
extern const struct netdev_queue_mgmt_ops zs_queue_ops;

bool zs_split(const struct net_device *dev);
struct zs_ring *zs_ring_alloc(struct zs_port *port, int idx, u32 rx_size, u32 buf_size);
void zs_ring_free(struct zs_ring *ring);
u32 zs_queue_buf_size(struct zs_port *port, int idx);
void zs_queue_init(struct zs_port *port, int idx);
void zs_queue_up(struct zs_queue *q, struct zs_ring *ring);
struct zs_ring *zs_queue_down(struct zs_queue *q);
void zs_queue_start(struct zs_queue *q, struct zs_ring *ring);
struct zs_ring *zs_queue_stop(struct zs_queue *q);
void zs_queue_kick(struct zs_queue *q);

/* wire.c */
netdev_tx_t zs_start_xmit(struct sk_buff *skb, struct net_device *dev);
void zs_tx_pump(struct zs_queue *q);
void zs_tx_purge(struct zs_queue *q);
void zs_xmit_napi(struct zs_queue *q, struct sk_buff *skb);

/* place.c */
void *zs_netmem_va(struct device *dma, netmem_ref netmem);
void zs_copy(struct device *dma, const struct sk_buff *skb, u32 off,
	     u8 *dst, u32 len, u32 pos, __wsum *csum);
bool zs_has_room(const struct zs_ring *ring, u32 slots, u32 bufs);
void zs_add_frag(struct zs_slot *slot, netmem_ref netmem, u32 off, u32 len, u32 truesize);
bool zs_csum(const struct zs_frame *f, u8 *ip_summed, u8 *hdr, __wsum payload);
bool zs_unreadable(const struct zs_slot *slot);
void zs_slot_put(struct zs_ring *ring, struct zs_slot *slot);
void zs_flatten(struct zs_queue *q, const struct zs_frame *f, u8 *dst);
bool zs_place(struct zs_queue *q, const struct zs_frame *f, u32 waiter);

/* gro.c */
int zs_gro_alloc(struct zs_ring *ring);
void zs_gro_free(struct zs_ring *ring);
void zs_gro_init(struct zs_queue *q);
void zs_gro_stop(struct zs_queue *q);
u32 zs_gro_held(const struct zs_ring *ring);
void zs_gro_flush(struct zs_ring *ring);
void zs_gro_age(struct zs_ring *ring);
bool zs_gro_can(const struct zs_queue *q, const struct zs_frame *f);
bool zs_gro_first(const struct zs_frame *f);
bool zs_gro_receive(struct zs_queue *q, struct zs_ring *ring, const struct zs_frame *f, bool can);
bool zs_gro_hold(struct zs_queue *q, struct zs_ring *ring, const struct zs_frame *f,
		 const struct zs_slot *slot);

/* xdp.c */
extern const struct xdp_metadata_ops zs_xdp_metadata_ops;

int zs_xdp_ring_init(struct zs_port *port, int idx, struct zs_ring *ring);
void zs_xdp_ring_free(struct zs_ring *ring);
struct sk_buff *zs_xdp_run(struct zs_queue *q, struct zs_ring *ring, struct zs_slot *slot,
			   struct bpf_prog *prog);
int zs_xdp_xmit(struct net_device *dev, int n, struct xdp_frame **frames, u32 flags);
int zs_bpf(struct net_device *dev, struct netdev_bpf *bpf);
int zs_change_mtu(struct net_device *dev, int mtu);

/* irq.c */
int zs_irqs_create(struct zs_port *port);
void zs_irqs_destroy(struct zs_port *port);
void zs_irq_init(struct zs_queue *q);
void zs_irq_request(struct zs_queue *q);
void zs_irq_free(struct zs_queue *q);
void zs_irq_start(struct zs_queue *q);
void zs_irq_arm(struct zs_queue *q);
void zs_irq_stop(struct zs_queue *q);
void zs_irq_raise(struct zs_queue *q);

/* parse.c */
void zs_parse(const u8 *data, u32 len, struct zs_pkt *pkt);
void zs_parse_tunnel(const u8 *data, u32 len, struct zs_pkt *pkt);

/* steer.c */
int zs_steer(struct zs_port *port, const struct zs_pkt *pkt, u32 *hash,
	     enum pkt_hash_types *type);

/* rss.c */
int zs_rss_init(struct zs_port *port);
void zs_rss_free(struct zs_port *port);
void zs_rss_spread(struct zs_port *port, u32 queues);
u32 zs_rss_last(struct zs_port *port, u32 context);
u32 zs_get_rxfh_key_size(struct net_device *dev);
u32 zs_get_rxfh_indir_size(struct net_device *dev);
int zs_get_rxfh(struct net_device *dev, struct ethtool_rxfh_param *rxfh);
int zs_set_rxfh(struct net_device *dev, struct ethtool_rxfh_param *rxfh,
		struct netlink_ext_ack *extack);
int zs_get_rxfh_fields(struct net_device *dev, struct ethtool_rxfh_fields *fields);
int zs_set_rxfh_fields(struct net_device *dev, const struct ethtool_rxfh_fields *fields,
		       struct netlink_ext_ack *extack);
int zs_create_rxfh_context(struct net_device *dev, struct ethtool_rxfh_context *ctx,
			   const struct ethtool_rxfh_param *rxfh,
			   struct netlink_ext_ack *extack);
int zs_modify_rxfh_context(struct net_device *dev, struct ethtool_rxfh_context *ctx,
			   const struct ethtool_rxfh_param *rxfh,
			   struct netlink_ext_ack *extack);
int zs_remove_rxfh_context(struct net_device *dev, struct ethtool_rxfh_context *ctx,
			   u32 context, struct netlink_ext_ack *extack);

/* ntuple.c */
int zs_get_rxnfc(struct net_device *dev, struct ethtool_rxnfc *info, u32 *locs);
int zs_set_rxnfc(struct net_device *dev, struct ethtool_rxnfc *info);
void zs_rules_flush(struct zs_port *port);
bool zs_rule_match(const struct zs_rule *rule, const struct zs_pkt *pkt);

/* ethtool.c */
extern const struct ethtool_ops zs_ethtool_ops;

/* mac.c */
void zs_mac_sent(struct zs_txq *tx, const struct sk_buff *skb);
bool zs_mac_control(const struct sk_buff *skb);
bool zs_may_pause(const struct zs_port *port);
void zs_get_eth_mac_stats(struct net_device *dev, struct ethtool_eth_mac_stats *stats);
void zs_get_eth_ctrl_stats(struct net_device *dev, struct ethtool_eth_ctrl_stats *stats);
void zs_get_rmon_stats(struct net_device *dev, struct ethtool_rmon_stats *stats,
		       const struct ethtool_rmon_hist_range **ranges);
void zs_get_pause_stats(struct net_device *dev, struct ethtool_pause_stats *stats);
void zs_get_pauseparam(struct net_device *dev, struct ethtool_pauseparam *pause);
int zs_set_pauseparam(struct net_device *dev, struct ethtool_pauseparam *pause);
int zs_get_fecparam(struct net_device *dev, struct ethtool_fecparam *fec);
void zs_get_fec_stats(struct net_device *dev, struct ethtool_fec_stats *stats,
		      struct ethtool_fec_hist *hist);

/* stats.c */
extern const struct netdev_stat_ops zs_stat_ops;

void zs_get_stats64(struct net_device *dev, struct rtnl_link_stats64 *sum);
int zs_stats_count(struct net_device *dev);
void zs_stats_strings(struct net_device *dev, u8 **data);
void zs_stats_values(struct net_device *dev, u64 *data);

#endif
