package hosttest

import "net/netip"

// bases are the ways in which hosters give a host its address and default route.
var bases = []feature{
	{name: "classic", carried: true, make: func(h *host) {
		h.public("192.0.2.10", "192.0.2.1")
		h.ip("address add 192.0.2.10/24 broadcast + dev %s", h.uplink)
		h.up()
		h.ip("route add default via 192.0.2.1 dev %s%s", h.uplink, h.pick("", " proto static", " proto static metric 100", " onlink", " src 192.0.2.10"))
		h.isp("address add 192.0.2.1/24 dev cable")
	}},
	{name: "peer", carried: true, make: func(h *host) { // ifupdown's pointopoint
		h.public("203.0.113.10", "172.31.1.1")
		h.ip("address add 203.0.113.10 peer 172.31.1.1/32 dev %s", h.uplink)
		h.up()
		h.ip("route add default via 172.31.1.1 dev %s%s", h.uplink, h.pick("", " onlink"))
		h.isp("address add 172.31.1.1/32 dev cable")
		h.isp("route add 203.0.113.10/32 dev cable")
	}},
	{name: "single", carried: true, make: func(h *host) { // a /32 with a route to the gateway
		h.public("203.0.113.10", "172.31.1.1")
		h.ip("address add 203.0.113.10/32 dev %s", h.uplink)
		h.up()
		h.ip("route add 172.31.1.1 dev %s", h.uplink)
		h.ip("route add default via 172.31.1.1 dev %s", h.uplink)
		h.isp("address add 172.31.1.1/32 dev cable")
		h.isp("route add 203.0.113.10/32 dev cable")
	}},
	{name: "single onlink", carried: true, make: func(h *host) {
		h.public("203.0.113.10", "172.31.1.1")
		h.ip("address add 203.0.113.10/32 dev %s", h.uplink)
		h.up()
		h.ip("route add default via 172.31.1.1 dev %s proto static onlink", h.uplink)
		h.isp("address add 172.31.1.1/32 dev cable")
		h.isp("route add 203.0.113.10/32 dev cable")
	}},
	{name: "own subnet by the gateway", carried: true, make: func(h *host) {
		h.public("203.0.113.10", "203.0.113.1")
		h.ip("address add 203.0.113.10/26 broadcast 203.0.113.63 dev %s", h.uplink)
		h.up()
		h.ip("route add default via 203.0.113.1 dev %s onlink", h.uplink)
		h.ip("route %s 203.0.113.0/26 via 203.0.113.1 dev %s", h.pick("append", "prepend"), h.uplink)
		h.isp("address add 203.0.113.1/26 dev cable")
	}},
	{name: "own subnet by the gateway alone", carried: true, make: func(h *host) {
		h.public("203.0.113.10", "203.0.113.1")
		h.ip("address add 203.0.113.10/26 broadcast 203.0.113.63 dev %s", h.uplink)
		h.up()
		h.ip("route add default via 203.0.113.1 dev %s onlink", h.uplink)
		h.ip("route replace 203.0.113.0/26 via 203.0.113.1 dev %s onlink", h.uplink)
		h.isp("address add 203.0.113.1/26 dev cable")
	}},
	{name: "NetworkManager", carried: true, make: func(h *host) {
		h.public("192.0.2.10", "192.0.2.1")
		h.ip("address add 192.0.2.10/24 broadcast + noprefixroute dev %s", h.uplink)
		h.up()
		h.ip("route add 192.0.2.0/24 dev %s proto kernel scope link src 192.0.2.10 metric 100", h.uplink)
		h.ip("route add default via 192.0.2.1 dev %s proto static metric 100", h.uplink)
		h.isp("address add 192.0.2.1/24 dev cable")
	}},
	{name: "two defaults", carried: true, make: func(h *host) {
		h.public("192.0.2.10", "192.0.2.1")
		h.ip("address add 192.0.2.10/24 broadcast + dev %s", h.uplink)
		h.up()
		h.ip("route add default via 192.0.2.1 dev %s metric %s", h.uplink, h.pick("0", "100"))
		h.ip("route add default via 192.0.2.2 dev %s metric 200", h.uplink)
		h.isp("address add 192.0.2.1/24 dev cable")
	}},
	{name: "default without a gateway", make: func(h *host) {
		h.public("192.0.2.10", "")
		h.ip("address add 192.0.2.10/24 dev %s", h.uplink)
		h.up()
		h.ip("route add default dev %s", h.uplink)
	}},
	{name: "several next hops", make: func(h *host) {
		h.public("192.0.2.10", "192.0.2.1")
		h.ip("address add 192.0.2.10/24 broadcast + dev %s", h.uplink)
		h.up()
		h.ip("route add default nexthop via 192.0.2.1 dev %[1]s weight 2 nexthop via 192.0.2.2 dev %[1]s", h.uplink)
		h.isp("address add 192.0.2.1/24 dev cable")
		h.asked = h.uplink
	}},
	{name: "gateway of the other family", make: func(h *host) {
		h.public("192.0.2.10", "")
		h.ip("address add 192.0.2.10/32 dev %s", h.uplink)
		h.ip("address add 2001:db8::10/64 dev %s", h.uplink)
		h.up()
		h.ip("route add default via inet6 fe80::1 dev %s", h.uplink)
	}},
	{name: "no address", bare: true, make: func(h *host) {
		h.up()
		h.ip("route add default dev %s", h.uplink)
	}},
	{name: "no uplink", bare: true, make: func(h *host) {
		h.ip("link delete %s", h.uplink)
		h.ip("link add name %s type veth peer name cable netns isp", h.uplink)
		h.public("192.0.2.10", "")
		h.asked = h.pick("", "nic9")
	}},
}

// public notes where the host is reached.
func (h *host) public(address, gateway string) {
	h.address = netip.MustParseAddr(address)
	if gateway != "" {
		h.gateway = netip.MustParseAddr(gateway)
	}
}

func (h *host) up() { h.ip("link set %s up", h.uplink) }
