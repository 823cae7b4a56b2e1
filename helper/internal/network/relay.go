package network

import "net/netip"

// relayPortBase is the relay port of host ID 0, which no host has.
const relayPortBase = 32768

// RelayPort returns the UDP port on which a relay forwards what members send to
// the WireGuard of host target. It follows from the host ID alone, so that hosts
// with different generations agree on it. Where it would be the relay's own
// WireGuard port, the port that host ID 0 would have stands in.
func RelayPort(relay Host, target uint16) uint16 {
	if port := relayPortBase + target; port != relay.Endpoint.Port() {
		return port
	}
	return relayPortBase
}

// Relays returns the hosts that can relay for others: those whose relay ports are at
// their endpoints. Where a router translates ports, or several hosts share an address,
// nobody could tell whose they are.
func (d *Document) Relays() map[uint16]bool {
	at := make(map[netip.Addr]int, len(d.Hosts))
	for _, h := range d.Hosts {
		at[h.Endpoint.Addr()]++
	}
	can := make(map[uint16]bool, len(d.Hosts))
	for _, h := range d.Hosts {
		if h.Endpoint.IsValid() && h.WireGuardPort == 0 && at[h.Endpoint.Addr()] == 1 {
			can[h.ID] = true
		}
	}
	return can
}
