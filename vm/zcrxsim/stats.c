// SPDX-License-Identifier: GPL-2.0
/* Counters: ethtool -S, the netdev family's queue statistics, ip -s. */
#include "zcrxsim.h"
#include "faults.h"

struct zs_stat {
	char	name[ETH_GSTRING_LEN];
	u32	offset;
};

#define ZS_RX(n)	{ "rx_" #n, offsetof(struct zs_queue, rx.n) }
#define ZS_WIRE(n)	{ "rx_" #n, offsetof(struct zs_queue, wire.n) }
#define ZS_TX(n)	{ "tx_" #n, offsetof(struct zs_queue, tx.stats.n) }

static const struct zs_stat zs_stats[] = {
	ZS_RX(packets),
	ZS_RX(bytes),
	ZS_RX(zc_bytes),
	ZS_RX(page_bytes),
	ZS_RX(linear_bytes),
	ZS_RX(other_bytes),
	ZS_RX(split_packets),
	ZS_RX(alloc_fail),
	ZS_RX(skb_alloc_fail),
	ZS_RX(csum_ok),
	ZS_RX(csum_none),
	ZS_RX(gro_packets),
	ZS_RX(gro_bytes),
	ZS_RX(gro_wire_packets),
	ZS_RX(gro_wire_bytes),
	ZS_RX(irqs),
	ZS_WIRE(drop_nobuf),
	ZS_WIRE(drop_down),
	ZS_WIRE(drop_rule),
	ZS_WIRE(drop_nomem),
	ZS_WIRE(drop_frags),
	ZS_WIRE(drop_csum),
	ZS_WIRE(csum_bad),
	ZS_WIRE(waits),
	ZS_TX(packets),
	ZS_TX(bytes),
	ZS_TX(wire_packets),
	ZS_TX(gso_packets),
	ZS_TX(gso_bytes),
	ZS_TX(csum),
	ZS_TX(drops),
	ZS_TX(stop),
	ZS_TX(wake),
};

static u64 zs_stat(const struct zs_queue *q, const struct zs_stat *stat)
{
	return READ_ONCE(*(const u64 *)((const u8 *)q + stat->offset));
}

int zs_stats_count(struct net_device *dev)
{
	return ARRAY_SIZE(zs_stats) * (1 + dev->real_num_rx_queues);
}

void zs_stats_strings(struct net_device *dev, u8 **data)
{
	u32 i, q;

	for (i = 0; i < ARRAY_SIZE(zs_stats); i++)
		ethtool_puts(data, zs_stats[i].name);
	/* rx_bytes of queue 3 is rx3_bytes */
	for (q = 0; q < dev->real_num_rx_queues; q++)
		for (i = 0; i < ARRAY_SIZE(zs_stats); i++)
			ethtool_sprintf(data, "%.2s%u%s", zs_stats[i].name, q,
					zs_stats[i].name + 2);
}

void zs_stats_values(struct net_device *dev, u64 *data)
{
	const struct zs_port *port = zs_port(dev);
	u32 i, q;

	for (i = 0; i < ARRAY_SIZE(zs_stats); i++) {
		*data = 0;
		/* Those of queues that are no more count as well */
		for (q = 0; q < ZS_MAX_QUEUES; q++)
			*data += zs_stat(&port->queue[q], &zs_stats[i]);
		data++;
	}
	for (q = 0; q < dev->real_num_rx_queues; q++)
		for (i = 0; i < ARRAY_SIZE(zs_stats); i++)
			*data++ = zs_stat(&port->queue[q], &zs_stats[i]);
}

static u64 zs_wire_drops(const struct zs_wire_stats *wire)
{
	return READ_ONCE(wire->drop_nobuf) + READ_ONCE(wire->drop_down) +
	       READ_ONCE(wire->drop_rule) + READ_ONCE(wire->drop_nomem) +
	       READ_ONCE(wire->drop_frags) + READ_ONCE(wire->drop_csum);
}

void zs_get_stats64(struct net_device *dev, struct rtnl_link_stats64 *sum)
{
	const struct zs_port *port = zs_port(dev);
	u32 i;

	for (i = 0; i < ZS_MAX_QUEUES; i++) {
		const struct zs_queue *q = &port->queue[i];

		sum->rx_packets += READ_ONCE(q->rx.packets);
		sum->rx_bytes += READ_ONCE(q->rx.bytes);
		sum->rx_dropped += READ_ONCE(q->rx.skb_alloc_fail);
		sum->rx_missed_errors += zs_wire_drops(&q->wire);
		sum->tx_packets += READ_ONCE(q->tx.stats.packets);
		sum->tx_bytes += READ_ONCE(q->tx.stats.bytes);
		sum->tx_dropped += READ_ONCE(q->tx.stats.drops);
	}
}

static void zs_add_rx(const struct zs_queue *q, struct netdev_queue_stats_rx *stats)
{
	stats->packets += q->rx.packets;
	stats->bytes += q->rx.bytes;
	stats->alloc_fail += q->rx.alloc_fail + q->rx.skb_alloc_fail;
	stats->hw_drops += zs_wire_drops(&q->wire);
	stats->hw_drop_overruns += q->wire.drop_nobuf;
	stats->csum_unnecessary += q->rx.csum_ok;
	stats->csum_none += q->rx.csum_none;
	stats->csum_bad += q->wire.csum_bad;
	stats->hw_gro_packets += q->rx.gro_packets;
	stats->hw_gro_bytes += q->rx.gro_bytes;
	stats->hw_gro_wire_packets += q->rx.gro_wire_packets;
	stats->hw_gro_wire_bytes += q->rx.gro_wire_bytes;
}

static void zs_add_tx(const struct zs_queue *q, struct netdev_queue_stats_tx *stats)
{
	const struct zs_tx_stats *tx = &q->tx.stats;

	stats->packets += tx->packets;
	stats->bytes += tx->bytes;
	stats->hw_drops += tx->drops;
	stats->needs_csum += tx->csum;
	stats->hw_gso_packets += tx->gso_packets;
	stats->hw_gso_bytes += tx->gso_bytes;
	stats->hw_gso_wire_packets += tx->gso_wire_packets;
	stats->hw_gso_wire_bytes += tx->gso_wire_bytes;
	stats->stop += tx->stop;
	stats->wake += tx->wake;
}

/* Of what is not set here the stack says nothing, so all starts at zero */
static void zs_zero_rx(struct netdev_queue_stats_rx *stats)
{
	stats->packets = 0;
	stats->bytes = 0;
	stats->alloc_fail = 0;
	stats->hw_drops = 0;
	stats->hw_drop_overruns = 0;
	stats->csum_unnecessary = 0;
	stats->csum_none = 0;
	stats->csum_bad = 0;
	stats->hw_gro_packets = 0;
	stats->hw_gro_bytes = 0;
	stats->hw_gro_wire_packets = 0;
	stats->hw_gro_wire_bytes = 0;
}

static void zs_zero_tx(struct netdev_queue_stats_tx *stats)
{
	stats->packets = 0;
	stats->bytes = 0;
	stats->hw_drops = 0;
	stats->needs_csum = 0;
	stats->hw_gso_packets = 0;
	stats->hw_gso_bytes = 0;
	stats->hw_gso_wire_packets = 0;
	stats->hw_gso_wire_bytes = 0;
	stats->stop = 0;
	stats->wake = 0;
}

static void zs_queue_stats_rx(struct net_device *dev, int idx, struct netdev_queue_stats_rx *stats)
{
	zs_zero_rx(stats);
	zs_add_rx(&zs_port(dev)->queue[idx], stats);
}

static void zs_queue_stats_tx(struct net_device *dev, int idx, struct netdev_queue_stats_tx *stats)
{
	zs_zero_tx(stats);
	zs_add_tx(&zs_port(dev)->queue[idx], stats);
}

static void zs_base_stats(struct net_device *dev, struct netdev_queue_stats_rx *rx,
			  struct netdev_queue_stats_tx *tx)
{
	const struct zs_port *port = zs_port(dev);
	u32 i;

	zs_zero_rx(rx);
	zs_zero_tx(tx);
	for (i = dev->real_num_rx_queues; i < ZS_MAX_QUEUES; i++) {
		zs_add_rx(&port->queue[i], rx);
		zs_add_tx(&port->queue[i], tx);
	}
}

const struct netdev_stat_ops zs_stat_ops = {
	.get_queue_stats_rx	= zs_queue_stats_rx,
	.get_queue_stats_tx	= zs_queue_stats_tx,
	.get_base_stats		= zs_base_stats,
};
