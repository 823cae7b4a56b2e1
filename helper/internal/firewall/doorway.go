package firewall

import (
	"fmt"
	"net/netip"
	"strconv"

	"mobula/helper/internal/spec"
)

// doorway is what the template of the host's ruleset sees.
type doorway struct {
	Direct, Access           string
	Outside, Opened, Bridges []string // quoted
	WireNet, AccessNet       netip.Prefix
	Intrawire, AccessAddress netip.Addr
	HostOnly                 []string
	Manual                   bool
	// Ports from which the gateway's packets may leave: the one that they came from, if it
	// is a client's and free, or a spare one.
	ClientPorts []portRange
	SparePorts  portRange
	// Members are endpoints, and SpareUDP the ports from which guests speak to them: none
	// of a relay's.
	Members  []string
	SpareUDP portRange
}

// RenderDoorway returns the ruleset for nft -f in the host's own namespace. The same plan
// gives the same text.
func RenderDoorway(d *spec.Doorway) string {
	v := doorway{
		Direct: d.Direct, Access: d.Access, WireNet: d.Ranges.Wire(), AccessNet: d.Ranges.Access(), HostOnly: hostOnly(),
		Intrawire: d.Ranges.IntrawireAddress(d.HostID), AccessAddress: d.Ranges.AccessAddress(d.HostID),
		Manual: d.Manual,
	}
	v.ClientPorts = clientPorts(freePorts([]uint16{d.WireGuardPort}))
	v.SparePorts = largest(v.ClientPorts)
	taken := []uint16{d.WireGuardPort}
	for _, r := range d.Relays {
		taken = append(taken, r.Port)
		for _, e := range r.From() {
			v.Members = append(v.Members, fmt.Sprintf("%s . %d", e.Addr(), e.Port()))
		}
	}
	free := freePorts(taken)
	if v.SpareUDP = largest(clientPorts(free)); v.SpareUDP == (portRange{}) {
		v.SpareUDP = spare(free) // there are as many hosts as there can be
	}
	v.Outside, v.Opened, v.Bridges = quoted(d.Outside), quoted(d.Opened), quoted(d.Bridges)
	return execute("doorway.nft", v)
}

func quoted(names []string) (all []string) {
	for _, name := range names {
		all = append(all, strconv.Quote(name))
	}
	return all
}
