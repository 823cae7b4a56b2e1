package report

// Kind is by what way traffic goes to another host. None: that is not known, as of a way that is
// not up, and of hosts of a version that does not tell.
type Kind string

// The kinds of a way. New ones may come: what is none of them is as one that is not known.
const (
	Direct     Kind = "direct"
	DirectIPv6 Kind = "direct_ipv6"
	LAN        Kind = "lan" // direct, in a network that the host itself is in
	LANIPv6    Kind = "lan_ipv6"
	Punched    Kind = "punched" // direct, though neither end has an endpoint
	Relayed    Kind = "relayed" // by relay ports of a third host
	Carried    Kind = "carried" // by a third host's agent, inside WireGuard
)

// Kinds are all of them, in an order that stays: hosts tell each other by their places in it. New
// ones come at its end.
var Kinds = []Kind{Direct, DirectIPv6, LAN, LANIPv6, Punched, Relayed, Carried}

// Facts are what decides the kind of a way.
type Facts struct {
	State string
	// Via is the ID of the host that relays; 0: direct. Carried: its agent does.
	Via     uint16
	Carried bool
	// Local: traffic goes to an address in a network of one of the host's own interfaces, IPv6:
	// to one of that family.
	Local, IPv6 bool
	// Unreached: neither end has an endpoint that others could send to first.
	Unreached bool
}

// Kind decides.
func (f Facts) Kind() Kind {
	switch {
	case f.State != Up:
		return ""
	case f.Via != 0 && f.Carried:
		return Carried
	case f.Via != 0:
		return Relayed
	case f.Local && f.IPv6:
		return LANIPv6
	case f.Local:
		return LAN
	case f.Unreached:
		return Punched
	case f.IPv6:
		return DirectIPv6
	}
	return Direct
}

// Words say it, of a relay that is called so.
func (k Kind) Words(relay string) string {
	switch k {
	case DirectIPv6:
		return "direct (IPv6)"
	case LAN:
		return "direct (LAN)"
	case LANIPv6:
		return "direct (LAN, IPv6)"
	case Punched:
		return "direct (punched)"
	case Relayed:
		return "via " + relay
	case Carried:
		return "via " + relay + " (carried)"
	}
	return "direct"
}

// words say by what way traffic goes, as far as that is known.
func (w Way) words(relay string) string {
	if w.Via != 0 && w.Kind != Carried {
		return Relayed.Words(relay)
	}
	return w.Kind.Words(relay)
}

// Contradictory reports that a way that is up cannot be of the kind that is told of it.
func (w Way) Contradictory() bool {
	switch w.Kind {
	case Direct, DirectIPv6, LAN, LANIPv6, Punched:
		return w.State != Up || w.Via != 0
	case Relayed, Carried:
		return w.State != Up || w.Via == 0
	}
	return false
}
