// SPDX-License-Identifier: GPL-2.0
/* Ntuple rules: flows to a queue, to an RSS context, or to nowhere. */
#include "zcrxsim.h"

static struct zs_rules *zs_rules_get(struct zs_port *port)
{
	return rcu_dereference_protected(port->rules, true);
}

static void zs_rules_put(struct zs_port *port, struct zs_rules *rules)
{
	struct zs_rules *old = zs_rules_get(port);

	rcu_assign_pointer(port->rules, rules);
	if (old)
		kvfree_rcu(old, rcu);
}

static u32 zs_rules_count(const struct zs_rules *rules)
{
	return rules ? rules->count : 0;
}

void zs_rules_flush(struct zs_port *port)
{
	zs_rules_put(port, NULL);
}

static bool zs_match4(__be32 got, __be32 want, __be32 mask)
{
	return !((got ^ want) & mask);
}

static bool zs_match2(__be16 got, __be16 want, __be16 mask)
{
	return !((got ^ want) & mask);
}

static bool zs_match16(const __be32 *got, const __be32 *want, const __be32 *mask)
{
	int i;

	for (i = 0; i < 4; i++)
		if (!zs_match4(got[i], want[i], mask[i]))
			return false;
	return true;
}

static bool zs_match_tcpip4(const struct ethtool_rx_flow_spec *fs, const struct zs_pkt *pkt)
{
	const struct ethtool_tcpip4_spec *h = &fs->h_u.tcp_ip4_spec;
	const struct ethtool_tcpip4_spec *m = &fs->m_u.tcp_ip4_spec;

	return zs_match4(pkt->saddr[0], h->ip4src, m->ip4src) &&
	       zs_match4(pkt->daddr[0], h->ip4dst, m->ip4dst) &&
	       zs_match2(pkt->sport, h->psrc, m->psrc) &&
	       zs_match2(pkt->dport, h->pdst, m->pdst);
}

static bool zs_match_tcpip6(const struct ethtool_rx_flow_spec *fs, const struct zs_pkt *pkt)
{
	const struct ethtool_tcpip6_spec *h = &fs->h_u.tcp_ip6_spec;
	const struct ethtool_tcpip6_spec *m = &fs->m_u.tcp_ip6_spec;

	return zs_match16(pkt->saddr, h->ip6src, m->ip6src) &&
	       zs_match16(pkt->daddr, h->ip6dst, m->ip6dst) &&
	       zs_match2(pkt->sport, h->psrc, m->psrc) &&
	       zs_match2(pkt->dport, h->pdst, m->pdst);
}

static bool zs_match_ip4(const struct ethtool_rx_flow_spec *fs, const struct zs_pkt *pkt)
{
	const struct ethtool_usrip4_spec *h = &fs->h_u.usr_ip4_spec;
	const struct ethtool_usrip4_spec *m = &fs->m_u.usr_ip4_spec;

	return zs_match4(pkt->saddr[0], h->ip4src, m->ip4src) &&
	       zs_match4(pkt->daddr[0], h->ip4dst, m->ip4dst) &&
	       !((pkt->proto ^ h->proto) & m->proto);
}

static bool zs_match_ip6(const struct ethtool_rx_flow_spec *fs, const struct zs_pkt *pkt)
{
	const struct ethtool_usrip6_spec *h = &fs->h_u.usr_ip6_spec;
	const struct ethtool_usrip6_spec *m = &fs->m_u.usr_ip6_spec;

	return zs_match16(pkt->saddr, h->ip6src, m->ip6src) &&
	       zs_match16(pkt->daddr, h->ip6dst, m->ip6dst) &&
	       !((pkt->proto ^ h->l4_proto) & m->l4_proto);
}

bool zs_rule_match(const struct zs_rule *rule, const struct zs_pkt *pkt)
{
	const struct ethtool_rx_flow_spec *fs = &rule->fs;

	switch (fs->flow_type & ~FLOW_RSS) {
	case TCP_V4_FLOW:
		return pkt->l3 == 4 && pkt->l4 == IPPROTO_TCP && zs_match_tcpip4(fs, pkt);
	case UDP_V4_FLOW:
		return pkt->l3 == 4 && pkt->l4 == IPPROTO_UDP && zs_match_tcpip4(fs, pkt);
	case IP_USER_FLOW:
		return pkt->l3 == 4 && zs_match_ip4(fs, pkt);
	case TCP_V6_FLOW:
		return pkt->l3 == 6 && pkt->l4 == IPPROTO_TCP && zs_match_tcpip6(fs, pkt);
	case UDP_V6_FLOW:
		return pkt->l3 == 6 && pkt->l4 == IPPROTO_UDP && zs_match_tcpip6(fs, pkt);
	case IPV6_USER_FLOW:
		return pkt->l3 == 6 && zs_match_ip6(fs, pkt);
	default:
		return false;
	}
}

static int zs_rule_check(struct net_device *dev, const struct ethtool_rx_flow_spec *fs)
{
	switch (fs->flow_type & ~FLOW_RSS) {
	case TCP_V4_FLOW:
	case UDP_V4_FLOW:
		if (fs->m_u.tcp_ip4_spec.tos)
			return -EOPNOTSUPP;
		break;
	case IP_USER_FLOW:
		if (fs->h_u.usr_ip4_spec.ip_ver != ETH_RX_NFC_IP4)
			return -EINVAL;
		if (fs->m_u.usr_ip4_spec.tos || fs->m_u.usr_ip4_spec.l4_4_bytes)
			return -EOPNOTSUPP;
		break;
	case TCP_V6_FLOW:
	case UDP_V6_FLOW:
		if (fs->m_u.tcp_ip6_spec.tclass)
			return -EOPNOTSUPP;
		break;
	case IPV6_USER_FLOW:
		if (fs->m_u.usr_ip6_spec.tclass || fs->m_u.usr_ip6_spec.l4_4_bytes)
			return -EOPNOTSUPP;
		break;
	default:
		/* VLAN and MAC extensions end here as well */
		return -EOPNOTSUPP;
	}

	if (fs->ring_cookie == RX_CLS_FLOW_DISC)
		return fs->flow_type & FLOW_RSS ? -EINVAL : 0;
	if (ethtool_get_flow_spec_ring_vf(fs->ring_cookie) ||
	    ethtool_get_flow_spec_ring(fs->ring_cookie) >= dev->real_num_rx_queues)
		return -EINVAL;
	return 0;
}

static bool zs_rule_same(const struct zs_rule *a, const struct ethtool_rxnfc *b)
{
	return a->fs.flow_type == b->fs.flow_type &&
	       (!(a->fs.flow_type & FLOW_RSS) || a->context == b->rss_context) &&
	       !memcmp(&a->fs.h_u, &b->fs.h_u, sizeof(a->fs.h_u)) &&
	       !memcmp(&a->fs.m_u, &b->fs.m_u, sizeof(a->fs.m_u));
}

/* Any place will do: that of a rule for the same frames, else the last free one */
static int zs_rule_locate(const struct zs_rules *rules, const struct ethtool_rxnfc *info)
{
	u32 count = zs_rules_count(rules), i, loc;

	for (i = 0; i < count; i++)
		if (zs_rule_same(&rules->rule[i], info))
			return rules->rule[i].fs.location;

	loc = ZS_RULES;
	for (i = count; i && rules->rule[i - 1].fs.location == loc - 1; i--)
		loc--;
	return loc ? loc - 1 : -ENOSPC;
}

static struct zs_rules *zs_rules_alloc(u32 count)
{
	struct zs_rules *rules = kvzalloc(struct_size(rules, rule, count), GFP_KERNEL);

	if (rules)
		rules->count = count;
	return rules;
}

static int zs_rule_insert(struct net_device *dev, struct ethtool_rxnfc *info)
{
	struct zs_port *port = zs_port(dev);
	struct zs_rules *old = zs_rules_get(port), *new;
	u32 count = zs_rules_count(old), i, at;
	bool replace;
	u64 last;
	int err;

	if (!(dev->features & NETIF_F_NTUPLE))
		return -EOPNOTSUPP;
	err = zs_rule_check(dev, &info->fs);
	if (err)
		return err;
	if (info->fs.flow_type & FLOW_RSS) {
		/* Its own queue is added to the table's */
		last = zs_rss_last(port, info->rss_context) +
		       ethtool_get_flow_spec_ring(info->fs.ring_cookie);
		if (last >= dev->real_num_rx_queues)
			return -EINVAL;
	}

	if (info->fs.location & RX_CLS_LOC_SPECIAL) {
		if (info->fs.location != RX_CLS_LOC_ANY)
			return -EOPNOTSUPP;
		err = zs_rule_locate(old, info);
		if (err < 0)
			return err;
		info->fs.location = err;
	}
	if (info->fs.location >= ZS_RULES)
		return -EINVAL;

	for (at = 0; at < count; at++)
		if (old->rule[at].fs.location >= info->fs.location)
			break;
	replace = at < count && old->rule[at].fs.location == info->fs.location;

	new = zs_rules_alloc(count + !replace);
	if (!new)
		return -ENOMEM;
	for (i = 0; i < at; i++)
		new->rule[i] = old->rule[i];
	for (i = at + replace; i < count; i++)
		new->rule[i + !replace] = old->rule[i];
	new->rule[at].fs = info->fs;
	if (info->fs.flow_type & FLOW_RSS)
		new->rule[at].context = info->rss_context;
	zs_rules_put(port, new);
	return 0;
}

static int zs_rule_find(const struct zs_rules *rules, u32 location)
{
	u32 i;

	for (i = 0; rules && i < rules->count; i++)
		if (rules->rule[i].fs.location == location)
			return i;
	return -ENOENT;
}

static int zs_rule_delete(struct zs_port *port, u32 location)
{
	struct zs_rules *old = zs_rules_get(port), *new;
	int at = zs_rule_find(old, location);
	u32 i;

	if (at < 0)
		return at;
	new = zs_rules_alloc(old->count - 1);
	if (!new)
		return -ENOMEM;
	for (i = 0; i < new->count; i++)
		new->rule[i] = old->rule[i < at ? i : i + 1];
	zs_rules_put(port, new);
	return 0;
}

int zs_set_rxnfc(struct net_device *dev, struct ethtool_rxnfc *info)
{
	switch (info->cmd) {
	case ETHTOOL_SRXCLSRLINS:
		return zs_rule_insert(dev, info);
	case ETHTOOL_SRXCLSRLDEL:
		return zs_rule_delete(zs_port(dev), info->fs.location);
	default:
		return -EOPNOTSUPP;
	}
}

int zs_get_rxnfc(struct net_device *dev, struct ethtool_rxnfc *info, u32 *locs)
{
	struct zs_port *port = zs_port(dev);
	const struct zs_rules *rules = zs_rules_get(port);
	u32 count = zs_rules_count(rules), i;
	int at;

	switch (info->cmd) {
	case ETHTOOL_GRXRINGS:
		info->data = dev->real_num_rx_queues;
		return 0;
	case ETHTOOL_GRXCLSRLCNT:
		info->rule_cnt = count;
		info->data = ZS_RULES | RX_CLS_LOC_SPECIAL;
		return 0;
	case ETHTOOL_GRXCLSRLALL:
		info->data = ZS_RULES;
		if (info->rule_cnt < count)
			return -EMSGSIZE;
		for (i = 0; i < count; i++)
			locs[i] = rules->rule[i].fs.location;
		info->rule_cnt = count;
		return 0;
	case ETHTOOL_GRXCLSRULE:
		at = zs_rule_find(rules, info->fs.location);
		if (at < 0)
			return at;
		info->data = ZS_RULES;
		info->fs = rules->rule[at].fs;
		/* The stack looks for the flag and the context in both places */
		info->flow_type = info->fs.flow_type;
		if (info->fs.flow_type & FLOW_RSS)
			info->rss_context = rules->rule[at].context;
		return 0;
	default:
		return -EOPNOTSUPP;
	}
}
