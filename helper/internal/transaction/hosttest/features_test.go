package hosttest

import "fmt"

// features are what hosts have besides: on the uplink, beside it, and about it.
var features = concat(onAddresses, onRoutes, onRules, onSettings, onTheUplink, standingOnIt, besideIt, inTheWay)

func concat(lists ...[]feature) (all []feature) {
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}

var onAddresses = []feature{
	{name: "second address", carried: true, make: func(h *host) {
		h.ip("address add %s7/24 broadcast + dev %s", h.subnet(), h.uplink)
	}},
	{name: "secondary address", carried: true, make: func(h *host) {
		net := h.subnet()
		h.ip("address add %s7/24 broadcast + dev %s", net, h.uplink)
		h.ip("address add %s8/24 broadcast + dev %s", net, h.uplink)
		h.ip("address add %s9/%s dev %s", net, h.pick("24", "32"), h.uplink)
	}},
	{name: "address label", carried: true, make: func(h *host) {
		h.ip("address add %s7/24 broadcast + dev %s label %s:1", h.subnet(), h.uplink, h.short())
	}},
	{name: "address of a scope", carried: true, make: func(h *host) {
		h.ip("address add %s7/24 dev %s scope %s", h.subnet(), h.uplink, h.pick("link", "host", "site"))
	}},
	{name: "address with a metric", carried: true, make: func(h *host) {
		h.ip("address add %s7/24 dev %s metric %d", h.subnet(), h.uplink, 1+h.Intn(500))
	}},
	{name: "broadcast", carried: true, make: func(h *host) {
		net := h.subnet()
		h.ip("address add %s7/24 broadcast %s%s dev %s", net, net, h.pick("255", "0", "99"), h.uplink)
	}},
	{name: "address without a route", carried: true, make: func(h *host) {
		h.ip("address add %s7/24 noprefixroute dev %s", h.subnet(), h.uplink)
	}},
	{name: "address with a peer", carried: true, make: func(h *host) {
		net := h.subnet()
		h.ip("address add %s7 peer %s9/%s dev %s", net, net, h.pick("32", "24", "30"), h.uplink)
	}},
	{name: "small networks", carried: true, make: func(h *host) {
		h.ip("address add %s6/31 dev %s", h.subnet(), h.uplink)
		h.ip("address add %s5/30 dev %s", h.subnet(), h.uplink)
		h.ip("address add %s5/32 dev %s", h.subnet(), h.uplink)
	}},
	{name: "address within another's network", carried: true, make: func(h *host) {
		net := h.subnet()
		h.ip("address add %s7/24 dev %s", net, h.uplink)
		h.ip("address add %s200/25 dev %s", net, h.uplink)
	}},
	{name: "kernel's route deleted", make: func(h *host) {
		net := h.subnet()
		h.ip("address add %s7/24 dev %s", net, h.uplink)
		h.ip("route delete %s0/24 dev %s", net, h.uplink)
	}},
	{name: "address with a lifetime", make: func(h *host) {
		h.ip("address add %s7/24 dev %s valid_lft %d preferred_lft 600", h.subnet(), h.uplink, 600+h.Intn(9000))
	}},
	{name: "deprecated address", make: func(h *host) {
		h.ip("address add %s7/24 dev %s preferred_lft 0", h.subnet(), h.uplink)
	}},
	{name: "address also on lo", carried: true, make: func(h *host) {
		h.ip("address add %s/32 dev lo", h.address)
	}},
	{name: "IPv6 address", carried: true, make: func(h *host) {
		h.ip("address add 2001:db8::10/64 dev %s", h.uplink)
	}},
	{name: "IPv6 addresses and default", carried: true, make: func(h *host) {
		h.ip("address add 2001:db8:1::10/%s dev %s", h.pick("64", "128"), h.uplink)
		h.ip("address add 2001:db8:2::10/64 dev %s", h.uplink)
		h.ip6("route add default via fe80::1 dev %s%s", h.uplink, h.pick("", " proto static", " metric 77"))
	}},
	{name: "IPv6 address with flags", carried: true, make: func(h *host) {
		h.ip("address add 2001:db8:3::10/64 dev %s %s", h.uplink, h.pick("nodad", "home", "noprefixroute", "preferred_lft 0"))
	}},
	{name: "IPv6 address with a peer", make: func(h *host) {
		h.ip("address add 2001:db8:4::10 peer 2001:db8:4::1/128 dev %s", h.uplink)
	}},
	{name: "temporary IPv6 addresses", make: func(h *host) {
		h.ip("address add 2001:db8:5::10/64 dev %s mngtmpaddr", h.uplink)
	}},
	{name: "own link-local address", make: func(h *host) {
		h.ip("address add fe80::77/64 dev %s", h.uplink)
	}},
	{name: "no link-local address", make: func(h *host) {
		h.ip6("address flush dev %s scope link", h.uplink)
	}},
}

// short is the uplink's name, with room for more.
func (h *host) short() string { return h.uplink[:min(len(h.uplink), 12)] }

// attributes of a route, and whether they are carried.
var routeAttributes = []struct {
	text    string
	carried bool
}{
	{"metric 50", true}, {"mtu 1400", true}, {"mtu lock 1300", true}, {"advmss 1200", true}, {"initcwnd 20", true},
	{"initrwnd 30", true}, {"window 20000", true}, {"rtt 100ms", true}, {"rto_min 300ms", true}, {"quickack 1", true},
	{"features ecn", true}, {"hoplimit 33", true}, {"reordering 5", true}, {"ssthresh 9", true}, {"cwnd lock 7", true},
	{"congctl reno", true}, {"fastopen_no_cookie 1", true}, {"proto 42", true}, {"proto dhcp", false}, {"tos 0x10", false}, {"realm 5", false},
	{"mtu 1400 advmss 1360 metric 7 proto boot", true},
}

var onRoutes = append(withAttributes(), []feature{
	{name: "route to a network", carried: true, make: func(h *host) {
		h.ip("route add %s0/24 via %s dev %s onlink", h.subnet(), h.via(), h.uplink)
	}},
	{name: "route on the link", carried: true, make: func(h *host) {
		h.ip("route add %s0/24 dev %s", h.subnet(), h.uplink)
	}},
	{name: "route with a source", carried: true, make: func(h *host) {
		h.ip("route add %s0/24 dev %s src %s", h.subnet(), h.uplink, h.address)
	}},
	{name: "route of a scope", make: func(h *host) {
		h.ip("route add %s0/24 dev %s scope %s", h.subnet(), h.uplink, h.pick("global", "site", "host"))
	}},
	{name: "routes of one destination", make: func(h *host) {
		net := h.subnet()
		h.ip("route add %s0/24 dev %s", net, h.uplink)
		h.ip("route %s %s0/24 via %s dev %s onlink", h.pick("append", "prepend"), net, h.via(), h.uplink)
		h.ip("route append %s0/24 dev %s src %s", net, h.uplink, h.address)
	}},
	{name: "route of several next hops", make: func(h *host) {
		h.ip("route add %s0/24 nexthop dev %[2]s weight 3 nexthop via %[3]s dev %[2]s onlink", h.subnet(), h.uplink, h.via())
	}},
	{name: "next hop object", make: func(h *host) {
		h.ip("nexthop add id 7 dev %s", h.uplink)
		if h.Intn(2) == 0 {
			h.ip("route add %s0/24 nhid 7", h.subnet())
		}
	}},
	{name: "route that drops", carried: true, make: func(h *host) {
		h.ip("route add %s %s0/24 metric %d", h.pick("blackhole", "unreachable", "prohibit"), h.subnet(), h.Intn(3))
	}},
	{name: "route of another table", make: func(h *host) {
		h.ip("route add %s table %d", h.pick("default dev "+h.uplink, h.subnet()+"0/24 dev "+h.uplink), 100+h.Intn(1500))
	}},
	{name: "local route", make: func(h *host) {
		h.ip("route add local %s0/24 dev %s", h.subnet(), h.pick("lo", h.uplink))
	}},
	{name: "broadcast route", make: func(h *host) {
		h.ip("route add broadcast %s255 dev %s", h.subnet(), h.uplink)
	}},
	{name: "IPv6 route", carried: true, make: func(h *host) {
		h.ip6("route add 2001:db8:77::/48 via fe80::9 dev %s%s", h.uplink, h.pick("", " metric 5", " mtu 1300", " proto 42"))
	}},
	{name: "IPv6 route with more", make: func(h *host) {
		h.ip6("route add 2001:db8:78::/48 dev %s %s", h.uplink, h.pick("pref high", "expires 600", "proto ra", "proto kernel", "table 77"))
	}},
	{name: "IPv6 route of several next hops", make: func(h *host) {
		h.ip6("route add 2001:db8:79::/48 nexthop via fe80::8 dev %[1]s nexthop via fe80::9 dev %[1]s", h.uplink)
	}},
}...)

func withAttributes() (all []feature) {
	for _, a := range routeAttributes {
		all = append(all, feature{name: "route with " + a.text, carried: a.carried, make: func(h *host) {
			h.ip("route add %s0/24 via %s dev %s onlink %s", h.subnet(), h.via(), h.uplink, a.text)
		}})
	}
	return all
}

// via is a gateway behind the uplink.
func (h *host) via() string {
	if h.gateway.IsValid() {
		return h.gateway.String()
	}
	return "198.51.100.77"
}

var onRules = []feature{
	{name: "table by source", make: func(h *host) {
		h.ip("route add default via %s dev %s table 100 onlink", h.via(), h.uplink)
		h.ip("rule add from %s table 100", h.address)
	}},
	{name: "rule for the uplink's address", make: func(h *host) {
		h.ip("rule add %s %s table main priority %d", h.pick("from", "to"), h.address, h.Intn(30000))
	}},
	{name: "rule that names the uplink", make: func(h *host) {
		h.ip("rule add %s %s table 100", h.pick("iif", "oif"), h.uplink)
	}},
	{name: "IPv6 rule that names the uplink", make: func(h *host) {
		h.ip6("rule add %s %s table 100", h.pick("iif", "oif"), h.uplink)
	}},
	{name: "rules for others", carried: true, make: func(h *host) {
		h.ip("rule add from %s0/24 table 101 priority %d", h.subnet(), 1+h.Intn(30000))
		h.ip("rule add fwmark 0x7/0xff table 102")
		h.ip("rule add to %s0/24 ipproto udp dport 53 table 103", h.subnet())
		h.ip6("rule add from 2001:db8:9::/48 table 104")
		h.ip("rule add uidrange 1000-2000 table 105")
	}},
	{name: "rule with our priority", make: func(h *host) {
		h.ip("rule add from %s0/24 table 101 priority %d", h.subnet(), 1030+h.Intn(2))
	}},
	{name: "rule without the main table's default", carried: true, make: func(h *host) {
		h.ip("rule add table main suppress_prefixlength 0 priority 500")
	}},
	{name: "our table", make: func(h *host) {
		h.ip("%s", h.pick(fmt.Sprintf("route add %s0/24 dev lo table 1030", h.subnet()), "rule add from 198.19.0.1 table 1030"))
	}},
}
