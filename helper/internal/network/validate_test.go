package network

import (
	"net/netip"
	"strings"
	"testing"
)

func TestValidate(t *testing.T) {
	address, endpoint := netip.MustParseAddr, netip.MustParseAddrPort
	long := strings.Repeat("a", 63)
	cases := []struct {
		name   string
		change func(*Document)
		want   string // "": valid
	}{
		{"as it is", func(*Document) {}, ""},
		{"MTU too small", func(d *Document) { d.UnderlayMTU = 1393 }, "underlay_mtu: found 1393, wanted 1394..9216 bytes"},
		{"smallest MTU", func(d *Document) { d.UnderlayMTU = 1394 }, ""},
		{"MTU too large", func(d *Document) { d.UnderlayMTU = 9217 }, "underlay_mtu: found 9217, wanted 1394..9216 bytes"},
		{"ID 0", func(d *Document) { d.Hosts[0].ID = 0 }, "192.0.2.3: host_id: found 0, wanted 1..32767"},
		{"largest ID", func(d *Document) { d.Hosts[0].ID = 32767 }, ""},
		{"ID too large", func(d *Document) { d.Hosts[0].ID = 32768 }, "192.0.2.3: host_id: found 32768, wanted 1..32767"},
		{"ID twice", func(d *Document) { d.Hosts[1].ID = 256 }, "192.0.2.1: host_id: found 256, which 192.0.2.3 has, wanted an ID of its own"},
		{"no hostname", func(d *Document) { d.Hosts[0].Hostname = "" }, "192.0.2.3: hostname: found nothing, wanted a fully qualified name such as alice.example.com"},
		{"one label", func(d *Document) { d.Hosts[0].Hostname = "carol" }, `192.0.2.3: hostname: found "carol", wanted a fully qualified name such as alice.example.com`},
		{"hostname twice", func(d *Document) { d.Hosts[1].Hostname = "CAROL.example.com" }, `192.0.2.1: hostname: found "CAROL.example.com", which 192.0.2.3 has, wanted a name of its own`},
		{"hostname of an extra host", func(d *Document) { d.Hosts[0].Hostname = "nas.example.com" }, `10.31.0.254: name: found "nas.example.com", which 192.0.2.3 has, wanted a name of its own`},
		{"IPv6 endpoint", func(d *Document) { d.Hosts[0].Endpoint = endpoint("[2001:db8::1]:51820") }, "192.0.2.3: endpoint: found [2001:db8::1]:51820, wanted a unicast IPv4 address and a port"},
		{"no port", func(d *Document) { d.Hosts[0].Endpoint = endpoint("192.0.2.3:0") }, "192.0.2.3: endpoint: found 192.0.2.3:0, wanted a unicast IPv4 address and a port"},
		{"loopback endpoint", func(d *Document) { d.Hosts[0].Endpoint = endpoint("127.0.0.1:51820") }, "192.0.2.3: endpoint: found 127.0.0.1:51820, wanted a unicast IPv4 address and a port"},
		{"endpoint inside", func(d *Document) { d.Hosts[0].Endpoint = endpoint("10.31.0.9:51820") }, "192.0.2.3: endpoint: found 10.31.0.9, wanted an address outside 10.30.0.0/16 and 10.31.0.0/16"},
		{"endpoint twice", func(d *Document) { d.Hosts[1].Endpoint = d.Hosts[0].Endpoint }, "192.0.2.1: endpoint: found 192.0.2.3:51820, which 192.0.2.3 has, wanted an endpoint of its own"},
		{"two endpoints", func(d *Document) { d.Hosts[1].OtherEndpoints = more("10.9.0.1:51820") }, ""},
		{"an endpoint twice", func(d *Document) { d.Hosts[1].OtherEndpoints = more("10.9.0.1:51820", "10.9.0.1:51820") }, "192.0.2.1: endpoints: found 10.9.0.1:51820 twice, wanted each endpoint once"},
		{"the first endpoint twice", func(d *Document) { d.Hosts[1].OtherEndpoints = more("192.0.2.1:51820") }, "192.0.2.1: endpoints: found 192.0.2.1:51820 twice, wanted each endpoint once"},
		{"an other host's endpoint", func(d *Document) { d.Hosts[1].OtherEndpoints = more("192.0.2.3:51820") }, "192.0.2.1: endpoints: found 192.0.2.3:51820, which 192.0.2.3 has, wanted an endpoint of its own"},
		{"an IPv6 endpoint among those of IPv4", func(d *Document) { d.Hosts[1].OtherEndpoints = more("[2001:db8::1]:51820") }, "192.0.2.1: endpoints: found [2001:db8::1]:51820, wanted a unicast IPv4 address and a port"},
		{"an IPv4 endpoint among those of IPv6", func(d *Document) {
			d.Hosts[1].SharedUplink, d.Hosts[1].IPv6Endpoints = true, more("10.9.0.1:51820")
		}, "192.0.2.1: endpoints: found 10.9.0.1:51820, wanted a unicast IPv6 address, link-local ones excepted, and a port"},
		{"an IPv6 endpoint of a host whose NIC moves", func(d *Document) { d.Hosts[1].IPv6Endpoints = more("[2001:db8::1]:51820") }, "192.0.2.1: endpoints: found [2001:db8::1]:51820, wanted IPv4 addresses: only where uplink_mode is shared IPv6 is spoken"},
		{"an IPv6 endpoint", func(d *Document) {
			d.Hosts[1].SharedUplink, d.Hosts[1].IPv6Endpoints = true, more("[2001:db8::1]:51820")
		}, ""},
		{"IPv6 endpoints that none can send to", func(d *Document) {
			d.Hosts[1].SharedUplink, d.Hosts[1].IPv6Endpoints = true, more("[fe80::1]:51820", "[::1]:1", "[::]:1", "[ff02::1]:1", "[::ffff:192.0.2.7]:1", "[2001:db8::1%7]:1", "[2001:db8::1]:0")
		}, "192.0.2.1: endpoints: found [fe80::1]:51820, wanted a unicast IPv6 address, link-local ones excepted, and a port\n" +
			"192.0.2.1: endpoints: found [::1]:1, wanted a unicast IPv6 address, link-local ones excepted, and a port\n" +
			"192.0.2.1: endpoints: found [::]:1, wanted a unicast IPv6 address, link-local ones excepted, and a port\n" +
			"192.0.2.1: endpoints: found [ff02::1]:1, wanted a unicast IPv6 address, link-local ones excepted, and a port\n" +
			"192.0.2.1: endpoints: found [::ffff:192.0.2.7]:1, wanted a unicast IPv6 address, link-local ones excepted, and a port\n" +
			"192.0.2.1: endpoints: found [2001:db8::1%7]:1, wanted a unicast IPv6 address, link-local ones excepted, and a port\n" +
			"192.0.2.1: endpoints: found [2001:db8::1]:0, wanted a unicast IPv6 address, link-local ones excepted, and a port"},
		{"MTU too small for IPv6", func(d *Document) {
			d.Hosts[1].SharedUplink, d.Hosts[1].IPv6Endpoints, d.UnderlayMTU = true, more("[2001:db8::1]:51820"), 1413
		}, "underlay_mtu: found 1413, wanted 1414..9216 bytes, as there are endpoints of IPv6"},
		{"an other endpoint inside", func(d *Document) { d.Hosts[1].OtherEndpoints = more("10.31.0.9:51820") }, "192.0.2.1: endpoints: found 10.31.0.9, wanted an address outside 10.30.0.0/16 and 10.31.0.0/16"},
		{"as many endpoints as can be", func(d *Document) {
			d.Hosts[1].OtherEndpoints = more("10.9.0.1:1", "10.9.0.1:2", "10.9.0.1:3", "10.9.0.1:4", "10.9.0.1:5", "10.9.0.1:6", "10.9.0.1:7")
		}, ""},
		{"too many endpoints", func(d *Document) {
			d.Hosts[1].OtherEndpoints = more("10.9.0.1:1", "10.9.0.1:2", "10.9.0.1:3", "10.9.0.1:4", "10.9.0.1:5", "10.9.0.1:6", "10.9.0.1:7", "10.9.0.1:8")
		}, "192.0.2.1: endpoints: found 9, wanted at most 8"},
		{"no name of an other endpoint", func(d *Document) {
			d.Hosts[1].OtherEndpoints = []OtherEndpoint{{netip.MustParseAddrPort("10.9.0.1:1"), "a b"}}
		}, `192.0.2.1: endpoints_name: found "a b", wanted a name that DNS can have`},
		{"two behind one address", func(d *Document) { d.Hosts[1].Endpoint = endpoint("192.0.2.3:51821") }, ""},
		{"two behind one address that listen on the same port", func(d *Document) {
			d.Hosts[1].Endpoint, d.Hosts[1].WireGuardPort = endpoint("192.0.2.3:51821"), 51820
		}, ""},
		{"endpoint twice, listening elsewhere", func(d *Document) { d.Hosts[1].Endpoint, d.Hosts[1].WireGuardPort = d.Hosts[0].Endpoint, 7 }, "192.0.2.1: endpoint: found 192.0.2.3:51820, which 192.0.2.3 has, wanted an endpoint of its own"},
		{"the endpoint's port twice", func(d *Document) { d.Hosts[0].WireGuardPort = 51820 }, "192.0.2.3: wireguard_port: found 51820, which is the endpoint's, wanted another port, or none"},
		{"no endpoint", func(d *Document) { d.Hosts[0].Endpoint, d.Hosts[0].WireGuardPort = netip.AddrPort{}, 51820 }, ""},
		{"no endpoint, and none knows where it listens", func(d *Document) { d.Hosts[0].Endpoint = netip.AddrPort{} }, "192.0.2.3: endpoint: found invalid AddrPort, wanted a unicast IPv4 address and a port"},
		{"no first endpoint", func(d *Document) {
			d.Hosts[0].Endpoint, d.Hosts[0].WireGuardPort, d.Hosts[0].OtherEndpoints = netip.AddrPort{}, 51820, more("10.9.0.1:1")
		}, "192.0.2.3: endpoint: found none and others of IPv4, wanted no others, or a first one"},
		{"IPv6 alone", func(d *Document) {
			d.Hosts[0].Endpoint, d.Hosts[0].WireGuardPort, d.Hosts[0].SharedUplink, d.Hosts[0].IPv6Endpoints = netip.AddrPort{}, 51820, true, more("[2001:db8::1]:51820")
		}, ""},
		{"nobody has an endpoint", func(d *Document) {
			for i := range d.Hosts {
				d.Hosts[i].Endpoint, d.Hosts[i].WireGuardPort = netip.AddrPort{}, 51820
			}
		}, "192.0.2.3: endpoint: found none, as at all hosts, wanted one host at least that others can send to"},
		{"key twice", func(d *Document) { d.Hosts[1].PublicKey = Key{3} }, "192.0.2.1: key: found " + Key{3}.String() + ", which 192.0.2.3 has, wanted a key of its own"},
		{"a host rotates", func(d *Document) { d.Hosts[0].AlsoKey = Key{33} }, ""},
		{"rotating to a key of another host", func(d *Document) { d.Hosts[0].AlsoKey = Key{1} }, "192.0.2.1: key: found " + Key{1}.String() + ", which 192.0.2.3 has, wanted a key of its own"},
		{"rotating to the same key", func(d *Document) { d.Hosts[0].AlsoKey = Key{3} }, "192.0.2.3: key: found " + Key{3}.String() + ", which 192.0.2.3 has, wanted a key of its own"},
		{"rotating to a client's key", func(d *Document) { d.Hosts[0].AlsoKey = Key{9} }, "10.30.128.1/32: key: found " + Key{9}.String() + ", which 192.0.2.3 has, wanted a key of its own"},
		{"rotating without a key", func(d *Document) { d.Hosts[2].AlsoKey = Key{22} }, "192.0.2.2: key: found another key alone, wanted the key that the host uses"},
		{"two without a key", func(d *Document) { d.Hosts[1].PublicKey = Key{} }, ""},
		{"long uplink", func(d *Document) { d.Hosts[0].Uplink = "enp0s31f6longer1" }, `192.0.2.3: uplink: found "enp0s31f6longer1", wanted the name of an interface`},
		{"uplink with a slash", func(d *Document) { d.Hosts[0].Uplink = "../eth0" }, `192.0.2.3: uplink: found "../eth0", wanted the name of an interface`},
		{"opening a firewall", func(d *Document) { d.Hosts[0].OpenFirewall, d.Hosts[0].SharedUplink = true, true }, ""},
		{"its gateway's resolver", func(d *Document) { d.Hosts[0].GatewayResolver, d.Hosts[0].SharedUplink = true, true }, ""},
		{"its gateway's resolver, that it has anyway", func(d *Document) { d.Hosts[0].GatewayResolver = true }, "192.0.2.3: resolver: found gateway, wanted it only where uplink_mode is shared: where it is moved there is no other"},
		{"opening a firewall that is not before the host", func(d *Document) { d.Hosts[0].OpenFirewall = true }, "192.0.2.3: open_firewall: found true, wanted it only where uplink_mode is shared"},
		{"IPv6 resolver", func(d *Document) { d.Hosts[0].UpstreamDNS = []netip.Addr{address("2001:db8::53")} }, "192.0.2.3: upstream_dns: found 2001:db8::53, wanted IPv4 addresses of resolvers"},
		{"resolver 0.0.0.0", func(d *Document) { d.Hosts[0].UpstreamDNS = []netip.Addr{address("0.0.0.0")} }, "192.0.2.3: upstream_dns: found 0.0.0.0, wanted IPv4 addresses of resolvers"},
		{"SCTP", func(d *Document) { d.Hosts[0].Publish[0].Protocol = "sctp" }, "192.0.2.3: publish: found sctp/443, wanted tcp/PORT or udp/PORT, PORT in 1..65535"},
		{"port 0", func(d *Document) { d.Hosts[0].Publish[0].Number = 0 }, "192.0.2.3: publish: found tcp/0, wanted tcp/PORT or udp/PORT, PORT in 1..65535"},
		{"WireGuard's port", func(d *Document) { d.Hosts[0].Publish[1].Number = 51820 }, "192.0.2.3: publish: found udp/51820, wanted a port other than WireGuard's"},
		{"no name of an endpoint", func(d *Document) { d.Hosts[0].EndpointName = "home.example.net\x1b" }, `192.0.2.3: endpoint_name: found "home.example.net\x1b", wanted a name that DNS can have`},
		{"the same name twice", func(d *Document) {
			d.Hosts[0].EndpointName, d.Hosts[1].EndpointName = "home.example.net", "home.example.net"
		}, ""},
		{"the port where WireGuard listens", func(d *Document) { d.Hosts[0].WireGuardPort = 443 }, "192.0.2.3: publish: found udp/443, wanted a port other than WireGuard's"},
		{"WireGuard's port of outside", func(d *Document) { d.Hosts[0].Publish[1].Number, d.Hosts[0].WireGuardPort = 51820, 7 }, ""},
		{"extra host outside", func(d *Document) { d.Names[0].Address = address("10.32.0.1") }, "10.32.0.1: address: found 10.32.0.1, wanted a host address in 10.31.0.0/16"},
		{"extra host at the broadcast address", func(d *Document) { d.Names[0].Address = address("10.31.255.255") }, "10.31.255.255: address: found 10.31.255.255, wanted a host address in 10.31.0.0/16"},
		{"extra host at a gateway", func(d *Document) { d.Names[0].Address = address("10.31.0.1") }, ""},
		{"extra host twice", func(d *Document) { d.Names = append(d.Names, Name{d.Names[0].Address, []string{"b.example.com"}}) }, "10.31.0.254: address: found 10.31.0.254 twice, wanted each address once, with a list of names"},
		{"extra host without a name", func(d *Document) { d.Names[0].Names = nil }, "10.31.0.254: name: found nothing, wanted a name or a list of names"},
		{"client outside", func(d *Document) { d.Clients[0].Address = address("10.30.0.9") }, "10.30.0.9/32: address: found 10.30.0.9/32, wanted an address in 10.30.128.0/17"},
		{"client with a host's name", func(d *Document) { d.Clients[0].Name = d.Hosts[0].Hostname }, `10.30.128.1/32: name: found "carol.example.com", which 192.0.2.3 has, wanted a name of its own`},
		{"client twice", func(d *Document) {
			d.Clients = append(d.Clients, Client{Address: d.Clients[0].Address, PublicKey: Key{10}})
		}, "10.30.128.1/32: address: found 10.30.128.1/32 twice, wanted each address once"},
		{"client without a key", func(d *Document) { d.Clients[0].PublicKey = Key{} }, "10.30.128.1/32: key: found nothing, wanted a WireGuard public key"},
		{"client with a host's key", func(d *Document) { d.Clients[0].PublicKey = Key{1} }, "10.30.128.1/32: key: found " + Key{1}.String() + ", which 192.0.2.1 has, wanted a key of its own"},
		{"longest label", func(d *Document) { d.Hosts[0].Hostname = long + ".com" }, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			d := small()
			c.change(&d)
			var texts []string
			for _, p := range d.Validate() {
				texts = append(texts, p.Error())
			}
			if got := strings.Join(texts, "\n"); got != c.want {
				t.Errorf("found\n%s\nwanted\n%s", got, c.want)
			}
		})
	}
}

func TestIsDNSName(t *testing.T) {
	long := strings.Repeat("a", 63)
	for name, want := range map[string]bool{
		"a": true, "a.b": true, "a.b.": true, "_a-.b_c": true, long + ".b": true, strings.Repeat("a.", 126) + "b": true, strings.Repeat("a.", 126) + "b.": true,
		"": false, ".": false, "..": false, ".a": false, "a..b": false, "a.b..": false, "a b": false, "a.b:7": false, "ä.b": false, "a.9": false, "192.0.2.300": false,
		"a\n.b": false, "a" + long + ".b": false, strings.Repeat("a.", 126) + "bc": false, "[::1]": false,
	} {
		if got := IsDNSName(name); got != want {
			t.Errorf("%q: found %v", name, got)
		}
	}
}

func TestIsFQDN(t *testing.T) {
	long := strings.Repeat("a", 63)
	for name, want := range map[string]bool{
		"a.b": true, "a-b.c9": true, "9.example": true, "xn--bcher-kva.example": true,
		long + ".b":                       true,
		"a" + long + ".b":                 false,
		strings.Repeat("a.", 126) + "b":   true,
		strings.Repeat("a.", 126) + "bcd": false,
		"":                                false, "a": false, ".": false, "a.": false, ".a": false, "a..b": false, "-a.b": false, "a-.b": false,
		"a_b.c": false, "a b.c": false, "ä.b": false, "a.9": false, "192.0.2.1": false, "a.b\n": false,
	} {
		if got := IsFQDN(name); got != want {
			t.Errorf("%q: found %v", name, got)
		}
	}
}

func more(endpoints ...string) (all []OtherEndpoint) {
	for _, e := range endpoints {
		all = append(all, OtherEndpoint{Endpoint: netip.MustParseAddrPort(e)})
	}
	return all
}
