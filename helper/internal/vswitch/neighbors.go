package vswitch

import (
	"net/netip"
	"strconv"

	"mobula/helper/internal/network"
)

// Where Open vSwitch and the kernel that receives a frame read it differently, the
// pins hold for what both read alike, and nothing else passes where the VID is 0.
// By miniflow_extract in lib/flow.c of Open vSwitch, and by arp_rcv, ip_rcv_core,
// ip6_rcv_core and ndisc_rcv of Linux:
//
//   - ARP whose hardware type is 6 (IEEE 802) is ARP to Linux. Of ARP that is not
//     for Ethernet (1) and IPv4, or whose operation is above 255, Open vSwitch reads
//     nothing, so that the operation is 0, which is none.
//   - IPv4 with lengths that contradict each other has neither address.
//   - IPv6 whose extension headers do not end within it has protocol 0. The kernel
//     takes a payload length of 0 before a hop-by-hop header for "as long as it is".
//   - ICMPv6 too short to have a type has type 0, which is none. So has a fragment,
//     which passes: ICMPv6 may be fragmented, but of neighbor discovery Linux takes
//     no fragments (RFC 6980; suppress_frag_ndisc).
//   - An IPv4 address written as an IPv6 one in the header is passed to sockets of
//     both families as the IPv4 address (RFC 4038 section 4.2).
//   - A neighbor message with the same option twice has no target; Linux takes the
//     first.
//
// Lengths instead of types (IEEE 802.2, with or without SNAP) are the other way
// round: Open vSwitch reads SNAP, Linux does not, so that the pins are stricter.
func (p *pipeline) unreadable() {
	for _, matches := range []on{
		{arp, "arp_op=0"},
		{ip, ipFrom(netip.IPv4Unspecified()), "nw_dst=0.0.0.0"},
		{ip6, "nw_proto=0"},
		append(icmp6(0), "ip_frag=no"),
		{ip6, "ipv6_src=::ffff:0.0.0.0/96"},
		nd(solicitation, "nd_target", "::"),
		nd(advertisement, "nd_target", "::"),
	} {
		p.add(tableTags, 190, append(on{untagged}, matches...), drop(PinUnreadable))
	}
	p.add(tableTags, 190, append(on{untagged}, icmp6(routerAdvertisement)...), drop(PinRouter))
	p.add(tableTags, 190, append(on{untagged}, icmp6(redirect)...), drop(PinRouter))
}

// pinNeighbors are the tables 4 to 6: the pins on IPv6. Of members only the link-local
// address of veth_fac0 is pinned, which follows from its Ethernet address (RFC 4291
// appendix A): gateways speak no IPv6, and global addresses are the guests' own.
// A remote host that speaks with its own Ethernet address was let in by that.
func (p *pipeline) pinNeighbors() {
	p.add(tableSources, 210, on{port(tunnelPort), ip6, anyMAC(network.RoleAccess), "ipv6_src=" + linkLocal(0) + "/112"},
		[]string{load(1, roomRegister), resubmitTo(tableLearn)}) // members take no guest's place
	p.add(tableSources, 200, on{port(tunnelPort), ip6, anyMAC(network.RoleAccess)}, resubmit(tableLearn))
	for i := range p.LocalPorts {
		local := port(firstLocalPort + i)
		own, mac := linkLocal(p.HostID), network.MAC(network.RoleAccess, p.HostID).String()
		p.add(tableSources, 200, on{local, ip6, "ipv6_src=" + own}, resubmit(tableTargets))
		p.add(tableTargets, 200, append(on{local}, nd(advertisement, "nd_target", own)...), resubmit(tableLinkLayer))
		p.add(tableTargets, 200, append(on{local, "ipv6_src=::"}, nd(solicitation, "nd_target", own)...), resubmit(tableLinkLayer))
		p.add(tableLinkLayer, 200, append(on{local}, nd(solicitation, "nd_sll", mac)...), resubmit(tableLearn))
		p.add(tableLinkLayer, 200, append(on{local}, nd(advertisement, "nd_tll", mac)...), resubmit(tableLearn))
	}
	any := linkLocal(0) + "/112"
	p.add(tableSources, 100, on{ip6, "ipv6_src=" + any}, drop(PinNeighbor))
	p.add(tableSources, 0, nil, resubmit(tableTargets))
	// Whoever looks whether an address is free (RFC 4862 section 5.4) takes it from
	// who has it.
	p.add(tableTargets, 100, nd(advertisement, "nd_target", any), drop(PinNeighbor))
	p.add(tableTargets, 100, append(on{"ipv6_src=::"}, nd(solicitation, "nd_target", any)...), drop(PinNeighbor))
	p.add(tableTargets, 0, nil, resubmit(tableLinkLayer))
	for _, m := range []struct {
		role network.Role
		pin  Pin
	}{{network.RoleGateway, PinGatewayMAC}, {network.RoleAccess, PinAccessMAC}} {
		p.add(tableLinkLayer, 100, nd(solicitation, "nd_sll", anyHost(m.role)), drop(m.pin))
		p.add(tableLinkLayer, 100, nd(advertisement, "nd_tll", anyHost(m.role)), drop(m.pin))
	}
	p.add(tableLinkLayer, 0, nil, resubmit(tableLearn))
}

// linkLocal returns the link-local address of a host's veth_fac0.
func linkLocal(id uint16) string {
	m := network.MAC(network.RoleAccess, id)
	return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 8: m[0] ^ 2, 9: m[1], 10: m[2], 11: 0xff, 12: 0xfe, 13: m[3], 14: m[4], 15: m[5]}).String()
}

// Types of ICMPv6 messages (RFC 4861 section 4).
const (
	routerAdvertisement = 134
	solicitation        = 135
	advertisement       = 136
	redirect            = 137
)

var (
	ip6 = etherType(0x86dd)
	// untagged is also what has a priority tag.
	untagged = vlanTCI(0, 0x0fff)
)

func icmp6(kind int) on {
	return on{ip6, "nw_proto=58", "icmpv6_type=" + strconv.Itoa(kind)}
}

// nd matches a field of a neighbor solicitation or advertisement.
func nd(kind int, field, value string) on {
	return append(icmp6(kind), "icmpv6_code=0", field+"="+value)
}
