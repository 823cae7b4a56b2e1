package spec

import "net/netip"

// Targets are the addresses that the host relays to.
func (d *Doorway) Targets() []netip.Addr {
	var all []netip.Addr
	for _, r := range d.Relays {
		all = append(all, r.Endpoint.Addr())
	}
	return all
}

// Onward is how a host that keeps its NIC would send to others now: its routing is its
// own business and may change at any time.
type Onward struct {
	// Links are the interfaces to the outside that stand and those of Ways, each once.
	Links []OnwardLink
	// Ways has one for each of the host's own addresses at which it relays and each other
	// address that can be reached from there.
	Ways []Way
}

// OnwardLink is an interface of the host.
type OnwardLink struct {
	Name  string
	Index int // its number, which another one of the name has not
	MTU   int // bytes
}

// Way is the first hop between two addresses; Hop is To where that is on the link itself.
type Way struct {
	From, To, Hop netip.Addr
	Link          string
}
