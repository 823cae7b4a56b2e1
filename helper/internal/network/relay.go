package network

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
