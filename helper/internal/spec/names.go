package spec

import "net/netip"

// HostsPath is where private names stand where systemd-resolved does not look them up.
const HostsPath = "/etc/hosts"

// Names are the private names for a host that keeps its resolver.
type Names struct {
	// Link is the interface by which systemd-resolved asks Server for what is in Domains,
	// and for nothing else.
	Link    string
	Server  netip.Addr
	Domains []string
	// Beside are the lines of /etc/hosts that are needed where systemd-resolved looks names
	// up so, and All those where it does not.
	Beside, All string
}
