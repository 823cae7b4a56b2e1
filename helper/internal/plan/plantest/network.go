// Package plantest has networks and hosts for tests.
package plantest

import (
	"fmt"
	"net"
	"net/netip"

	"mobula/helper/internal/network"
	"mobula/helper/internal/plan"
)

// Key returns a public key that is another one for each n.
func Key(n int) network.Key { return network.Key{byte(n), byte(n >> 8), byte(n >> 16), 31: 1} }

// Host returns a valid host.
func Host(id uint16) network.Host {
	return network.Host{
		ID: id, Name: fmt.Sprintf("192.0.2.%d", id%251), Hostname: fmt.Sprintf("h%d.example.com", id),
		Endpoint:  netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, byte(id >> 8), byte(id)}), 51820),
		PublicKey: Key(int(id)),
	}
}

// Document returns a network of such hosts with an underlay MTU of 1500 bytes.
func Document(hosts ...network.Host) *network.Document {
	return Canonical(network.Document{Format: network.FormatVersion, Serial: 1, UnderlayMTU: 1500, Hosts: hosts})
}

// Canonical returns the document as its bytes say it; it has to be valid.
func Canonical(d network.Document) *network.Document {
	parsed, err := network.Parse(d.Encode())
	if err != nil {
		panic(err)
	}
	return parsed
}

// Facts returns a host that reaches the outside by eth0 with a static address.
func Facts(managers ...plan.Manager) *plan.Facts {
	return &plan.Facts{
		Uplink: "eth0", MAC: net.HardwareAddr{0x52, 0x54, 0, 0, 0, 1}, MTU: 1500,
		Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24")},
		Routes: []plan.Route{{To: netip.MustParsePrefix("0.0.0.0/0"), Via: netip.MustParseAddr("192.0.2.254"),
			Link: "eth0", Protocol: 3}},
		IPv6Addresses: []netip.Prefix{netip.MustParsePrefix("2001:db8::1/64")},
		IPv6Routes: []plan.Route{{To: netip.MustParsePrefix("::/0"), Via: netip.MustParseAddr("2001:db8::fe"),
			Link: "eth0", Metric: 1024, Protocol: 3}},
		Resolvers:  []netip.Addr{netip.MustParseAddr("192.0.2.53")},
		ResolvConf: plan.File{Path: plan.ResolvConfPath, Mode: 0o644, Content: "search example.com\nnameserver 192.0.2.53\n"},
		SSHPorts:   []uint16{22}, Managers: managers,
	}
}
