package vswitch

import (
	"os"
	"strconv"
	"strings"

	"github.com/digitalocean/go-openvswitch/ovs"

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
		p.remember(local, cookieAddressLocal, p.neighbors/4)
	}
	p.remember(port(tunnelPort), cookieAddressTunnel, p.neighbors/6)
	p.add(tableRoom, 100, on{register(roomRegister, 1)}, look())
	p.add(tableRoom, 0, nil, drop(PinStations))
}

// remember notes from which addresses the host is spoken to by a port.
func (p *pipeline) remember(from ovs.Match, cookie uint64, room int) {
	gateway, access := p.Ranges.GatewayAddress(p.HostID).String(), p.Ranges.AccessAddress(p.HostID).String()
	guests := on{register(knownRegister, 1), register(roomRegister, 0), from, untagged}
	note := func(what on, source string) {
		p.add(tableKnown, 200, append(guests[:len(guests):len(guests)], what...), noteAddress(source, cookie, room))
	}
	for _, to := range []ovs.Match{
		ovs.DataLinkDestination(network.MAC(network.RoleGateway, p.HostID).String()),
		ovs.DataLinkDestination(network.MAC(network.RoleAccess, p.HostID).String()),
		ovs.NetworkDestination(access),
	} {
		note(on{ip, to}, "NXM_OF_IP_SRC[]")
	}
	for _, asked := range []string{gateway, access} {
		note(on{arp, ovs.FieldMatch("arp_op", "1"), ovs.ARPTargetProtocolAddress(asked)}, "NXM_OF_ARP_SPA[]")
	}
}

// noteAddress learns the source address and goes on in table 8. The learned flows are
// for counting alone: nothing leads to them.
func noteAddress(source string, cookie uint64, room int) []ovs.Action {
	return []ovs.Action{learnOrTell{ovs.Learn(&ovs.LearnedFlow{
		Priority: 1, Table: tableAddressed, HardTimeout: addressSeconds, Limit: room, Cookie: cookie,
		Matches: []ovs.Match{ovs.FieldMatch("eth_type", "0x800"), ovs.FieldMatch("NXM_OF_IP_SRC[]", source)},
		Actions: []ovs.Action{ovs.Load("0x1", "NXM_NX_REG6[0]")},
	}), roomRegister}, ovs.Resubmit(0, tableRoom)}
}
