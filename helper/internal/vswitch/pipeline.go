package vswitch

import (
	"fmt"
	"net/netip"

	"mobula/helper/internal/network"
	"mobula/helper/internal/spec"
)

// The flow tables, in the order in which a frame meets them.
const (
	tableAdmission = 0  // pins on Ethernet addresses
	tableTags      = 1  // what is in a VLAN
	tableAddresses = 2  // pins on IP addresses
	tableLearn     = 3  // note the source, look up the destination
	tableSources   = 4  // pins on IPv6: who speaks
	tableTargets   = 5  // which address a neighbor message is about
	tableLinkLayer = 6  // which Ethernet address it names
	tableKnown     = 7  // whether the source could be noted
	tableRoom      = 8  // whether its IP address could
	tableLearned   = 10 // where stations are: members', and what table 3 learned
	tableAddressed = 11 // IP addresses from which this host is spoken to
	tableForward   = 20
	tableFlood     = 21 // the other hosts, in chunks that nest
	tableAsked     = 22 // who asks where a member is
	tableDropped   = 30 // broken pins
)

// OpenFlow port numbers. They are asked for by ofport_request
// (ovs-vswitchd.conf.db(5)), so that flows can be computed before ports exist.
const (
	tunnelPort     = 1
	firstLocalPort = 2
	// localPort is OFPP_LOCAL, in 16 bits as in the registers.
	localPort = 0xfffe
	// maxLocalPorts keeps below OFPP_MAX, 0xff00.
	maxLocalPorts = 1000
)

// Registers (ovs-fields(7)); all are 0 when a frame comes in.
const (
	learnedPort   = 1 // OpenFlow port of the destination; 0: unknown
	learnedTunnel = 2 // tun_dst for it, if the port is the tunnel
	pinRegister   = 3
	chunkRegister = 4
	knownRegister = 5 // 1: the source could be noted
	meterRegister = 6 // 1: has passed the meter
	roomRegister  = 7 // 1: a member's IP address, or there was room for the source's
)

const (
	// learnedSeconds is how long a station is remembered after it last spoke:
	// the default of IEEE 802.1Q section 8.8.3. It is a *hard* timeout. The learn
	// action starts it anew with every frame of the station; an idle timeout
	// would also be prolonged by frames *to* the station, so that a sender that
	// does not give up would keep an entry for a station that has left.
	learnedSeconds = 300
	// maxLearned bounds how many stations are remembered, apart for each local port,
	// each remote host, and the host's own Ethernet address in its VLANs: a guest that
	// invents addresses fills memory neither here nor on other hosts, and takes no
	// place but of those behind the same host. What comes from further stations is
	// dropped, since flooding what goes to them would cost every host time.
	maxLearned = 2048
	// chunkIDs is how many host IDs one flow of table 21 floods to. A remote
	// takes 40 bytes of actions and an OpenFlow message has at most 65535.
	// Chunks go by host ID, not by position: a new host changes its chunk, and the
	// one before it if its chunk is new.
	chunkIDs = 1024
)

// on lists the matches of a flow.
type on = []string

// The protocols whose addresses are pinned.
var (
	arp = etherType(0x0806)
	ip  = etherType(0x0800)
)

type pipeline struct {
	spec.Switch
	metered   bool
	neighbors int
	flows     []*flow
}

// Pipeline returns the flows of a host's switch, whose floods a meter bounds if it has
// meters, and whose kernel has room for so many neighbors. Nothing else is in its tables
// but what the switch learns into tables 10 and 11.
func Pipeline(s spec.Switch, metered bool, neighbors int) ([]*flow, error) {
	if err := validate(s); err != nil {
		return nil, fmt.Errorf("switch %s: %w", s.Bridge, err)
	}
	p := &pipeline{Switch: s, metered: metered, neighbors: neighbors}
	p.admission()
	p.tags()
	p.addresses()
	p.pinNeighbors()
	p.learn()
	p.remembered()
	p.places()
	p.forward()
	p.asked()
	p.flood()
	p.dropped()
	stamp(p.flows)
	return p.flows, nil
}

// validate refuses what would make two flows with one match.
func validate(s spec.Switch) error {
	if s.HostID < network.MinHostID || s.HostID > network.MaxHostID {
		return fmt.Errorf("host ID: found %d, wanted %d..%d", s.HostID, network.MinHostID, network.MaxHostID)
	}
	if len(s.MAC) != 6 || s.MAC[0]&1 != 0 {
		return fmt.Errorf("MAC address: found %q, wanted a unicast address", s.MAC)
	}
	if len(s.LocalPorts) > maxLocalPorts {
		return fmt.Errorf("local ports: found %d, wanted at most %d", len(s.LocalPorts), maxLocalPorts)
	}
	ids, addresses := map[uint16]bool{s.HostID: true}, map[netip.Addr]bool{}
	for _, r := range s.Remotes {
		switch {
		case r.HostID < network.MinHostID || r.HostID > network.MaxHostID:
			return fmt.Errorf("remote %s: host ID: found %d, wanted %d..%d", r.Name, r.HostID, network.MinHostID, network.MaxHostID)
		case ids[r.HostID]:
			return fmt.Errorf("remote %s: host ID: found %d twice", r.Name, r.HostID)
		case !r.Address.Is4() || addresses[r.Address]:
			return fmt.Errorf("remote %s: address: found %s, wanted an IPv4 address of its own", r.Name, r.Address)
		}
		ids[r.HostID], addresses[r.Address] = true, true
	}
	return nil
}

// forward is table 20. A switch never sends a frame back to the port it came
// from (ovs-actions(7), output), which the tunnel is to all remote hosts at
// once: no loop can exist. Frames to 01:80:c2:00:00:0x are like any other, since
// only the action "normal" treats them specially.
//
// A station learned on a host that has left since is sent into a tunnel that
// WireGuard has no peer for, and is forgotten after learnedSeconds: harmless.
func (p *pipeline) forward() {
	unknown, remote := register(learnedPort, 0), register(learnedPort, tunnelPort)
	p.add(tableForward, 300, on{port(tunnelPort), remote}, []string{"drop"})
	p.add(tableForward, 200, on{remote},
		[]string{"move:NXM_NX_REG2[]->NXM_NX_TUN_IPV4_DST[]", outputTo(tunnelPort)})
	p.add(tableForward, 200, on{port(tunnelPort), unknown}, p.toLocalPorts())
	p.add(tableForward, 150, append(on{unknown}, asks(p.Ranges.Access().String())...), resubmit(tableAsked))
	p.add(tableForward, 100, on{unknown}, p.everywhere())
	p.add(tableForward, 0, nil, []string{"output:NXM_NX_REG1[0..15]"})
}

func (p *pipeline) toLocalPorts() []string {
	actions := []string{"local"}
	for i := range p.LocalPorts {
		actions = append(actions, outputTo(firstLocalPort+i))
	}
	return actions
}

// everywhere leads into table 21 at chunk 0: registers are 0 at first.
func (p *pipeline) everywhere() []string {
	if len(p.Remotes) == 0 {
		return p.toLocalPorts()
	}
	return append(p.toLocalPorts(), resubmitTo(tableFlood))
}

// flood is table 21: a frame to every other host, a copy each. Open vSwitch refuses
// a resubmit, and says nothing to anybody but its log, once there are more than 64 KiB
// of the datapath's actions. Copies are never refused, so every chunk first goes on to
// the next one, and makes its own copies afterwards. Resubmits may nest 64 deep
// (ovs-actions(7)): there are 32 chunks, and 13 resubmits at most before them.
//
// The meter has a flow of its own, before the others. Flows go with their meter, but
// without this one frames go on to all hosts until the meter is put back.
func (p *pipeline) flood() {
	chunks := p.chunks()
	if p.metered && len(chunks) > 0 {
		p.add(tableFlood, 200, on{register(chunkRegister, 0), register(meterRegister, 0)},
			[]string{passMeter(), load(1, meterRegister), resubmitTo(tableFlood)})
	}
	for i, chunk := range chunks {
		var actions []string
		if i+1 < len(chunks) {
			actions = append(actions, load(chunks[i+1].number, chunkRegister), resubmitTo(tableFlood))
		}
		for _, r := range chunk.remotes {
			actions = append(actions, tunnelTo(r.Address.String()), outputTo(tunnelPort))
		}
		p.add(tableFlood, 100, on{register(chunkRegister, chunk.number)}, actions)
	}
}

type chunk struct {
	number  uint32
	remotes []spec.Remote
}

// chunks returns the remotes by host ID; those without a remote are left out. Chunk 0
// is there if any is: whatever comes first, the flows that lead to it stay the same.
func (p *pipeline) chunks() []chunk {
	var byNumber [network.MaxHostID/chunkIDs + 1][]spec.Remote
	for _, r := range p.Remotes {
		byNumber[r.HostID/chunkIDs] = append(byNumber[r.HostID/chunkIDs], r)
	}
	var all []chunk
	for n, remotes := range byNumber {
		if len(remotes) > 0 || n == 0 && len(p.Remotes) > 0 {
			all = append(all, chunk{uint32(n), remotes})
		}
	}
	return all
}

// add appends a flow.
func (p *pipeline) add(table, priority int, matches on, actions []string) *flow {
	f := &flow{table: table, priority: priority, matches: matches, actions: actions}
	p.flows = append(p.flows, f)
	return f
}

func resubmit(table int) []string { return []string{resubmitTo(table)} }

func arpFrom(a netip.Addr) string { return "arp_spa=" + a.String() }

func ipFrom(a netip.Addr) string { return "nw_src=" + a.String() }
