// SPDX-License-Identifier: GPL-2.0
/* Which queue a frame goes to: ntuple rules first, then RSS. */
#include "zcrxsim.h"

/* The hash of Microsoft's RSS specification, bit by bit */
static u32 zs_toeplitz(const u8 *key, const u8 *data, u32 len)
{
	u32 window = get_unaligned_be32(key);
	u32 hash = 0, i;
	int bit;

	for (i = 0; i < len; i++) {
		for (bit = 7; bit >= 0; bit--) {
			if (data[i] & BIT(bit))
				hash ^= window;
			window = window << 1 | !!(key[i + 4] & BIT(bit));
		}
	}
	return hash;
}

static u32 zs_xor(const u8 *data, u32 len)
{
	u32 hash = 0, i;

	/* What is behind the end is zero */
	for (i = 0; i < len; i += 4)
		hash ^= get_unaligned_be32(data + i);
	return hash;
}

static enum zs_flow zs_flow(const struct zs_pkt *pkt)
{
	enum zs_flow base = pkt->l3 == 6 ? ZS_FLOW_TCP6 : ZS_FLOW_TCP4;

	if (pkt->l4 == IPPROTO_TCP)
		return base;
	if (pkt->l4 == IPPROTO_UDP)
		return base + 1;
	return base + 2;
}

static void zs_symmetric(__be32 *src, __be32 *dst, u32 words, bool or)
{
	__be32 s, d;
	u32 i;

	for (i = 0; i < words; i++) {
		s = src[i];
		d = dst[i];
		src[i] = or ? s | d : s ^ d;
		dst[i] = s ^ d;
	}
}

static u32 zs_rss_hash(const struct zs_rss *rss, const struct zs_pkt *pkt,
		       enum pkt_hash_types *type)
{
	u32 words = pkt->l3 == 6 ? 4 : 1, len = 0;
	__be32 saddr[4], daddr[4];
	__be16 sport, dport;
	u8 data[ZS_RSS_KEY - 4] = {};
	u32 fields;

	*type = PKT_HASH_TYPE_NONE;
	if (!pkt->l3)
		return 0;

	fields = rss->fields[zs_flow(pkt)];
	memcpy(saddr, pkt->saddr, sizeof(saddr));
	memcpy(daddr, pkt->daddr, sizeof(daddr));
	sport = pkt->sport;
	dport = pkt->dport;

	if (rss->xfrm & (RXH_XFRM_SYM_XOR | RXH_XFRM_SYM_OR_XOR)) {
		bool or = rss->xfrm & RXH_XFRM_SYM_OR_XOR;
		__be16 mix = sport ^ dport;

		zs_symmetric(saddr, daddr, words, or);
		sport = or ? sport | dport : mix;
		dport = mix;
	}

	if (fields & RXH_IP_SRC) {
		memcpy(data + len, saddr, words * 4);
		len += words * 4;
	}
	if (fields & RXH_IP_DST) {
		memcpy(data + len, daddr, words * 4);
		len += words * 4;
	}
	if (pkt->l3 == 6 && fields & RXH_IP6_FL) {
		memcpy(data + len, &pkt->flow_label, sizeof(pkt->flow_label));
		len += sizeof(pkt->flow_label);
	}
	if (!len && !(fields & (RXH_L4_B_0_1 | RXH_L4_B_2_3)))
		return 0;

	*type = PKT_HASH_TYPE_L3;
	if (pkt->l4 && fields & RXH_L4_B_0_1) {
		memcpy(data + len, &sport, sizeof(sport));
		len += sizeof(sport);
		*type = PKT_HASH_TYPE_L4;
	}
	if (pkt->l4 && fields & RXH_L4_B_2_3) {
		memcpy(data + len, &dport, sizeof(dport));
		len += sizeof(dport);
		*type = PKT_HASH_TYPE_L4;
	}

	if (rss->hfunc == ETH_RSS_HASH_XOR)
		return zs_xor(data, len);
	return zs_toeplitz(rss->key, data, len);
}

/* The queue, or -1 if a rule wants the frame dropped */
int zs_steer(struct zs_port *port, const struct zs_pkt *pkt, u32 *hash,
	     enum pkt_hash_types *type)
{
	const struct zs_rule *rule = NULL;
	const struct zs_rules *rules;
	const struct zs_rss *rss;
	u32 context = 0, i;
	u64 add = 0;
	int queue;

	guard(rcu)();

	rules = rcu_dereference(port->rules);
	for (i = 0; rules && i < rules->count; i++) {
		if (zs_rule_match(&rules->rule[i], pkt)) {
			rule = &rules->rule[i];
			break;
		}
	}

	if (rule) {
		if (rule->fs.ring_cookie == RX_CLS_FLOW_DISC)
			return -1;
		add = ethtool_get_flow_spec_ring(rule->fs.ring_cookie);
		if (rule->fs.flow_type & FLOW_RSS)
			context = rule->context;
	}

	rss = rcu_dereference(port->rss[context]);
	if (!rss)
		rss = rcu_dereference(port->rss[0]);
	*hash = zs_rss_hash(rss, pkt, type);

	if (rule && !(rule->fs.flow_type & FLOW_RSS))
		queue = add;
	else
		queue = rss->indir[*hash % ZS_RSS_ENTRIES] + add;
	return queue < ZS_MAX_QUEUES ? queue : 0;
}
