package vswitch

import (
	"mobula/helper/internal/network"
	"mobula/helper/internal/spec"
)

// learn is table 3: where the source address is, in which VLAN, for the frames
// that come back. A station that has moved is learned anew by its first frame,
// because its flow is the same flow whoever learns it. Members' stations are not
// learned: where they are is known.
func (p *pipeline) learn() {
	p.add(tableLearn, 300, on{anyMAC(network.RoleGateway)}, look())
	p.add(tableLearn, 300, on{port(tunnelPort), anyMAC(network.RoleAccess)}, []string{load(1, knownRegister), resubmitTo(tableKnown)})
	for i := range p.LocalPorts {
		local := port(firstLocalPort + i)
		p.add(tableLearn, 300, on{local, mac(network.RoleAccess, p.HostID)}, note(cookieLearnedOwn))
		p.add(tableLearn, 100, on{local}, note(cookieLearnedLocal|uint64(firstLocalPort+i)))
	}
	for _, r := range p.Remotes {
		p.add(tableLearn, 100, on{port(tunnelPort), from(r)},
			note(cookieLearnedTunnel|uint64(r.HostID), loadField("NXM_NX_TUN_IPV4_SRC[]", "NXM_NX_REG2[]")))
	}
	p.add(tableKnown, 100, on{register(knownRegister, 1)}, look())
	p.add(tableKnown, 0, nil, drop(PinStations))
}

// look finds the destination and goes there.
func look() []string {
	return []string{resubmitTo(tableLearned), resubmitTo(tableForward)}
}

// note learns the source and goes on in table 7.
func note(cookie uint64, actions ...string) []string {
	return []string{learn(learned{
		table: tableLearned, hardTimeout: learnedSeconds, limit: maxLearned, cookie: cookie, room: knownRegister,
		matches: []string{
			"NXM_OF_VLAN_TCI[0..11]=NXM_OF_VLAN_TCI[0..11]",
			"NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[]",
		},
		actions: append([]string{loadField("NXM_OF_IN_PORT[]", "NXM_NX_REG1[0..15]")}, actions...),
	}), resubmitTo(tableKnown)}
}

// places are the flows of table 10 that say where members' stations are, in every
// VLAN: what goes to them is never flooded. Behind which port the host's own
// Ethernet address is, is learned, since there may be several.
func (p *pipeline) places() {
	place := func(role network.Role, id uint16, actions ...string) {
		p.add(tableLearned, 2, on{"dl_dst=" + network.MAC(role, id).String()}, actions)
	}
	place(network.RoleGateway, p.HostID, load(localPort, learnedPort))
	for _, r := range p.Remotes {
		for _, role := range []network.Role{network.RoleGateway, network.RoleAccess} {
			place(role, r.HostID, load(tunnelPort, learnedPort), load(asNumber(r), learnedTunnel))
		}
	}
}

// asked is table 22: a broadcast that asks for the Ethernet address of a member's IP
// address needs to reach that member's host alone, since nobody else may answer. It
// is not answered here: the kernel's datapath cannot write ARP, so that every question
// would have to pass through ovs-vswitchd, which a guest could keep busy with it, and
// an answer for a host that is down would be untrue. Who asks for its own address
// announces it, to all.
func (p *pipeline) asked() {
	own := []struct {
		address string
		to      []string
	}{
		{p.Ranges.GatewayAddress(p.HostID).String(), []string{"local"}},
		{p.Ranges.AccessAddress(p.HostID).String(), p.toLocalPorts()},
	}
	for _, o := range own {
		p.add(tableAsked, 200, append(asks(o.address), "arp_spa="+o.address), p.everywhere())
		p.add(tableAsked, 100, asks(o.address), o.to)
	}
	for _, r := range p.Remotes {
		to := []string{tunnelTo(r.Address.String()), outputTo(tunnelPort)}
		p.add(tableAsked, 100, asks(p.Ranges.GatewayAddress(r.HostID).String()), to)
		p.add(tableAsked, 100, asks(p.Ranges.AccessAddress(r.HostID).String()), to)
	}
	p.add(tableAsked, 0, nil, p.everywhere())
}

// asks matches a broadcast that asks for an IP address outside of VLANs.
func asks(address string) on {
	return on{untagged, arp, "dl_dst=ff:ff:ff:ff:ff:ff", "arp_op=1", "arp_tpa=" + address}
}

func asNumber(r spec.Remote) uint32 {
	a := r.Address.As4()
	return uint32(a[0])<<24 | uint32(a[1])<<16 | uint32(a[2])<<8 | uint32(a[3])
}
