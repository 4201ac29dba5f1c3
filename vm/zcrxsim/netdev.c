// SPDX-License-Identifier: GPL-2.0
/* One end of a pair as a net device. */
#include <linux/etherdevice.h>
#include <linux/rtnetlink.h>
#include <net/netdev_lock.h>
#include <net/netdev_queues.h>
#include <net/netdev_rx_queue.h>

#include "zcrxsim.h"
#include "faults.h"

#define ZS_FEATURES	(NETIF_F_SG | NETIF_F_HW_CSUM | NETIF_F_RXCSUM | \
			 NETIF_F_TSO | NETIF_F_TSO6 | NETIF_F_TSO_ECN | \
			 NETIF_F_GSO_UDP_L4)
#define ZS_HW_FEATURES	(ZS_FEATURES | NETIF_F_RXHASH | NETIF_F_GRO_HW | NETIF_F_NTUPLE)

static void zs_carrier(struct zs_port *port, bool up)
{
	if (up && netif_running(port->peer->dev) && !zs_fault_link_down(port)) {
		netif_carrier_on(port->dev);
		netif_carrier_on(port->peer->dev);
	} else {
		netif_carrier_off(port->dev);
		netif_carrier_off(port->peer->dev);
	}
}

void zs_carrier_update(struct zs_port *port)
{
	zs_carrier(port, netif_running(port->dev));
}

/* Rings for the queues from @from to @to, or none at all */
static int zs_rings_alloc(struct zs_port *port, struct zs_ring **rings, u32 from, u32 to,
			  u32 rx_size)
{
	u32 i;

	for (i = from; i < to; i++) {
		rings[i] = zs_ring_alloc(port, i, rx_size, zs_queue_buf_size(port, i));
		if (IS_ERR(rings[i])) {
			int err = PTR_ERR(rings[i]);

			while (i-- > from)
				zs_ring_free(rings[i]);
			return err;
		}
	}
	return 0;
}

static void zs_queues_up(struct zs_port *port, struct zs_ring **rings, u32 from, u32 to)
{
	u32 i;

	for (i = from; i < to; i++)
		zs_queue_up(&port->queue[i], rings[i]);
}

static void zs_queues_down(struct zs_port *port, u32 from, u32 to)
{
	u32 i;

	for (i = from; i < to; i++)
		zs_ring_free(zs_queue_down(&port->queue[i]));
}

static int zs_open(struct net_device *dev)
{
	struct zs_port *port = zs_port(dev);
	u32 count = dev->real_num_rx_queues;
	struct zs_ring **rings;
	int err;

	rings = kcalloc(count, sizeof(*rings), GFP_KERNEL);
	if (!rings)
		return -ENOMEM;
	err = zs_rings_alloc(port, rings, 0, count, port->rx_size);
	if (!err) {
		zs_queues_up(port, rings, 0, count);
		netif_tx_start_all_queues(dev);
		zs_carrier(port, true);
	}
	kfree(rings);
	return err;
}

static int zs_stop(struct net_device *dev)
{
	struct zs_port *port = zs_port(dev);

	zs_carrier(port, false);
	netif_tx_disable(dev);
	zs_queues_down(port, 0, dev->real_num_rx_queues);
	return 0;
}

/* Channels. The caller holds rtnl, for the number of queues. */
int zs_set_queues(struct zs_port *port, u32 count)
{
	struct net_device *dev = port->dev;
	u32 old = dev->real_num_rx_queues;
	struct zs_ring **rings = NULL;
	int err = 0;

	if (count == old)
		return 0;

	if (netif_running(dev) && count > old) {
		rings = kcalloc(count, sizeof(*rings), GFP_KERNEL);
		if (!rings)
			return -ENOMEM;
		err = zs_rings_alloc(port, rings, old, count, port->rx_size);
		if (err)
			goto out;
	}

	/* The hash must not point at queues that go away */
	if (count < old)
		zs_rss_spread(port, count);
	err = netif_set_real_num_queues(dev, count, count);
	if (err) {
		zs_rss_spread(port, old);
		while (rings && count-- > old)
			zs_ring_free(rings[count]);
		goto out;
	}

	if (netif_running(dev)) {
		if (count > old) {
			zs_queues_up(port, rings, old, count);
			netif_tx_wake_all_queues(dev);
		} else {
			zs_queues_down(port, count, old);
		}
	}
	if (count > old)
		zs_rss_spread(port, count);
out:
	kfree(rings);
	return err;
}

/* Ring sizes, header split: all queues get new memory, or none */
int zs_set_rings(struct zs_port *port, u32 rx_size, u32 tx_size)
{
	struct net_device *dev = port->dev;
	u32 count = dev->real_num_rx_queues, i;
	struct zs_ring **rings, *old;
	int err;

	if (!netif_running(dev))
		goto done;

	rings = kcalloc(count, sizeof(*rings), GFP_KERNEL);
	if (!rings)
		return -ENOMEM;
	err = zs_rings_alloc(port, rings, 0, count, rx_size);
	if (err) {
		kfree(rings);
		return err;
	}

	for (i = 0; i < count; i++) {
		old = zs_queue_stop(&port->queue[i]);
		zs_queue_start(&port->queue[i], rings[i]);
		zs_ring_free(old);
		zs_queue_kick(&port->queue[i]);
	}
	kfree(rings);
done:
	port->rx_size = rx_size;
	port->tx_size = tx_size;
	return 0;
}

static netdev_features_t zs_fix_features(struct net_device *dev, netdev_features_t features)
{
	u32 i;

	/* A program gets frames as they are on the wire */
	if (zs_port(dev)->xdp_prog)
		features &= ~NETIF_F_GRO_HW;
	/* Nobody could verify payload that the kernel cannot read */
	for (i = 0; i < dev->real_num_rx_queues; i++)
		if (netif_rxq_has_unreadable_mp(dev, i))
			features |= NETIF_F_RXCSUM;
	return features;
}

static int zs_set_features(struct net_device *dev, netdev_features_t features)
{
	if (!(features & NETIF_F_NTUPLE))
		zs_rules_flush(zs_port(dev));
	return 0;
}

/* The card's parser is not told of extension headers that it does not get past */
static bool zs_can_segment(const struct sk_buff *skb)
{
	if (skb_transport_offset(skb) > ZS_HDR_MAX - 15 * 4)
		return false;
	if (vlan_get_protocol(skb) != htons(ETH_P_IPV6))
		return true;
	return ipv6_hdr(skb)->nexthdr == IPPROTO_TCP || ipv6_hdr(skb)->nexthdr == IPPROTO_UDP;
}

static netdev_features_t zs_features_check(struct sk_buff *skb, struct net_device *dev,
					   netdev_features_t features)
{
	/* Tunnels are for the stack: the card looks at the outer headers only */
	if (skb->encapsulation)
		features &= ~(NETIF_F_CSUM_MASK | NETIF_F_GSO_MASK);
	else if (skb_is_gso(skb) && !zs_can_segment(skb))
		features &= ~NETIF_F_GSO_MASK;
	return vlan_features_check(skb, features);
}

static const struct net_device_ops zs_netdev_ops = {
	.ndo_open		= zs_open,
	.ndo_stop		= zs_stop,
	.ndo_start_xmit		= zs_start_xmit,
	.ndo_get_stats64	= zs_get_stats64,
	.ndo_fix_features	= zs_fix_features,
	.ndo_set_features	= zs_set_features,
	.ndo_features_check	= zs_features_check,
	.ndo_change_mtu		= zs_change_mtu,
	.ndo_bpf		= zs_bpf,
	.ndo_xdp_xmit		= zs_xdp_xmit,
	.ndo_set_mac_address	= eth_mac_addr,
	.ndo_validate_addr	= eth_validate_addr,
};

static void zs_setup(struct net_device *dev)
{
	ether_setup(dev);
	dev->netdev_ops = &zs_netdev_ops;
	dev->ethtool_ops = &zs_ethtool_ops;
	dev->queue_mgmt_ops = &zs_queue_ops;
	dev->stat_ops = &zs_stat_ops;
	dev->xdp_metadata_ops = &zs_xdp_metadata_ops;
	dev->xdp_features = NETDEV_XDP_ACT_BASIC | NETDEV_XDP_ACT_REDIRECT |
			    NETDEV_XDP_ACT_RX_SG | NETDEV_XDP_ACT_NDO_XMIT |
			    NETDEV_XDP_ACT_NDO_XMIT_SG;
	dev->netmem_tx = NETMEM_TX_DMA;
	dev->priv_flags |= IFF_LIVE_ADDR_CHANGE;
	/* An skb waits in a list of ours until the other end has room */
	dev->priv_flags &= ~IFF_TX_SKB_SHARING;
	dev->min_mtu = ETH_MIN_MTU;
	dev->max_mtu = ETH_MAX_MTU;
	dev->hw_features = ZS_HW_FEATURES;
	dev->features = ZS_HW_FEATURES | NETIF_F_HIGHDMA;
	dev->vlan_features = ZS_FEATURES | NETIF_F_HIGHDMA;
}

struct zs_port *zs_port_create(struct device *parent, int id, int end, u32 queues)
{
	u8 addr[ETH_ALEN] = { 0x02, 'z', 'c', id >> 8, id, end };
	struct net_device *dev;
	char name[IFNAMSIZ];
	struct zs_port *port;
	int err, i;

	snprintf(name, sizeof(name), "zcrx%d", 2 * id + end);
	dev = alloc_netdev_mqs(sizeof(*port), name, NET_NAME_ENUM, zs_setup,
			       ZS_MAX_QUEUES, ZS_MAX_QUEUES);
	if (!dev)
		return ERR_PTR(-ENOMEM);

	SET_NETDEV_DEV(dev, parent);
	netdev_lockdep_set_classes(dev);
	dev->dev_port = end;
	eth_hw_addr_set(dev, addr);

	port = zs_port(dev);
	port->dev = dev;
	port->rx_size = ZS_DEFAULT_RING;
	port->tx_size = ZS_DEFAULT_RING;
	port->rx_pause = true;
	port->tx_pause = true;
	for (i = 0; i < ZS_MAX_QUEUES; i++)
		zs_queue_init(port, i);

	err = zs_faults_alloc(port);
	if (!err)
		err = netif_set_real_num_queues(dev, queues, queues);
	if (!err)
		err = zs_rss_init(port);
	if (!err)
		err = zs_irqs_create(port);
	if (err) {
		zs_port_destroy(port);
		return ERR_PTR(err);
	}
	netif_set_affinity_auto(dev);
	netif_carrier_off(dev);
	return port;
}

/* Of a port that is not registered, or no longer */
void zs_port_destroy(struct zs_port *port)
{
	zs_faults_free(port);
	zs_irqs_destroy(port);
	zs_rules_flush(port);
	zs_rss_free(port);
	free_netdev(port->dev);
}
