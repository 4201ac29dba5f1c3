// SPDX-License-Identifier: GPL-2.0
/*
 * The MAC as ethtool sees it: standard statistics, pause frames, FEC. What one
 * end has sent the other has received, be it that a fault takes it away then.
 */
#include <linux/etherdevice.h>

#include "zcrxsim.h"

#define ZS_FEC_BLOCK		642	/* payload of an RS(544, 514) block, in bytes */

static const struct ethtool_rmon_hist_range zs_rmon_ranges[] = {
	{    0,    64 },
	{   65,   127 },
	{  128,   255 },
	{  256,   511 },
	{  512,  1023 },
	{ 1024,  1518 },
	{ 1519,  9216 },
	{ 9217, 65535 },
	{}
};

static_assert(ARRAY_SIZE(zs_rmon_ranges) == ZS_MAC_HIST + 1);

static void zs_mac_count_size(struct zs_mac_stats *mac, u32 len, u32 frames)
{
	int i;

	for (i = 0; i < ZS_MAC_HIST - 1 && len > zs_rmon_ranges[i].high; i++)
		;
	mac->hist[i] += frames;
	mac->frames += frames;
	mac->octets += (u64)len * frames;
}

/* An skb has been sent. Caller holds the transmit queue's lock. */
void zs_mac_sent(struct zs_txq *tx, const struct sk_buff *skb)
{
	const struct ethhdr *eth = (const struct ethhdr *)skb->data;
	struct zs_mac_stats *mac = &tx->mac;
	u32 frames = 1;

	if (skb_is_gso(skb)) {
		u32 hdr_len = tx->pkt.hdr_len, size = skb_shinfo(skb)->gso_size;
		u32 full = (skb->len - hdr_len) / size, rest = (skb->len - hdr_len) % size;

		zs_mac_count_size(mac, hdr_len + size + ETH_FCS_LEN, full);
		if (rest)
			zs_mac_count_size(mac, hdr_len + rest + ETH_FCS_LEN, 1);
		frames = full + !!rest;
	} else {
		zs_mac_count_size(mac, skb->len + ETH_FCS_LEN, 1);
	}
	if (is_broadcast_ether_addr(eth->h_dest))
		mac->broadcast += frames;
	else if (is_multicast_ether_addr(eth->h_dest))
		mac->multicast += frames;
	if (eth->h_proto == htons(ETH_P_PAUSE)) {
		mac->control++;
		if (skb->len >= ETH_HLEN + 2 && get_unaligned_be16(skb->data + ETH_HLEN) == 1)
			mac->pause++;
	}
}

/* The end of pause and other control frames is here */
bool zs_mac_control(const struct sk_buff *skb)
{
	return ((const struct ethhdr *)skb->data)->h_proto == htons(ETH_P_PAUSE);
}

/* All queues of a port, those that are no more among them */
static void zs_mac_sum(const struct zs_port *port, struct zs_mac_stats *sum)
{
	const struct zs_mac_stats *mac;
	u32 i, j;

	memset(sum, 0, sizeof(*sum));
	for (i = 0; i < ZS_MAX_QUEUES; i++) {
		mac = &port->queue[i].tx.mac;
		sum->frames += READ_ONCE(mac->frames);
		sum->octets += READ_ONCE(mac->octets);
		sum->broadcast += READ_ONCE(mac->broadcast);
		sum->multicast += READ_ONCE(mac->multicast);
		sum->control += READ_ONCE(mac->control);
		sum->pause += READ_ONCE(mac->pause);
		for (j = 0; j < ZS_MAC_HIST; j++)
			sum->hist[j] += READ_ONCE(mac->hist[j]);
	}
}

void zs_get_eth_mac_stats(struct net_device *dev, struct ethtool_eth_mac_stats *stats)
{
	struct zs_mac_stats tx, rx;

	zs_mac_sum(zs_port(dev), &tx);
	zs_mac_sum(zs_port(dev)->peer, &rx);
	memset(&stats->stats, 0, sizeof(stats->stats));
	stats->FramesTransmittedOK = tx.frames;
	stats->OctetsTransmittedOK = tx.octets;
	stats->BroadcastFramesXmittedOK = tx.broadcast;
	stats->MulticastFramesXmittedOK = tx.multicast;
	stats->FramesReceivedOK = rx.frames;
	stats->OctetsReceivedOK = rx.octets;
	stats->BroadcastFramesReceivedOK = rx.broadcast;
	stats->MulticastFramesReceivedOK = rx.multicast;
}

void zs_get_eth_ctrl_stats(struct net_device *dev, struct ethtool_eth_ctrl_stats *stats)
{
	struct zs_mac_stats tx, rx;

	zs_mac_sum(zs_port(dev), &tx);
	zs_mac_sum(zs_port(dev)->peer, &rx);
	stats->MACControlFramesTransmitted = tx.control;
	stats->MACControlFramesReceived = rx.control;
	stats->UnsupportedOpcodesReceived = rx.control - rx.pause;
}

void zs_get_rmon_stats(struct net_device *dev, struct ethtool_rmon_stats *stats,
		       const struct ethtool_rmon_hist_range **ranges)
{
	struct zs_mac_stats tx, rx;
	u32 i;

	zs_mac_sum(zs_port(dev), &tx);
	zs_mac_sum(zs_port(dev)->peer, &rx);
	memset(&stats->stats, 0, sizeof(stats->stats));
	for (i = 0; i < ZS_MAC_HIST; i++) {
		stats->hist[i] = rx.hist[i];
		stats->hist_tx[i] = tx.hist[i];
	}
	*ranges = zs_rmon_ranges;
}

/* How often this port had the other one wait */
static u64 zs_waits(const struct zs_port *port)
{
	u64 waits = 0;
	u32 i;

	for (i = 0; i < ZS_MAX_QUEUES; i++)
		waits += READ_ONCE(port->queue[i].wire.waits);
	return waits;
}

void zs_get_pause_stats(struct net_device *dev, struct ethtool_pause_stats *stats)
{
	struct zs_port *port = zs_port(dev);
	struct zs_mac_stats tx, rx;

	zs_mac_sum(port, &tx);
	zs_mac_sum(port->peer, &rx);
	stats->tx_pause_frames = tx.pause + zs_waits(port);
	stats->rx_pause_frames = rx.pause + zs_waits(port->peer);
}

void zs_get_pauseparam(struct net_device *dev, struct ethtool_pauseparam *pause)
{
	const struct zs_port *port = zs_port(dev);

	pause->autoneg = AUTONEG_DISABLE;
	pause->rx_pause = port->rx_pause;
	pause->tx_pause = port->tx_pause;
}

int zs_set_pauseparam(struct net_device *dev, struct ethtool_pauseparam *pause)
{
	struct zs_port *port = zs_port(dev);

	if (pause->autoneg)
		return -EOPNOTSUPP;
	WRITE_ONCE(port->rx_pause, pause->rx_pause);
	WRITE_ONCE(port->tx_pause, pause->tx_pause);
	return 0;
}

/* May this port stop the other one? */
bool zs_may_pause(const struct zs_port *port)
{
	return READ_ONCE(port->tx_pause) && READ_ONCE(port->peer->rx_pause);
}

int zs_get_fecparam(struct net_device *dev, struct ethtool_fecparam *fec)
{
	fec->fec = ETHTOOL_FEC_RS;
	fec->active_fec = ETHTOOL_FEC_RS;
	return 0;
}

/* A wire in memory has no bit errors: all blocks are in the first bin */
void zs_get_fec_stats(struct net_device *dev, struct ethtool_fec_stats *stats,
		      struct ethtool_fec_hist *hist)
{
	static const struct ethtool_fec_hist_range ranges[] = { { 0, 0 }, { 1, 15 }, {} };
	struct zs_mac_stats rx;

	zs_mac_sum(zs_port(dev)->peer, &rx);
	stats->corrected_blocks.total = 0;
	stats->uncorrectable_blocks.total = 0;
	hist->ranges = ranges;
	hist->values[0].sum = div_u64(rx.octets, ZS_FEC_BLOCK);
	hist->values[1].sum = 0;
}
