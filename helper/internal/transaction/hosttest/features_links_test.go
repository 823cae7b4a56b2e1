package hosttest

import (
	"strings"

	"mobula/helper/internal/netns"
	"mobula/helper/internal/plan/plantest"
	"mobula/helper/internal/spec"
)

var onSettings = []feature{
	{name: "IPv4 settings of the uplink", carried: true, make: func(h *host) {
		h.set("net/ipv4/conf/%s/%s", h.uplink, h.pick("rp_filter 2", "arp_ignore 1", "forwarding 1", "proxy_arp 1", "accept_redirects 0",
			"arp_notify 1", "accept_local 1", "src_valid_mark 1", "log_martians 1", "force_igmp_version 2", "promote_secondaries 1"))
	}},
	{name: "IPv6 settings of the uplink", make: func(h *host) {
		h.set("net/ipv6/conf/%s/%s", h.uplink, h.pick("accept_ra 0", "accept_ra 2", "autoconf 0", "use_tempaddr 2", "forwarding 1", "hop_limit 33",
			"addr_gen_mode 1", "router_solicitations 0", "dad_transmits 0", "mtu 1400"))
	}},
	{name: "IPv6 off on the uplink", carried: true, make: func(h *host) {
		h.set("net/ipv6/conf/%s/disable_ipv6 1", h.uplink)
	}},
	{name: "neighbor settings of the uplink", carried: true, make: func(h *host) {
		h.set("net/ipv4/neigh/%s/%s", h.uplink, h.pick("gc_stale_time 77", "mcast_solicit 5", "unres_qlen 99", "retrans_time_ms 2000"))
		h.set("net/ipv6/neigh/%s/%s", h.uplink, h.pick("gc_stale_time 77", "ucast_solicit 5"))
	}},
	{name: "defaults changed since", carried: true, make: func(h *host) {
		h.set("net/ipv4/conf/default/%s", h.pick("rp_filter 1", "forwarding 1", "arp_filter 1"))
		h.set("net/ipv6/conf/default/%s", h.pick("accept_ra 0", "autoconf 0"))
	}},
	{name: "no IPv6 on new links", make: func(h *host) {
		h.set("net/ipv6/conf/default/disable_ipv6 1")
	}},
	{name: "a router", carried: true, make: func(h *host) {
		h.set("net/ipv4/ip_forward 1")
	}},
	{name: "an IPv6 router", make: func(h *host) {
		h.set("net/ipv6/conf/all/forwarding 1")
	}},
	{name: "settings of all", carried: true, make: func(h *host) {
		h.set("net/ipv4/conf/all/%s", h.pick("rp_filter 1", "arp_ignore 1", "accept_redirects 0"))
	}},
}

var onTheUplink = []feature{
	{name: "MTU", carried: true, make: func(h *host) {
		mtu := h.pick("1400", "9000", "1500", "1492")
		h.ip("link set %s mtu %s", h.uplink, mtu)
		h.isp("link set cable mtu %s", mtu)
	}},
	{name: "alias and group", carried: true, make: func(h *host) {
		h.ip("link set %s alias way-out", h.uplink)
		h.ip("link set %s group 77", h.uplink)
	}},
	{name: "queue length", carried: true, make: func(h *host) { h.ip("link set %s txqueuelen 77", h.uplink) }},
	{name: "altname", carried: true, make: func(h *host) {
		h.ip("link property add dev %s altname enx525400123456", h.uplink)
	}},
	{name: "named by its altname", carried: true, make: func(h *host) {
		h.ip("link property add dev %s altname outside-nic", h.uplink)
		h.asked = "outside-nic"
	}},
	{name: "another MAC address", make: func(h *host) { // its own link-local address stays that of the former
		h.ip("link set %s address 02:00:00:00:00:%02x", h.uplink, h.Intn(256))
	}},
	{name: "promiscuous", make: func(h *host) { h.ip("link set %s %s", h.uplink, h.pick("promisc on", "allmulticast on")) }},
	{name: "without ARP or multicast", make: func(h *host) { h.ip("link set %s %s", h.uplink, h.pick("arp off", "multicast off")) }},
	{name: "IPv6 address mode", make: func(h *host) { h.ip("link set %s addrgenmode %s", h.uplink, h.pick("none", "random")) }},
	{name: "IPv6 token", make: func(h *host) { h.ip("token set ::77 dev %s", h.uplink) }},
	{name: "down", make: func(h *host) { h.ip("link set %s down", h.uplink) }},
	{name: "smaller offloads", make: func(h *host) { h.ip("link set %s gso_max_size 30000 gso_max_segs 40", h.uplink) }},
	{name: "permanent neighbor", make: func(h *host) {
		h.ip("neigh add 198.51.100.99 lladdr 02:00:00:00:00:99 dev %s", h.uplink)
	}},
	{name: "proxy neighbor", make: func(h *host) {
		h.ip("neigh add proxy %s dev %s", h.pick("198.51.100.98", "2001:db8:6::1"), h.uplink)
	}},
	{name: "multicast address", make: func(h *host) { h.ip("maddress add 33:33:00:00:77:77 dev %s", h.uplink) }},
	{name: "forwarding entry", make: func(h *host) {
		h.tool("bridge", "fdb add 02:00:00:00:00:77 dev %s self", h.uplink)
	}},
	{name: "queueing discipline", make: func(h *host) {
		h.tool("tc", "qdisc add dev %s %s", h.uplink, h.pick("root pfifo limit 77", "root handle 7: prio", "clsact", "ingress"))
	}},
	{name: "address label of IPv6", make: func(h *host) {
		h.ip("addrlabel add prefix 2001:db8::/32 dev %s label 77", h.uplink)
	}},
	{name: "nftables on the uplink", make: func(h *host) {
		h.tool("nft", "add table netdev guard")
		h.tool("nft", "add chain netdev guard in { type filter hook ingress device \"%s\" priority 0; }", h.uplink)
	}},
	{name: "nftables by the uplink's number", make: func(h *host) {
		h.tool("nft", "add table inet numbers")
		h.tool("nft", "add chain inet numbers in { type filter hook input priority 0; policy accept; }")
		h.tool("nft", "add rule inet numbers in iif \"%s\" tcp dport 22 accept", h.uplink)
	}},
	{name: "nftables of the host", carried: true, make: func(h *host) {
		h.tool("nft", "add table inet host")
		h.tool("nft", "add chain inet host in { type filter hook input priority 0; policy accept; }")
		h.tool("nft", "add rule inet host in iifname \"%s\" tcp dport 22 accept", h.uplink)
	}},
}

var standingOnIt = []feature{
	{name: "VLAN on it", needs: "vlan", make: func(h *host) {
		h.ip("link add link %s name vlan7 type vlan id 7", h.uplink)
		h.ip("address add %s7/24 dev vlan7", h.subnet())
		h.ip("link set vlan7 up")
	}},
	{name: "macvlan on it", needs: "macvlan", make: func(h *host) {
		h.ip("link add link %s name mv0 type %s mode %s", h.uplink, h.pick("macvlan", "macvtap"), h.pick("bridge", "private", "vepa"))
	}},
	{name: "ipvlan on it", needs: "ipvlan", make: func(h *host) { h.ip("link add link %s name iv0 type ipvlan mode l2", h.uplink) }},
	{name: "VXLAN on it", needs: "vxlan", make: func(h *host) {
		h.ip("link add name vx0 type vxlan id 7 dstport 4789 group 239.1.1.1 dev %s", h.uplink)
	}},
	{name: "VXLAN beside it", needs: "vxlan", carried: true, make: func(h *host) {
		h.ip("link add name vx0 type vxlan id 7 dstport 4790 remote 198.51.100.9")
	}},
	{name: "a bridge's port", make: func(h *host) {
		h.ip("link add name br0 type bridge")
		h.ip("link set %s master br0", h.uplink)
	}},
	{name: "a bond's port", needs: "bond", make: func(h *host) {
		h.ip("link add name bond7 type bond mode active-backup")
		h.ip("link set %s down", h.uplink)
		h.ip("link set %s master bond7", h.uplink)
	}},
	{name: "in a VRF", needs: "vrf", make: func(h *host) {
		h.ip("link add name red type vrf table 70")
		h.ip("link set %s master red", h.uplink)
	}},
	{name: "uplink is a VLAN", needs: "vlan", make: func(h *host) {
		h.ip("link add link %s name wan7 type vlan id 77", h.uplink)
		h.ip("address add %s7/24 dev wan7", h.subnet())
		h.ip("link set wan7 up")
		h.asked, h.kind = "wan7", "vlan"
	}},
	{name: "uplink is a dummy", needs: "dummy", make: func(h *host) { h.other("dum0", "dummy") }},
	{name: "uplink is a bridge", make: func(h *host) { h.other("br9", "bridge") }},
	{name: "uplink is a bond", needs: "bond", make: func(h *host) { h.other("bond9", "bond") }},
	{name: "uplink is a macvlan", needs: "macvlan", make: func(h *host) { h.onNIC("mv9", "macvlan") }},
	{name: "uplink is an ipvlan", needs: "ipvlan", make: func(h *host) { h.onNIC("iv9", "ipvlan") }},
	{name: "uplink is a VXLAN", needs: "vxlan", make: func(h *host) { h.other("vx9", "vxlan id 9 dstport 4791 remote 198.51.100.9") }},
	{name: "uplink is a VRF", needs: "vrf", make: func(h *host) { h.other("red9", "vrf table 79") }},
	{name: "uplink is WireGuard", needs: "wireguard", make: func(h *host) { h.other("wg9", "wireguard") }},
	{name: "uplink is the loopback", make: func(h *host) { h.asked = "lo" }},
}

// other makes the uplink one of another kind.
func (h *host) other(name, kind string, on ...string) {
	h.ip("link add %s name %s type %s", strings.Join(on, " "), name, kind)
	h.ip("address add %s7/24 dev %s", h.subnet(), name)
	h.ip("link set %s up", name)
	h.asked, h.kind = name, strings.Fields(kind)[0]
}

// onNIC is other on another NIC, with nothing else there.
func (h *host) onNIC(name, kind string) {
	h.nic("lan9", h.subnet())
	h.other(name, kind, "link lan9")
}

var besideIt = []feature{
	{name: "second NIC", carried: true, make: func(h *host) {
		net := h.subnet()
		h.nic("lan0", net)
		h.ip("route add %s0/24 via %s9 dev lan0", h.subnet(), net)
	}},
	{name: "second NIC with a default route", make: func(h *host) {
		net := h.subnet()
		h.nic("lan1", net)
		h.ip("route add default via %s9 dev lan1 metric %s", net, h.pick("5", "50", "500"))
	}},
	{name: "route of a second NIC from the uplink's address", make: func(h *host) {
		h.nic("lan2", h.subnet())
		h.ip("route add %s0/24 dev lan2 src %s", h.subnet(), h.address)
	}},
	{name: "next hops on two NICs", make: func(h *host) {
		h.nic("lan3", h.subnet())
		h.ip("route add %s0/24 nexthop dev lan3 nexthop dev %s", h.subnet(), h.uplink)
	}},
	{name: "a bridge with guests", carried: true, make: func(h *host) {
		h.ip("link add name docker0 type bridge")
		h.ip("address add %s1/24 dev docker0", h.subnet())
		h.ip("link set docker0 up")
		h.ip("link add name veth12ab type veth peer name veth12ac")
		h.ip("link set veth12ab up master docker0")
	}},
	{name: "links with names like ours", carried: true, make: func(h *host) {
		h.ip("link add name veth_pod type veth peer name veth_dop")
		h.ip("link add name mo-ther type bridge")
	}},
	{name: "a dummy with an address", needs: "dummy", carried: true, make: func(h *host) {
		h.ip("link add name dum1 type dummy")
		h.ip("address add %s1/32 dev dum1", h.subnet())
		h.ip("link set dum1 up")
	}},
	{name: "VLAN and macvlan of a second NIC", needs: "vlan", carried: true, make: func(h *host) {
		h.nic("lan4", h.subnet())
		h.ip("link add link lan4 name lan4.9 type vlan id 9")
		h.ip("link add link lan4 name mv9 type macvlan mode bridge")
	}},
	{name: "a bond of others", needs: "bond", carried: true, make: func(h *host) {
		h.ip("link add name bond8 type bond mode balance-rr")
		h.ip("link add name dum8 type dummy")
		h.ip("link set dum8 master bond8")
	}},
	{name: "WireGuard of others", needs: "wireguard", carried: true, make: func(h *host) {
		h.ip("link add name wg0 type wireguard")
		h.ip("address add %s1/24 dev wg0", h.subnet())
		h.ip("link set wg0 up")
	}},
	{name: "a VRF of others", needs: "vrf", carried: true, make: func(h *host) {
		h.ip("link add name blue type vrf table 71")
		h.ip("link set blue up")
		h.nic("lan5", h.subnet())
		h.ip("link set lan5 master blue")
	}},
}

// nic adds a second one, as the uplink is.
func (h *host) nic(name, net string) {
	h.ip("link add name %s type veth peer name %s netns isp", name, name)
	h.isp("link set %s up", name)
	h.ip("link set %s up", name)
	h.ip("address add %s7/24 dev %s", net, name)
}

var inTheWay = []feature{
	{name: "a link with our name", make: func(h *host) {
		h.ip("link add name %s type veth peer name other0", h.pick("veth_fac0", "mo-dir-hs", "mo-wg-gw"))
	}},
	{name: "an address of our networks", make: func(h *host) {
		h.ip("address add %s dev %s", h.pick("10.30.7.7/24", "10.31.7.7/16", "10.31.0.9/32"), h.pick("lo", h.uplink))
	}},
	{name: "a route to our networks", make: func(h *host) {
		h.ip("route add %s dev %s", h.pick("10.30.0.0/16", "10.31.7.0/24"), h.uplink)
	}},
	{name: "an address of a greater network", carried: true, make: func(h *host) {
		h.ip("address add 10.77.0.9/8 dev %s", h.uplink)
	}},
	{name: "another end in our networks", make: func(h *host) {
		h.nic("lan6", h.subnet())
		h.ip("address add %s1 peer 10.3%s.0.1/32 dev lan6", h.subnet(), h.pick("0", "1"))
	}},
	{name: "a used table with a route to our networks", make: func(h *host) {
		h.nic("lan7", h.subnet())
		h.ip("route add 10.31.%d.0/24 dev lan7 table 111", h.Intn(256))
		h.ip("rule add %s table 111 priority %d", h.pick("from all", "fwmark 7"), 1+h.Intn(32000))
	}},
	{name: "a router in our networks", make: func(h *host) {
		h.nic("lan8", h.subnet())
		h.ip("address add 10.77.0.9/8 dev lan8")
		h.ip("route add %s0/24 via 10.31.0.254 dev lan8", h.subnet())
	}},
	{name: "routes to more than our networks", carried: true, make: func(h *host) {
		net := h.subnet()
		h.nic("lan9", net)
		h.ip("route add %s via %s9 dev lan9", h.pick("10.0.0.0/8", "10.30.0.0/15", "8.0.0.0/6"), net)
	}},
	{name: "our networks taken and others named", carried: true, make: func(h *host) {
		h.ranges = plantest.OtherRanges()
		h.nic("lan10", "10.30.0.")
		h.ip("route add 10.31.0.0/16 via 10.30.0.9 dev lan10")
	}},
	{name: "other ranges", carried: true, make: func(h *host) { h.ranges = plantest.OtherRanges() }},
	{name: "other ranges in which something is", make: func(h *host) {
		h.ranges = plantest.OtherRanges()
		h.nic("lan11", h.pick("172.20.7.", "192.168.0."))
	}},
	{name: "our namespace", make: func(h *host) { h.ip("netns add mobula") }},
	{name: "a leftover of our namespace", carried: true, make: func(h *host) {
		h.ip("netns add mobula")
		h.tool("unmount", "%s", netns.Path(spec.Namespace))
	}},
}
