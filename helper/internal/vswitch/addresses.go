package vswitch

import (
	"os"
	"strconv"
	"strings"

	"mobula/helper/internal/network"
)

// Each address from which this host is spoken to makes a neighbor of its kernel: who
// asks for the host's Ethernet address is one at once, who is answered is asked for.
// The table of neighbors is one for all namespaces (neigh_alloc), and while it is full
// of young ones a host finds not even its own router again. So guests together have a
// part of it, however many addresses they invent; those behind other hosts a part of
// their own.

// addressSeconds is how long an address has its place after it last spoke: longer than
// a neighbor is young (5 s in neigh_forced_gc).
const addressSeconds = 30

// defaultNeighbors is the kernel's default of gc_thresh3 (arp(7)).
const defaultNeighbors = 1024

// neighborRoom is how many neighbors the kernel has room for.
func (s *Switch) neighborRoom() int {
	if s.options.Neighbors > 0 {
		return s.options.Neighbors
	}
	data, _ := os.ReadFile("/proc/sys/net/ipv4/neigh/default/gc_thresh3")
	n, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil || n <= 0 {
		return defaultNeighbors
	}
	return n
}

// remembered are the flows of table 7 for what guests send to this host's own addresses,
// and table 8, which they lead to: whether there was room for the address they come from.
func (p *pipeline) remembered() {
	access := p.Ranges.AccessAddress(p.HostID)
	for i := range p.LocalPorts {
		local := port(firstLocalPort + i)
		for _, speaks := range []on{{ip, ipFrom(access)}, {arp, arpFrom(access)}} {
			p.add(tableKnown, 300, append(on{register(knownRegister, 1), local, mac(network.RoleAccess, p.HostID)}, speaks...), look())
		}
		p.add(tableKnown, 300, on{register(knownRegister, 1), local, mac(network.RoleAccess, p.HostID), ip6, "ipv6_src=" + linkLocal(p.HostID)}, look())
		p.remember(local, cookieAddressLocal, p.neighbors/4)
		p.remember6(local, cookieAddress6Local, p.neighbors6()/4)
	}
	p.remember(port(tunnelPort), cookieAddressTunnel, p.neighbors/6)
	p.remember6(port(tunnelPort), cookieAddress6Tunnel, p.neighbors6()/6)
	p.add(tableRoom, 100, on{register(roomRegister, 1)}, look())
	p.add(tableRoom, 0, nil, drop(PinStations))
}

// remember notes from which addresses the host is spoken to by a port.
func (p *pipeline) remember(from string, cookie uint64, room int) {
	gateway, access := p.Ranges.GatewayAddress(p.HostID).String(), p.Ranges.AccessAddress(p.HostID).String()
	guests := on{register(knownRegister, 1), register(roomRegister, 0), from, untagged}
	note := func(what on, source string) {
		p.add(tableKnown, 200, append(guests[:len(guests):len(guests)], what...), noteAddress(source, cookie, room))
	}
	for _, to := range []string{
		"dl_dst=" + network.MAC(network.RoleGateway, p.HostID).String(),
		"dl_dst=" + network.MAC(network.RoleAccess, p.HostID).String(),
		"nw_dst=" + access,
	} {
		note(on{ip, to}, ipSource)
	}
	for _, asked := range []string{gateway, access} {
		note(on{arp, "arp_op=1", "arp_tpa=" + asked}, "NXM_OF_ARP_SPA[]")
	}
}

// neighbors6 is the room for IPv6, whose own bound hardly anybody raises.
func (p *pipeline) neighbors6() int { return min(p.neighbors, defaultNeighbors) }

// remember6 is remember for IPv6. Who asks for an address, or all for an echo, is answered
// by whoever hears it; which addresses the host has is its own business.
func (p *pipeline) remember6(from string, cookie uint64, room int) {
	for _, to := range []string{
		"dl_dst=" + network.MAC(network.RoleAccess, p.HostID).String(),
		"dl_dst=01:00:00:00:00:00/01:00:00:00:00:00",
	} {
		p.add(tableKnown, 200, on{register(knownRegister, 1), register(roomRegister, 0), from, untagged, ip6, to},
			noteSource("0x86dd", ip6Source, ip6Source, cookie, room))
	}
}

const (
	ipSource  = "NXM_OF_IP_SRC[]"
	ip6Source = "NXM_NX_IPV6_SRC[]"
)

// noteAddress notes an IPv4 address that a field has.
func noteAddress(source string, cookie uint64, room int) []string {
	return noteSource("0x800", ipSource, source, cookie, room)
}

// noteSource learns the address in a field as a source and goes on in table 8. The learned
// flows are for counting alone: nothing leads to them.
func noteSource(ethernetType, field, source string, cookie uint64, room int) []string {
	return []string{learn(learned{
		table: tableAddressed, hardTimeout: addressSeconds, limit: room, cookie: cookie, room: roomRegister,
		matches: []string{"eth_type=" + ethernetType, field + "=" + source},
		actions: []string{loadField("0x1", "NXM_NX_REG6[0]")},
	}), resubmitTo(tableRoom)}
}
