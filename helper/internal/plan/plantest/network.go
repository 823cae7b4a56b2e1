// Package plantest has networks and hosts for tests.
package plantest

import (
	"crypto/ecdh"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"mobula/helper/internal/network"
	"mobula/helper/internal/spec"
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

// Crowd returns a document of n hosts that have keys, and the private key of the first.
func Crowd(n int) (d *network.Document, own network.Key) {
	d = &network.Document{Format: network.FormatVersion, UnderlayMTU: 1500}
	for id := 1; id <= n; id++ {
		seed := [32]byte{7, byte(id >> 8), byte(id)}
		key, err := ecdh.X25519().NewPrivateKey(seed[:])
		if err != nil {
			panic(err)
		}
		if id == 1 {
			own = seed
		}
		endpoint := netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 18, byte(id >> 8), byte(id)}), 51820)
		d.Hosts = append(d.Hosts, network.Host{ID: uint16(id), Name: endpoint.String(), Hostname: fmt.Sprintf("h%d.example.com", id),
			Endpoint: endpoint, PublicKey: network.Key(key.PublicKey().Bytes())})
	}
	return d, own
}

// OtherRanges have nothing in common with the default: 172.20.0.0/16 and 192.168.0.0/16.
func OtherRanges() network.Ranges { return network.NewRanges(172<<8|20, 192<<8|168) }

// Facts returns a host that reaches the outside by eth0 with a static address.
func Facts(managers ...spec.Manager) *spec.Facts {
	return &spec.Facts{
		Uplink: "eth0", MAC: net.HardwareAddr{0x52, 0x54, 0, 0, 0, 1}, MTU: 1500,
		Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24")},
		Routes: []spec.Route{{To: netip.MustParsePrefix("0.0.0.0/0"), Via: netip.MustParseAddr("192.0.2.254"),
			Link: "eth0", Protocol: 3}},
		IPv6Addresses: []netip.Prefix{netip.MustParsePrefix("2001:db8::1/64")},
		IPv6Routes: []spec.Route{{To: netip.MustParsePrefix("::/0"), Via: netip.MustParseAddr("2001:db8::fe"),
			Link: "eth0", Metric: 1024, Protocol: 3}},
		Resolvers:  []netip.Addr{netip.MustParseAddr("192.0.2.53")},
		ResolvConf: spec.File{Path: spec.ResolvConfPath, Mode: 0o644, Content: "search example.com\nnameserver 192.0.2.53\n"},
		SSHPorts:   []uint16{22}, Managers: managers,
	}
}

// FactsWithAll returns a host whose NIC has what a NIC may have: a peer, labels,
// scopes, flags, metrics, routes of one key in an order, one of the kernel's that is
// missing, and settings of its own.
func FactsWithAll(managers ...spec.Manager) *spec.Facts {
	f := Facts(managers...)
	p, a := netip.MustParsePrefix, netip.MustParseAddr
	anywhere, subnet := p("0.0.0.0/0"), p("192.0.2.0/26")
	f.Baseline = &spec.Baseline{
		Addresses: []spec.Address{
			{Prefix: p("192.0.2.1/26"), Broadcast: a("192.0.2.63"), Label: "eth0:1", Protocol: 9},
			{Prefix: p("203.0.113.10/32"), Peer: p("172.31.1.1/32")},
			{Prefix: p("198.51.100.9/28"), Flags: 0x200},
			{Prefix: p("10.9.9.9/24"), Flags: 0x20, Metric: 77},
			{Prefix: p("192.0.2.5/26"), Scope: ""},
			{Prefix: p("2001:db8::1/64"), Flags: 0x02, Metric: 55},
			{Prefix: p("2001:db8:1::1/128")},
		},
		Routes: []spec.Route{
			{To: p("10.8.0.0/16"), Scope: "global", Protocol: 3, Metrics: "mtu=1400 advmss=1360"},
			{To: subnet, Via: a("192.0.2.62"), Protocol: 3},
			{To: anywhere, Via: a("192.0.2.62"), Metric: 200, Protocol: 3, Behind: false},
			{To: anywhere, Via: a("172.31.1.1"), Metric: 200, Protocol: 4, Source: a("203.0.113.10")},
			{To: p("10.7.0.0/16"), Via: a("10.255.0.1"), OnLink: true, Protocol: 16, Metrics: "lock=4 mtu=1300"},
			{To: p("::/0"), Via: a("fe80::1"), Metric: 1024, Protocol: 3, Preference: "high"},
		},
		Absent:        []spec.Route{{To: p("10.9.9.0/24"), Metric: 77, Source: a("10.9.9.9"), Protocol: 2}},
		Settings:      []spec.NICSetting{{Group: "ipv4/conf", Name: "rp_filter", Value: "2"}, {Group: "ipv4/conf", Name: "arp_ignore", Value: "1"}},
		DefaultMetric: 3,
	}
	f.Addresses, f.Routes, f.IPv6Addresses, f.IPv6Routes = nil, nil, nil, nil
	for i := range f.Baseline.Addresses {
		f.Baseline.Addresses[i].Link = f.Uplink
		if one := f.Baseline.Addresses[i].Prefix; one.Addr().Is4() {
			f.Addresses = append(f.Addresses, one)
		} else {
			f.IPv6Addresses = append(f.IPv6Addresses, one)
		}
	}
	for i := range f.Baseline.Routes {
		f.Baseline.Routes[i].Link = f.Uplink
		if one := f.Baseline.Routes[i]; one.To.Addr().Is4() {
			f.Routes = append(f.Routes, one)
		} else {
			f.IPv6Routes = append(f.IPv6Routes, one)
		}
	}
	f.Baseline.Absent[0].Link = f.Uplink
	return f
}

// InOtherRanges returns a text about the default ranges as one about OtherRanges.
func InOtherRanges(text string) string {
	return strings.NewReplacer("10.30.", "172.20.", "10.31.", "192.168.", "0xa1e", "0xac14", "0xa1f", "0xc0a8").Replace(text)
}
