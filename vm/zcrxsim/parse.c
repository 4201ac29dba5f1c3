// SPDX-License-Identifier: GPL-2.0
/* The card's parser: as much of a frame as splitting and steering need. */
#include <linux/etherdevice.h>
#include <net/ipv6.h>

#include "zcrxsim.h"

static void zs_parse_l4(const u8 *data, u32 len, u32 off, struct zs_pkt *pkt)
{
	const struct tcphdr *th = (const struct tcphdr *)(data + off);
	const struct udphdr *uh = (const struct udphdr *)(data + off);
	u32 end;

	switch (pkt->proto) {
	case IPPROTO_TCP:
		if (len < off + sizeof(*th) || th->doff < 5)
			return;
		end = off + th->doff * 4;
		break;
	case IPPROTO_UDP:
		end = off + sizeof(*uh);
		break;
	default:
		return;
	}
	/* Headers that a slot has no room for are none that the card knows */
	if (end > len || end > ZS_HDR_MAX)
		return;
	/* The ports come first in both */
	pkt->sport = uh->source;
	pkt->dport = uh->dest;
	pkt->l4_off = off;
	pkt->hdr_len = end;
	pkt->l4 = pkt->proto;
}

static void zs_parse_ip4(const u8 *data, u32 len, u32 off, struct zs_pkt *pkt)
{
	const struct iphdr *ih = (const struct iphdr *)(data + off);

	if (len < off + sizeof(*ih) || ih->version != 4 || ih->ihl < 5)
		return;

	pkt->l3 = 4;
	pkt->proto = ih->protocol;
	pkt->saddr[0] = ih->saddr;
	pkt->daddr[0] = ih->daddr;
	/* A fragment has no ports, or only the first one has */
	if (ih->frag_off & htons(0x3fff))
		return;
	zs_parse_l4(data, len, off + ih->ihl * 4, pkt);
}

static void zs_parse_ip6(const u8 *data, u32 len, u32 off, struct zs_pkt *pkt)
{
	const struct ipv6hdr *ih = (const struct ipv6hdr *)(data + off);
	const struct ipv6_opt_hdr *opt;

	if (len < off + sizeof(*ih) || ih->version != 6)
		return;

	pkt->l3 = 6;
	pkt->proto = ih->nexthdr;
	pkt->flow_label = ip6_flowlabel(ih);
	memcpy(pkt->saddr, &ih->saddr, sizeof(pkt->saddr));
	memcpy(pkt->daddr, &ih->daddr, sizeof(pkt->daddr));

	off += sizeof(*ih);
	/* Not past a routing header: the checksum has another address then */
	while (pkt->proto == IPPROTO_HOPOPTS || pkt->proto == IPPROTO_DSTOPTS) {
		opt = (const struct ipv6_opt_hdr *)(data + off);
		if (len < off + sizeof(*opt))
			return;
		pkt->proto = opt->nexthdr;
		off += ipv6_optlen(opt);
	}
	zs_parse_l4(data, len, off, pkt);
}

void zs_parse(const u8 *data, u32 len, struct zs_pkt *pkt)
{
	const struct vlan_hdr *vh;
	u32 off = ETH_HLEN;
	__be16 type;
	int tags;

	memset(pkt, 0, sizeof(*pkt));
	if (len < ETH_HLEN)
		return;

	type = ((const struct ethhdr *)data)->h_proto;
	for (tags = 0; tags < 2 && eth_type_vlan(type); tags++) {
		vh = (const struct vlan_hdr *)(data + off);
		if (len < off + sizeof(*vh))
			return;
		type = vh->h_vlan_encapsulated_proto;
		off += sizeof(*vh);
	}

	pkt->eth_type = ntohs(type);
	pkt->outer_off = off;
	pkt->l3_off = off;
	if (pkt->eth_type == ETH_P_IP)
		zs_parse_ip4(data, len, off, pkt);
	else if (pkt->eth_type == ETH_P_IPV6)
		zs_parse_ip6(data, len, off, pkt);
}

/*
 * Look into a tunnel of IP in the same IP, for what is inside. Steering has its
 * own opinion: it knows only what is outside.
 */
void zs_parse_tunnel(const u8 *data, u32 len, struct zs_pkt *pkt)
{
	const struct iphdr *ih = (const struct iphdr *)(data + pkt->outer_off);
	struct zs_pkt inner = *pkt;

	if (pkt->l3 == 4 && pkt->proto == IPPROTO_IPIP && ih->ihl == 5 &&
	    !(ih->frag_off & htons(0x3fff))) {
		inner.l3_off += sizeof(struct iphdr);
		zs_parse_ip4(data, len, inner.l3_off, &inner);
	} else if (pkt->l3 == 6 && pkt->proto == IPPROTO_IPV6 &&
		   ((const struct ipv6hdr *)ih)->nexthdr == IPPROTO_IPV6) {
		inner.l3_off += sizeof(struct ipv6hdr);
		zs_parse_ip6(data, len, inner.l3_off, &inner);
	}
	if (inner.l4)
		*pkt = inner;
}
