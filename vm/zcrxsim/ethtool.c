// SPDX-License-Identifier: GPL-2.0
/* ethtool: rings, channels, link, private flags; the table of operations. */
#include <linux/ethtool_netlink.h>

#include "zcrxsim.h"

static const char zs_priv_strings[][ETH_GSTRING_LEN] = {
	"rx-pack",
};

static void zs_get_drvinfo(struct net_device *dev, struct ethtool_drvinfo *info)
{
	strscpy(info->driver, ZS_NAME, sizeof(info->driver));
	strscpy(info->fw_version, "N/A", sizeof(info->fw_version));
	strscpy(info->bus_info, dev_name(dev->dev.parent), sizeof(info->bus_info));
	info->n_priv_flags = ARRAY_SIZE(zs_priv_strings);
}

static u32 zs_get_link(struct net_device *dev)
{
	return netif_carrier_ok(dev);
}

static int zs_get_link_ksettings(struct net_device *dev, struct ethtool_link_ksettings *ks)
{
	ks->base.speed = SPEED_100000;
	ks->base.duplex = DUPLEX_FULL;
	ks->base.port = PORT_OTHER;
	ks->base.autoneg = AUTONEG_DISABLE;
	return 0;
}

static void zs_get_ringparam(struct net_device *dev, struct ethtool_ringparam *ring,
			     struct kernel_ethtool_ringparam *kring,
			     struct netlink_ext_ack *extack)
{
	const struct zs_port *port = zs_port(dev);

	ring->rx_max_pending = ZS_MAX_RING;
	ring->tx_max_pending = ZS_MAX_RING;
	ring->rx_pending = port->rx_size;
	ring->tx_pending = port->tx_size;
	kring->tcp_data_split = zs_split(dev) ? ETHTOOL_TCP_DATA_SPLIT_ENABLED :
						ETHTOOL_TCP_DATA_SPLIT_DISABLED;
	kring->hds_thresh = dev->cfg->hds_thresh;
	kring->hds_thresh_max = ZS_HDS_THRESH_MAX;
}

static int zs_set_ringparam(struct net_device *dev, struct ethtool_ringparam *ring,
			    struct kernel_ethtool_ringparam *kring,
			    struct netlink_ext_ack *extack)
{
	if (ring->rx_mini_pending || ring->rx_jumbo_pending)
		return -EINVAL;
	if (ring->rx_pending < ZS_MIN_RING || ring->tx_pending < ZS_MIN_RING) {
		NL_SET_ERR_MSG_MOD(extack, "a ring has 4 entries at least");
		return -EINVAL;
	}
	return zs_set_rings(zs_port(dev), ring->rx_pending, ring->tx_pending);
}

static void zs_get_channels(struct net_device *dev, struct ethtool_channels *ch)
{
	ch->max_combined = ZS_MAX_QUEUES;
	ch->combined_count = dev->real_num_rx_queues;
}

static int zs_set_channels(struct net_device *dev, struct ethtool_channels *ch)
{
	if (ch->rx_count || ch->tx_count || ch->other_count || !ch->combined_count)
		return -EINVAL;
	return zs_set_queues(zs_port(dev), ch->combined_count);
}

static u32 zs_get_rx_ring_count(struct net_device *dev)
{
	return dev->real_num_rx_queues;
}

static u32 zs_get_priv_flags(struct net_device *dev)
{
	return zs_port(dev)->priv_flags;
}

static int zs_set_priv_flags(struct net_device *dev, u32 flags)
{
	WRITE_ONCE(zs_port(dev)->priv_flags, flags);
	return 0;
}

static int zs_get_sset_count(struct net_device *dev, int sset)
{
	switch (sset) {
	case ETH_SS_STATS:
		return zs_stats_count(dev);
	case ETH_SS_PRIV_FLAGS:
		return ARRAY_SIZE(zs_priv_strings);
	default:
		return -EOPNOTSUPP;
	}
}

static void zs_get_strings(struct net_device *dev, u32 sset, u8 *data)
{
	if (sset == ETH_SS_STATS)
		zs_stats_strings(dev, &data);
	else if (sset == ETH_SS_PRIV_FLAGS)
		memcpy(data, zs_priv_strings, sizeof(zs_priv_strings));
}

static void zs_get_ethtool_stats(struct net_device *dev, struct ethtool_stats *stats, u64 *data)
{
	zs_stats_values(dev, data);
}

const struct ethtool_ops zs_ethtool_ops = {
	.supported_input_xfrm	= RXH_XFRM_SYM_XOR | RXH_XFRM_SYM_OR_XOR,
	.rxfh_per_ctx_fields	= true,
	.rxfh_per_ctx_key	= true,
	.cap_rss_rxnfc_adds	= true,
	.rxfh_max_num_contexts	= 1 + ZS_RSS_CONTEXTS,
	.supported_ring_params	= ETHTOOL_RING_USE_TCP_DATA_SPLIT | ETHTOOL_RING_USE_HDS_THRS,
#ifdef ETHTOOL_OP_NEEDS_RTNL_SCHANNELS
	.op_needs_rtnl		= ETHTOOL_OP_NEEDS_RTNL_SCHANNELS,
#endif
	.get_drvinfo		= zs_get_drvinfo,
	.get_link		= zs_get_link,
	.get_link_ksettings	= zs_get_link_ksettings,
	.get_ts_info		= ethtool_op_get_ts_info,
	.get_ringparam		= zs_get_ringparam,
	.set_ringparam		= zs_set_ringparam,
	.get_channels		= zs_get_channels,
	.set_channels		= zs_set_channels,
#ifdef ZS_HAVE_RX_RING_COUNT
	.get_rx_ring_count	= zs_get_rx_ring_count,
#endif
	.get_priv_flags		= zs_get_priv_flags,
	.set_priv_flags		= zs_set_priv_flags,
	.get_sset_count		= zs_get_sset_count,
	.get_strings		= zs_get_strings,
	.get_ethtool_stats	= zs_get_ethtool_stats,
	.get_eth_mac_stats	= zs_get_eth_mac_stats,
	.get_eth_ctrl_stats	= zs_get_eth_ctrl_stats,
	.get_rmon_stats		= zs_get_rmon_stats,
	.get_pause_stats	= zs_get_pause_stats,
	.get_pauseparam		= zs_get_pauseparam,
	.set_pauseparam		= zs_set_pauseparam,
	.get_fecparam		= zs_get_fecparam,
	.get_fec_stats		= zs_get_fec_stats,
	.get_rxnfc		= zs_get_rxnfc,
	.set_rxnfc		= zs_set_rxnfc,
	.get_rxfh_key_size	= zs_get_rxfh_key_size,
	.get_rxfh_indir_size	= zs_get_rxfh_indir_size,
	.get_rxfh		= zs_get_rxfh,
	.set_rxfh		= zs_set_rxfh,
	.get_rxfh_fields	= zs_get_rxfh_fields,
	.set_rxfh_fields	= zs_set_rxfh_fields,
	.create_rxfh_context	= zs_create_rxfh_context,
	.modify_rxfh_context	= zs_modify_rxfh_context,
	.remove_rxfh_context	= zs_remove_rxfh_context,
};
