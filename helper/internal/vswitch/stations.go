package vswitch

import (
	"bytes"
	"fmt"

	"github.com/digitalocean/go-openvswitch/ovs"

	"mobula/helper/internal/network"
	"mobula/helper/internal/plan"
)

// learn is table 3: where the source address is, in which VLAN, for the frames
// that come back. A station that has moved is learned anew by its first frame,
// because its flow is the same flow whoever learns it. Members' stations are not
// learned: where they are is known.
func (p *pipeline) learn() {
	p.add(tableLearn, 300, on{anyMAC(network.RoleGateway)}, look())
	p.add(tableLearn, 300, on{port(tunnelPort), anyMAC(network.RoleAccess)}, []ovs.Action{load(1, knownRegister), ovs.Resubmit(0, tableKnown)})
	for i := range p.LocalPorts {
		local := port(firstLocalPort + i)
		p.add(tableLearn, 300, on{local, mac(network.RoleAccess, p.HostID)}, note(cookieLearnedOwn))
		p.add(tableLearn, 100, on{local}, note(cookieLearnedLocal|uint64(firstLocalPort+i)))
	}
	for _, r := range p.Remotes {
		p.add(tableLearn, 100, on{port(tunnelPort), from(r)},
			note(cookieLearnedTunnel|uint64(r.HostID), ovs.Load("NXM_NX_TUN_IPV4_SRC[]", "NXM_NX_REG2[]")))
	}
	p.add(tableKnown, 100, on{register(knownRegister, 1)}, look())
	p.add(tableKnown, 0, nil, drop(PinStations))
}

// look finds the destination and goes there.
func look() []ovs.Action {
	return []ovs.Action{ovs.Resubmit(0, tableLearned), ovs.Resubmit(0, tableForward)}
}

// note learns the source and goes on in table 7.
func note(cookie uint64, actions ...ovs.Action) []ovs.Action {
	return []ovs.Action{learnOrTell{ovs.Learn(&ovs.LearnedFlow{
		Priority: 1, Table: tableLearned, HardTimeout: learnedSeconds, Limit: maxLearned, Cookie: cookie,
		Matches: []ovs.Match{
			ovs.FieldMatch("NXM_OF_VLAN_TCI[0..11]", "NXM_OF_VLAN_TCI[0..11]"),
			ovs.FieldMatch("NXM_OF_ETH_DST[]", "NXM_OF_ETH_SRC[]"),
		},
		Actions: append([]ovs.Action{ovs.Load("NXM_OF_IN_PORT[]", "NXM_NX_REG1[0..15]")}, actions...),
	}), knownRegister}, ovs.Resubmit(0, tableKnown)}
}

// learnOrTell adds to a learn action that it shall say whether the limit left room,
// which the library cannot (ovs-actions(7), learn, result_dst).
type learnOrTell struct {
	ovs.Action
	register int
}

// MarshalText implements ovs.Action.
func (l learnOrTell) MarshalText() ([]byte, error) {
	text, err := l.Action.MarshalText()
	told := fmt.Sprintf(",result_dst=NXM_NX_REG%d[0],limit=", l.register)
	return bytes.Replace(text, []byte(",limit="), []byte(told), 1), err
}

// places are the flows of table 10 that say where members' stations are, in every
// VLAN: what goes to them is never flooded. Behind which port the host's own
// Ethernet address is, is learned, since there may be several.
func (p *pipeline) places() {
	place := func(role network.Role, id uint16, actions ...ovs.Action) {
		p.add(tableLearned, 2, on{ovs.DataLinkDestination(network.MAC(role, id).String())}, actions)
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
		to      []ovs.Action
	}{
		{p.Ranges.GatewayAddress(p.HostID).String(), []ovs.Action{ovs.Local()}},
		{p.Ranges.AccessAddress(p.HostID).String(), p.toLocalPorts()},
	}
	for _, o := range own {
		p.add(tableAsked, 200, append(asks(o.address), ovs.FieldMatch("arp_spa", o.address)), p.everywhere())
		p.add(tableAsked, 100, asks(o.address), o.to)
	}
	for _, r := range p.Remotes {
		to := []ovs.Action{ovs.SetField(r.Address.String(), "tun_dst"), ovs.Output(tunnelPort)}
		p.add(tableAsked, 100, asks(p.Ranges.GatewayAddress(r.HostID).String()), to)
		p.add(tableAsked, 100, asks(p.Ranges.AccessAddress(r.HostID).String()), to)
	}
	p.add(tableAsked, 0, nil, p.everywhere())
}

// asks matches a broadcast that asks for an IP address outside of VLANs.
func asks(address string) on {
	return on{untagged, arp, ovs.DataLinkDestination("ff:ff:ff:ff:ff:ff"), ovs.FieldMatch("arp_op", "1"), ovs.ARPTargetProtocolAddress(address)}
}

func asNumber(r plan.Remote) uint32 {
	a := r.Address.As4()
	return uint32(a[0])<<24 | uint32(a[1])<<16 | uint32(a[2])<<8 | uint32(a[3])
}
