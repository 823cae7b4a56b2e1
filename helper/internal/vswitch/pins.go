package vswitch

import (
	"strconv"

	"mobula/helper/internal/network"
)

// Pin is a rule about who may speak as whom. A frame that breaks it is dropped
// and counted.
type Pin byte

// The pins. Their numbers are part of cookies: they fit 4 bits, and 0 is none.
const (
	// PinMulticastSource: a frame comes from one station (IEEE 802.3 section
	// 3.2.3); learning a group address would draw the group's frames away.
	PinMulticastSource Pin = iota + 1
	// PinStranger: the tunnel carries frames of member hosts only. Without it an
	// administrator's WireGuard client could inject frames.
	PinStranger
	// PinGatewayMAC: the address of a gateway speaks on its own host.
	PinGatewayMAC
	// PinAccessMAC: the address of a host speaks on that host.
	PinAccessMAC
	// PinOwnMAC: the gateway's interface speaks with the gateway's address only.
	PinOwnMAC
	// PinGatewayARP: nobody but the gateway announces its IP address.
	PinGatewayARP
	// PinAccessARP: nobody but the host announces its IP address.
	PinAccessARP
	// PinGatewayIPv4: nobody but the gateway sends from its IP address.
	PinGatewayIPv4
	// PinNestedTag: inside a priority tag (VID 0) there is no second tag. Linux
	// takes both off, so it would carry what the other pins do not see.
	PinNestedTag
	// PinAccessIPv4: nobody but the host sends from its IP address.
	PinAccessIPv4
	// PinUnreadable: what Open vSwitch does not take apart the other pins do not
	// see, but the kernel that receives it may take it apart all the same.
	PinUnreadable
	// PinWire: intrawire and extrawire addresses are no addresses of the access
	// network. Gateways give what comes from there one of their own.
	PinWire
	// PinRouter: nobody leads others' IPv6 elsewhere (RFC 6105).
	PinRouter
	// PinNeighbor: nobody but the host speaks from, defends or announces the IPv6
	// link-local address that follows from its Ethernet address.
	PinNeighbor
	// PinStations: no more than maxLearned stations speak behind one port or host, nor
	// to this host from more IP addresses than its kernel has room for.
	PinStations

	lastPin = PinStations
)

var pinNames = map[Pin]string{
	PinMulticastSource: "multicast source address", PinStranger: "tunnel from no member",
	PinGatewayMAC: "gateway MAC", PinAccessMAC: "host MAC", PinOwnMAC: "other MAC of the gateway",
	PinGatewayARP: "gateway address in ARP", PinAccessARP: "host address in ARP",
	PinGatewayIPv4: "gateway address in IPv4", PinNestedTag: "nested priority tag", PinAccessIPv4: "host address in IPv4",
	PinUnreadable: "unreadable ARP or IP", PinWire: "intrawire address", PinRouter: "IPv6 router", PinNeighbor: "host address in IPv6",
	PinStations: "too many stations or addresses",
}

// String returns a few words for a person.
func (p Pin) String() string {
	if name, ok := pinNames[p]; ok {
		return name
	}
	return "pin " + strconv.Itoa(int(p))
}

// Origin is where a frame came in.
type Origin byte

// The origins. Their numbers are part of cookies.
const (
	OriginGuest   Origin = iota + 1 // a local port: the host and what is bridged to it
	OriginTunnel                    // another host
	OriginGateway                   // the bridge's own port
)

// String returns one word.
func (o Origin) String() string {
	switch o {
	case OriginGuest:
		return "guest"
	case OriginTunnel:
		return "tunnel"
	case OriginGateway:
		return "gateway"
	}
	return "origin " + strconv.Itoa(int(o))
}

// admission is table 0: the pins on Ethernet addresses, and on who may use the
// tunnel. The gateway is ours and goes on without the pins on IP addresses.
func (p *pipeline) admission() {
	p.add(tableAdmission, 400, on{"dl_src=01:00:00:00:00:00/01:00:00:00:00:00"}, drop(PinMulticastSource))
	p.add(tableAdmission, 300, on{port(localPort), "dl_src=" + p.MAC.String()}, resubmit(tableLearn))
	for i := range p.LocalPorts {
		p.add(tableAdmission, 300, on{port(firstLocalPort + i), mac(network.RoleAccess, p.HostID)}, resubmit(tableTags))
		p.add(tableAdmission, 100, on{port(firstLocalPort + i)}, resubmit(tableTags))
	}
	for _, r := range p.Remotes {
		p.add(tableAdmission, 300, on{port(tunnelPort), from(r), mac(network.RoleGateway, r.HostID)}, resubmit(tableTags))
		p.add(tableAdmission, 300, on{port(tunnelPort), from(r), mac(network.RoleAccess, r.HostID)}, resubmit(tableTags))
		p.add(tableAdmission, 100, on{port(tunnelPort), from(r)}, resubmit(tableTags))
	}
	p.add(tableAdmission, 200, on{anyMAC(network.RoleGateway)}, drop(PinGatewayMAC))
	p.add(tableAdmission, 200, on{anyMAC(network.RoleAccess)}, drop(PinAccessMAC))
	p.add(tableAdmission, 50, on{port(tunnelPort)}, drop(PinStranger))
	p.add(tableAdmission, 50, on{port(localPort)}, drop(PinOwnMAC))
}

// tags is table 1. A VLAN is a network of its own in which users number as they
// like, so the pins on IP addresses hold where the VID is 0: without a tag and
// with a priority tag (IEEE 802.1Q section 9.6), which receivers take off. There
// ARP also names Ethernet addresses: a guest may name no pinned one but that of
// its own host, which bridges it.
func (p *pipeline) tags() {
	for _, inner := range []uint16{0x8100, 0x88a8} {
		p.add(tableTags, 200, on{vlanTCI(0x1000, 0x1fff), etherType(inner)}, drop(PinNestedTag))
	}
	p.unreadable()
	for i := range p.LocalPorts {
		announces := func(priority int, mac string, actions []string) {
			p.add(tableTags, priority, on{port(firstLocalPort + i), vlanTCI(0, 0x0fff), arp, "arp_sha=" + mac}, actions)
		}
		announces(160, network.MAC(network.RoleAccess, p.HostID).String(), resubmit(tableAddresses))
		announces(150, anyHost(network.RoleGateway), drop(PinGatewayMAC))
		announces(150, anyHost(network.RoleAccess), drop(PinAccessMAC))
	}
	p.add(tableTags, 100, on{vlanTCI(0, 0x0fff)}, resubmit(tableAddresses))
	p.add(tableTags, 0, nil, resubmit(tableLearn))
}

// addresses is table 2: the pins on the IP addresses of members. Every other
// address is anybody's. The host's own access address has no flow for local
// ports, since in manual mode any interface may have it.
func (p *pipeline) addresses() {
	own := p.HostID
	ofMember := []string{load(1, roomRegister), resubmitTo(tableLearn)} // a permanent neighbor
	// A gateway answers a guest in the name of whom the guest asked there. That it is the
	// gateway table 0 has seen to.
	p.add(tableAddresses, 450, on{port(tunnelPort), ip, anyMAC(network.RoleGateway), "nw_src=" + p.Ranges.Wire().String()}, resubmit(tableLearn))
	p.add(tableAddresses, 400, on{arp, "arp_spa=" + p.Ranges.Wire().String()}, drop(PinWire))
	p.add(tableAddresses, 400, on{ip, "nw_src=" + p.Ranges.Wire().String()}, drop(PinWire))
	p.add(tableAddresses, 100, on{ip6}, resubmit(tableSources))
	p.add(tableAddresses, 200, on{arp, arpFrom(p.Ranges.GatewayAddress(own))}, drop(PinGatewayARP))
	p.add(tableAddresses, 200, on{port(tunnelPort), arp, arpFrom(p.Ranges.AccessAddress(own))}, drop(PinAccessARP))
	p.add(tableAddresses, 200, on{ip, ipFrom(p.Ranges.GatewayAddress(own))}, drop(PinGatewayIPv4))
	p.add(tableAddresses, 200, on{port(tunnelPort), ip, ipFrom(p.Ranges.AccessAddress(own))}, drop(PinAccessIPv4))
	for _, r := range p.Remotes {
		gateway, access := p.Ranges.GatewayAddress(r.HostID), p.Ranges.AccessAddress(r.HostID)
		p.add(tableAddresses, 300, on{port(tunnelPort), arp, from(r), arpFrom(gateway)}, resubmit(tableLearn))
		p.add(tableAddresses, 300, on{port(tunnelPort), arp, from(r), arpFrom(access)}, ofMember)
		p.add(tableAddresses, 300, on{port(tunnelPort), ip, from(r), ipFrom(gateway)}, resubmit(tableLearn))
		p.add(tableAddresses, 300, on{port(tunnelPort), ip, from(r), ipFrom(access)}, ofMember)
		p.add(tableAddresses, 200, on{arp, arpFrom(gateway)}, drop(PinGatewayARP))
		p.add(tableAddresses, 200, on{arp, arpFrom(access)}, drop(PinAccessARP))
		p.add(tableAddresses, 200, on{ip, ipFrom(gateway)}, drop(PinGatewayIPv4))
		p.add(tableAddresses, 200, on{ip, ipFrom(access)}, drop(PinAccessIPv4))
	}
	p.add(tableAddresses, 0, nil, resubmit(tableLearn))
}
