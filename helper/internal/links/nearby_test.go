package links

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// TestNearby: links by name, kind, and what they stand on or are a port of; and which of their addresses
// others are told.
func TestNearby(t *testing.T) {
	for _, c := range []struct {
		what, links, addresses, want string
	}{
		{"a NIC", "eth0 device", "eth0 192.0.2.7/24, eth0 10.9.0.7/24, eth0 192.0.2.8/24, eth0 192.0.2.9/32", "10.9.0.7/24 192.0.2.7/24"},
		{"IPv6 that passes", "eth0 device", "eth0 2001:db8::7/64 temporary, eth0 2001:db8::8/64 deprecated, eth0 2001:db8::9/64, eth0 fe80::9/64, eth0 fd00::9/64", "fd00::9/64 2001:db8::9/64"},
		{"one that is down", "eth0 device down", "eth0 192.0.2.7/24", ""},
		{"a loopback", "lo device loopback", "lo 192.0.2.7/24", ""},
		{"tunnels", "tun0 tuntap, wg0 wireguard, v vxlan, g geneve, t gretap, o openvswitch, d dummy, p ppp", "tun0 10.1.0.1/24, wg0 10.2.0.1/24, v 10.3.0.1/24, g 10.4.0.1/24, t 10.5.0.1/24, o 10.6.0.1/24, d 10.7.0.1/24, p 10.8.0.1/24", ""},
		{"its own", "veth_fac0 veth, mo-dir-hs veth, ovsbr-mobula openvswitch, v7 vlan on veth_fac0", "veth_fac0 10.31.128.1/16, mo-dir-hs 10.99.0.1/24, ovsbr-mobula 10.1.0.1/24, v7 10.50.0.1/24", ""},
		{"a bridge of guests", "eth0 device, br0 bridge, veth_fac0 veth in br0, v7 vlan on br0", "br0 10.50.0.1/24, v7 10.51.0.1/24, eth0 192.0.2.7/24", "192.0.2.7/24"},
		{"one that joins guests and a LAN", "eth1 device in br0, br0 bridge, veth_fac0 veth in br0", "br0 10.50.0.1/24", ""},
		{"one with their VLAN", "br0 bridge, v7 vlan on veth_fac0 in br0, veth_fac0 veth, eth1 device in br0", "br0 10.50.0.1/24", ""},
		{"a bridge to the LAN with machines", "eth0 device in vmbr0, vmbr0 bridge, tap1 machine in vmbr0, fwpr9 veth in vmbr0, d dummy in vmbr0", "vmbr0 10.9.0.7/24", "10.9.0.7/24"},
		{"one with a program's tap", "eth0 device in br0, br0 bridge, tap1 tuntap in br0", "br0 10.9.0.7/24", ""},
		{"bridges of containers", "eth0 device, docker0 bridge, br-1 bridge, veth1 veth in br-1, virbr0 bridge, vnet0 machine in virbr0, ve-1 veth", "docker0 172.17.0.1/16, br-1 172.18.0.1/16, virbr0 192.168.122.1/24, ve-1 10.8.0.1/28", ""},
		{"a tunnel in a bridge", "eth0 device in br0, br0 bridge, v vxlan in br0", "br0 10.9.0.7/24", ""},
		{"a tunnel that has no kind", "eth0 device, l2tpeth0 device virtual", "eth0 10.9.0.7/24, l2tpeth0 10.8.0.7/24", "10.9.0.7/24"},
		{"kernels that say nothing of devices", "eth0 device virtual, lo device virtual loopback", "eth0 10.9.0.7/24, lo 10.8.0.7/24", "10.9.0.7/24"},
		{"bonds", "eth0 device in bond0, eth1 device in bond0, bond0 bond, v7 vlan on bond0, br7 bridge, v8 vlan on bond0 in br7, bond1 bond, t gretap in bond1, bond2 bond", "v7 10.7.0.7/24, br7 10.8.0.7/24, bond1 10.6.0.7/24, bond2 10.5.0.7/24", "10.7.0.7/24 10.8.0.7/24"},
		{"a team, InfiniBand, a switch's port", "eth0 device in team0, team0 team, ib0 ipoib, lan1 dsa", "team0 10.9.0.7/24, ib0 10.8.0.7/24, lan1 10.7.0.7/24", "10.9.0.7/24 10.8.0.7/24 10.7.0.7/24"},
		{"a container's", "lo device virtual loopback, eth0 veth, mv0 macvlan", "eth0 10.9.0.7/24, mv0 10.8.0.7/24", "10.9.0.7/24 10.8.0.7/24"},
		{"a veth with both ends here", "va veth here, vb veth here in br0, br0 bridge, veth_fac0 veth in br0", "va 10.50.0.7/24", ""},
		{"where the NIC has moved", "mo-ext-gw bridge, ens3 device in mo-ext-gw, mo-mid-gw veth in mo-ext-gw, mo-wg-gw wireguard, mo-dir-gw veth", "mo-ext-gw 192.0.2.7/24, mo-wg-gw 10.30.0.0/16, mo-dir-gw 10.30.0.0/24", "192.0.2.7/24"},
		{"where that of a container has", "mo-ext-gw bridge, eth0 veth in mo-ext-gw, mo-mid-gw veth in mo-ext-gw", "mo-ext-gw 192.0.2.7/24", "192.0.2.7/24"},
		{"where it has gone", "mo-ext-gw bridge, mo-mid-gw veth in mo-ext-gw", "mo-ext-gw 192.0.2.7/24", ""},
	} {
		links, index := linksOf(t, c.links)
		var addresses []netlink.Addr
		for _, said := range strings.Split(c.addresses, ", ") {
			words := strings.Fields(said)
			a, err := netlink.ParseAddr(words[1])
			if err != nil {
				t.Fatal(err)
			}
			a.LinkIndex = index[words[0]]
			for _, w := range words[2:] {
				a.Flags |= map[string]int{"temporary": unix.IFA_F_TEMPORARY, "deprecated": unix.IFA_F_DEPRECATED}[w]
			}
			addresses = append(addresses, *a)
		}
		var got []string
		for _, n := range nearby(links, addresses) {
			got = append(got, n.String())
		}
		if !slices.Equal(got, strings.Fields(c.want)) {
			t.Errorf("%s: found %v, wanted %s", c.what, got, c.want)
		}
	}
}

// TestIsOurs: what of a host's own leads into the network itself.
func TestIsOurs(t *testing.T) {
	links, index := linksOf(t, "eth0 device, veth_fac0 veth, v7 vlan on veth_fac0, m macvlan on v7, br0 bridge, g veth in br0, ovsbr-mobula openvswitch, "+
		"br1 bridge, v8 vlan on veth_fac0 in br1, v9 vlan on eth0, va veth here, br2 bridge, eth1 device in br2, wg0 wireguard")
	want := map[string]bool{"veth_fac0": true, "v7": true, "m": true, "ovsbr-mobula": true, "br1": true, "v8": true}
	for name, i := range index {
		if got := groundOf(links).isOurs(i); got != want[name] {
			t.Errorf("%s: %v", name, got)
		}
	}
	if groundOf(links).isOurs(99) {
		t.Error("one that is not there is")
	}
}

// linksOf makes links of "NAME KIND [on NAME] [in BRIDGE] [down] [loopback] [virtual] [here]": virtual is no
// device of anything, here a veth whose other end is in the same namespace.
func linksOf(t *testing.T, text string) (links []netlink.Link, index map[string]int) {
	t.Helper()
	index = map[string]int{}
	said := strings.Split(text, ", ")
	for i, s := range said {
		index[strings.Fields(s)[0]] = i + 1
	}
	for i, s := range said {
		words := strings.Fields(s)
		a := netlink.NewLinkAttrs()
		a.Index, a.Name, a.Flags = i+1, words[0], net.FlagUp
		switch words[1] {
		case "device":
			a.ParentDev = "virtio1"
		case "veth":
			a.NetNsID = 0
		}
		for j, w := range words {
			switch w {
			case "on":
				a.ParentIndex = index[words[j+1]]
			case "in":
				a.MasterIndex = index[words[j+1]]
			case "down":
				a.Flags = 0
			case "loopback":
				a.Flags |= net.FlagLoopback
			case "virtual":
				a.ParentDev = ""
			case "here":
				a.NetNsID = -1
			}
		}
		switch words[1] {
		case "machine":
			links = append(links, &netlink.Tuntap{LinkAttrs: a, Flags: netlink.TUNTAP_VNET_HDR})
		case "tuntap":
			links = append(links, &netlink.Tuntap{LinkAttrs: a})
		default:
			links = append(links, &netlink.GenericLink{LinkAttrs: a, LinkType: words[1]})
		}
	}
	if len(links) != len(index) {
		t.Fatal(fmt.Sprintf("%q has a name twice", text))
	}
	return links, index
}
