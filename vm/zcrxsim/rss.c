// SPDX-License-Identifier: GPL-2.0
/* Receive-side scaling as ethtool sees it: tables, keys, fields, contexts. */
#include "zcrxsim.h"

#define ZS_FIELDS_L3	(RXH_IP_SRC | RXH_IP_DST)
#define ZS_FIELDS_L4	(RXH_L4_B_0_1 | RXH_L4_B_2_3)

/* The stack calls all of these under the device's lock or its rss_lock */
static struct zs_rss *zs_rss_get(struct zs_port *port, u32 context)
{
	/* The stack asks for fields before it looks whether there is such a context */
	if (context >= ARRAY_SIZE(port->rss))
		return NULL;
	return rcu_dereference_protected(port->rss[context], true);
}

static struct zs_rss *zs_rss_copy(struct zs_port *port, u32 context)
{
	return kmemdup(zs_rss_get(port, context), sizeof(struct zs_rss), GFP_KERNEL);
}

static void zs_rss_put(struct zs_port *port, u32 context, struct zs_rss *rss)
{
	struct zs_rss *old = zs_rss_get(port, context);

	rcu_assign_pointer(port->rss[context], rss);
	if (old)
		kfree_rcu(old, rcu);
}

static void zs_rss_default_table(struct zs_rss *rss, u32 queues)
{
	u32 i;

	for (i = 0; i < ZS_RSS_ENTRIES; i++)
		rss->indir[i] = ethtool_rxfh_indir_default(i, queues);
}

int zs_rss_init(struct zs_port *port)
{
	struct zs_rss *rss;
	enum zs_flow flow;

	rss = kzalloc_obj(*rss);
	if (!rss)
		return -ENOMEM;

	rss->hfunc = ETH_RSS_HASH_TOP;
	netdev_rss_key_fill(rss->key, sizeof(rss->key));
	for (flow = 0; flow < ZS_FLOW_COUNT; flow++)
		rss->fields[flow] = ZS_FIELDS_L3;
	rss->fields[ZS_FLOW_TCP4] |= ZS_FIELDS_L4;
	rss->fields[ZS_FLOW_TCP6] |= ZS_FIELDS_L4;
	rss->fields[ZS_FLOW_UDP4] |= ZS_FIELDS_L4;
	rss->fields[ZS_FLOW_UDP6] |= ZS_FIELDS_L4;
	zs_rss_default_table(rss, port->dev->real_num_rx_queues);
	zs_rss_put(port, 0, rss);
	return 0;
}

void zs_rss_free(struct zs_port *port)
{
	u32 i;

	for (i = 0; i < ARRAY_SIZE(port->rss); i++)
		zs_rss_put(port, i, NULL);
}

/* The number of queues has changed: a table nobody has configured follows it */
void zs_rss_spread(struct zs_port *port, u32 queues)
{
	struct zs_rss *rss;

	if (netif_is_rxfh_configured(port->dev))
		return;
	rss = zs_rss_copy(port, 0);
	if (!rss)
		return;
	zs_rss_default_table(rss, queues);
	zs_rss_put(port, 0, rss);
}

/* The last queue that a context leads to */
u32 zs_rss_last(struct zs_port *port, u32 context)
{
	const struct zs_rss *rss = zs_rss_get(port, context);
	u32 last = 0, i;

	for (i = 0; rss && i < ZS_RSS_ENTRIES; i++)
		last = max(last, rss->indir[i]);
	return last;
}

u32 zs_get_rxfh_key_size(struct net_device *dev)
{
	return ZS_RSS_KEY;
}

u32 zs_get_rxfh_indir_size(struct net_device *dev)
{
	return ZS_RSS_ENTRIES;
}

int zs_get_rxfh(struct net_device *dev, struct ethtool_rxfh_param *rxfh)
{
	const struct zs_rss *rss = zs_rss_get(zs_port(dev), rxfh->rss_context);

	if (!rss)
		return -ENOENT;
	rxfh->hfunc = rss->hfunc;
	rxfh->input_xfrm = rss->xfrm;
	if (rxfh->indir)
		memcpy(rxfh->indir, rss->indir, sizeof(rss->indir));
	if (rxfh->key)
		memcpy(rxfh->key, rss->key, sizeof(rss->key));
	return 0;
}

static int zs_rss_apply(struct zs_rss *rss, const struct ethtool_rxfh_param *rxfh,
			struct netlink_ext_ack *extack)
{
	if (rxfh->hfunc != ETH_RSS_HASH_NO_CHANGE) {
		if (rxfh->hfunc != ETH_RSS_HASH_TOP && rxfh->hfunc != ETH_RSS_HASH_XOR) {
			NL_SET_ERR_MSG_MOD(extack, "only toeplitz and xor");
			return -EOPNOTSUPP;
		}
		rss->hfunc = rxfh->hfunc;
	}
	if (rxfh->input_xfrm != RXH_XFRM_NO_CHANGE)
		rss->xfrm = rxfh->input_xfrm;
	if (rxfh->indir)
		memcpy(rss->indir, rxfh->indir, sizeof(rss->indir));
	if (rxfh->key)
		memcpy(rss->key, rxfh->key, sizeof(rss->key));
	return 0;
}

static int zs_rss_change(struct zs_port *port, u32 context,
			 const struct ethtool_rxfh_param *rxfh,
			 struct netlink_ext_ack *extack)
{
	struct zs_rss *rss = zs_rss_copy(port, context);
	int err;

	if (!rss)
		return -ENOMEM;
	err = zs_rss_apply(rss, rxfh, extack);
	if (err) {
		kfree(rss);
		return err;
	}
	zs_rss_put(port, context, rss);
	return 0;
}

int zs_set_rxfh(struct net_device *dev, struct ethtool_rxfh_param *rxfh,
		struct netlink_ext_ack *extack)
{
	return zs_rss_change(zs_port(dev), 0, rxfh, extack);
}

static int zs_flow_of(u32 flow_type)
{
	switch (flow_type) {
	case TCP_V4_FLOW:
		return ZS_FLOW_TCP4;
	case UDP_V4_FLOW:
		return ZS_FLOW_UDP4;
	case IPV4_FLOW:
		return ZS_FLOW_IP4;
	case TCP_V6_FLOW:
		return ZS_FLOW_TCP6;
	case UDP_V6_FLOW:
		return ZS_FLOW_UDP6;
	case IPV6_FLOW:
		return ZS_FLOW_IP6;
	default:
		return -EOPNOTSUPP;
	}
}

int zs_get_rxfh_fields(struct net_device *dev, struct ethtool_rxfh_fields *fields)
{
	const struct zs_rss *rss = zs_rss_get(zs_port(dev), fields->rss_context);
	int flow = zs_flow_of(fields->flow_type);

	if (flow < 0)
		return flow;
	if (!rss)
		return -ENOENT;
	fields->data = rss->fields[flow];
	return 0;
}

int zs_set_rxfh_fields(struct net_device *dev, const struct ethtool_rxfh_fields *fields,
		       struct netlink_ext_ack *extack)
{
	struct zs_port *port = zs_port(dev);
	int flow = zs_flow_of(fields->flow_type);
	u32 can = ZS_FIELDS_L3;
	struct zs_rss *rss;

	if (flow < 0)
		return flow;
	if (flow != ZS_FLOW_IP4 && flow != ZS_FLOW_IP6)
		can |= ZS_FIELDS_L4;
	if (flow >= ZS_FLOW_TCP6)
		can |= RXH_IP6_FL;
	if (fields->data & ~can)
		return -EOPNOTSUPP;
	if (!zs_rss_get(port, fields->rss_context))
		return -ENOENT;

	rss = zs_rss_copy(port, fields->rss_context);
	if (!rss)
		return -ENOMEM;
	rss->fields[flow] = fields->data;
	zs_rss_put(port, fields->rss_context, rss);
	return 0;
}

/* A new context starts as a copy of the default one, with a table of its own */
int zs_create_rxfh_context(struct net_device *dev, struct ethtool_rxfh_context *ctx,
			   const struct ethtool_rxfh_param *rxfh,
			   struct netlink_ext_ack *extack)
{
	struct zs_port *port = zs_port(dev);
	struct zs_rss *rss = zs_rss_copy(port, 0);
	int err;

	if (!rss)
		return -ENOMEM;
	zs_rss_default_table(rss, dev->real_num_rx_queues);
	err = zs_rss_apply(rss, rxfh, extack);
	if (err) {
		kfree(rss);
		return err;
	}

	/* The stack keeps its own account; what it did not set it must learn */
	if (!rxfh->indir)
		memcpy(ethtool_rxfh_context_indir(ctx), rss->indir, sizeof(rss->indir));
	if (!rxfh->key)
		memcpy(ethtool_rxfh_context_key(ctx), rss->key, sizeof(rss->key));
	ctx->hfunc = rss->hfunc;
	ctx->input_xfrm = rss->xfrm;

	zs_rss_put(port, rxfh->rss_context, rss);
	return 0;
}

int zs_modify_rxfh_context(struct net_device *dev, struct ethtool_rxfh_context *ctx,
			   const struct ethtool_rxfh_param *rxfh,
			   struct netlink_ext_ack *extack)
{
	return zs_rss_change(zs_port(dev), rxfh->rss_context, rxfh, extack);
}

int zs_remove_rxfh_context(struct net_device *dev, struct ethtool_rxfh_context *ctx,
			   u32 context, struct netlink_ext_ack *extack)
{
	zs_rss_put(zs_port(dev), context, NULL);
	return 0;
}
