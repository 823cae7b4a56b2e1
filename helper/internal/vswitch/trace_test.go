//go:build ovs

package vswitch

import (
	"context"
	"fmt"
	"strconv"
	"testing"
	"time"

	"mobula/helper/internal/network"
	"mobula/helper/internal/plan/plantest"
	"mobula/helper/internal/spec"
)

// Stations of the tests. The host is 1, the others are 2 and 256.
const (
	guestA   = "52:54:00:00:00:0a"
	guestB   = "52:54:00:00:00:0b"
	guestFar = "52:54:00:00:08:0b"
	gateway  = "02:6d:6f:01:00:01"
	access   = "02:6d:6f:02:00:01"
	all      = "ff:ff:ff:ff:ff:ff"
	bpdus    = "01:80:c2:00:00:00"
)

// frame is one step of a scenario.
type frame struct {
	from string // "guest", "gateway" or the address of a host
	src  string
	dst  string
	more string // further fields
	to   string
}

func (f frame) flow() string {
	in := map[string]string{"guest": "in_port=2", "gateway": "in_port=LOCAL"}[f.from]
	if in == "" {
		in = "in_port=1,tun_id=7,tun_dst=10.30.0.0,tun_src=" + f.from
	}
	flow := fmt.Sprintf("%s,dl_src=%s,dl_dst=%s", in, f.src, f.dst)
	if f.more == "" {
		return flow + ",dl_type=0x88b5"
	}
	return flow + "," + f.more
}

// inAllRanges has a test play its frames in the default ranges and in others.
func inAllRanges(t *testing.T, test func(*testing.T, *instance)) {
	for _, ranges := range []network.Ranges{{}, plantest.OtherRanges()} {
		t.Run(ranges.String(), func(t *testing.T) {
			in := startInstance(t)
			in.ranges = ranges
			in.apply(inRanges(ranges, example(1, 1, 2, 256)), nil)
			test(t, in)
		})
	}
}

func TestForwarding(t *testing.T) { inAllRanges(t, testForwarding) }

func testForwarding(t *testing.T, in *instance) {
	scenarios := map[string][]frame{
		"unknown and broadcast from a guest": {
			{"guest", guestA, guestB, "", "LOCAL 10.30.0.2 10.30.1.0"},
			{"guest", guestA, all, "", "LOCAL 10.30.0.2 10.30.1.0"},
			{"guest", guestA, "33:33:00:00:00:01", "", "LOCAL 10.30.0.2 10.30.1.0"},
		},
		"unknown and broadcast from the gateway": {
			{"gateway", gateway, "52:54:00:00:01:01", "", "2 10.30.0.2 10.30.1.0"},
			{"gateway", gateway, all, "", "2 10.30.0.2 10.30.1.0"},
		},
		"never back into the tunnel": {
			{"10.30.0.2", guestA, all, "", "LOCAL 2"},
			{"10.30.0.2", guestA, "52:54:00:00:02:01", "", "LOCAL 2"},
			{"10.30.1.0", "52:54:00:00:02:02", guestA, "", "nowhere"},
		},
		"straight to who is known": {
			{"10.30.1.0", "52:54:00:00:03:01", all, "", "LOCAL 2"},
			{"guest", "52:54:00:00:03:02", "52:54:00:00:03:01", "", "10.30.1.0"},
			{"10.30.1.0", "52:54:00:00:03:01", "52:54:00:00:03:02", "", "2"},
			{"gateway", gateway, "52:54:00:00:03:02", "", "2"},
			{"guest", "52:54:00:00:03:02", gateway, "", "LOCAL"},
			{"guest", "52:54:00:00:03:03", "52:54:00:00:03:02", "", "nowhere"}, // behind the same port
		},
		"each VLAN is a network of its own": {
			{"10.30.0.2", "52:54:00:00:04:01", all, "dl_vlan=100,dl_type=0x0800", "LOCAL 2"},
			{"guest", "52:54:00:00:04:02", "52:54:00:00:04:01", "dl_vlan=100,dl_type=0x0800", "10.30.0.2"},
			{"guest", "52:54:00:00:04:02", "52:54:00:00:04:01", "dl_vlan=101,dl_type=0x0800", "LOCAL 10.30.0.2 10.30.1.0"},
			{"guest", "52:54:00:00:04:02", "52:54:00:00:04:01", "", "LOCAL 10.30.0.2 10.30.1.0"},
		},
		"a priority tag is no VLAN": {
			{"10.30.0.2", "52:54:00:00:05:01", all, "", "LOCAL 2"},
			{"guest", "52:54:00:00:05:02", "52:54:00:00:05:01", "dl_vlan=0,dl_vlan_pcp=5,dl_type=0x88b5", "10.30.0.2"},
		},
		"spanning tree frames of users": {
			{"guest", "52:54:00:00:06:01", bpdus, "dl_type=0x05ff", "LOCAL 10.30.0.2 10.30.1.0"},
			{"10.30.0.2", "52:54:00:00:06:02", bpdus, "dl_type=0x05ff", "LOCAL 2"},
			{"guest", "52:54:00:00:06:01", "01:80:c2:00:00:0e", "dl_type=0x88cc", "LOCAL 10.30.0.2 10.30.1.0"},
		},
		"a machine moves": {
			{"10.30.0.2", "52:54:00:00:07:01", all, "", "LOCAL 2"},
			{"guest", "52:54:00:00:07:02", "52:54:00:00:07:01", "", "10.30.0.2"},
			{"10.30.1.0", "52:54:00:00:07:01", all, "", "LOCAL 2"}, // to host 256
			{"guest", "52:54:00:00:07:02", "52:54:00:00:07:01", "", "10.30.1.0"},
			{"guest", "52:54:00:00:07:01", all, "", "LOCAL 10.30.0.2 10.30.1.0"}, // to this host
			{"10.30.0.2", "52:54:00:00:07:03", "52:54:00:00:07:01", "", "2"},
			{"10.30.0.2", "52:54:00:00:07:01", all, "", "LOCAL 2"}, // and back
			{"guest", "52:54:00:00:07:02", "52:54:00:00:07:01", "", "10.30.0.2"},
		},
	}
	const asks, announces = "arp,arp_op=1,arp_spa=10.31.200.7,arp_tpa=", "arp,arp_op=1,arp_spa="
	scenarios["members are where they are"] = []frame{
		{"guest", guestA, "02:6d:6f:01:01:00", "", "10.30.1.0"},
		{"guest", guestA, "02:6d:6f:02:00:02", "dl_vlan=5,dl_type=0x88b5", "10.30.0.2"},
		{"gateway", gateway, "02:6d:6f:01:00:02", "", "10.30.0.2"},
		{"10.30.0.2", guestFar, gateway, "", "LOCAL"},
		{"10.30.0.2", guestFar, "02:6d:6f:01:01:00", "", "nowhere"}, // never back into the tunnel
	}
	scenarios["who asks for a member asks that one"] = []frame{
		{"guest", guestA, all, asks + "10.31.1.0", "10.30.1.0"},
		{"guest", guestA, all, asks + "10.31.129.0", "10.30.1.0"},
		{"guest", guestA, all, "dl_vlan=0,dl_vlan_pcp=3," + asks + "10.31.0.2", "10.30.0.2"},
		{"gateway", gateway, all, "arp,arp_op=1,arp_spa=10.31.0.1,arp_tpa=10.31.128.2", "10.30.0.2"},
		{"guest", guestA, all, "arp,arp_op=1,arp_spa=0.0.0.0,arp_tpa=10.31.0.2", "10.30.0.2"}, // is it free?
		{"guest", guestA, all, asks + "10.31.0.1", "LOCAL"},
		{"guest", guestA, all, asks + "10.31.128.1", "LOCAL"},
		{"gateway", gateway, all, "arp,arp_op=1,arp_spa=10.31.0.1,arp_tpa=10.31.128.1", "2"},
		{"10.30.0.2", guestFar, all, asks + "10.31.0.1", "LOCAL 2"},
		{"10.30.0.2", guestFar, all, asks + "10.31.1.0", "LOCAL 2"},
		// Announcements, others' addresses, and other networks.
		{"gateway", gateway, all, announces + "10.31.0.1,arp_tpa=10.31.0.1", "2 10.30.0.2 10.30.1.0"},
		{"guest", access, all, announces + "10.31.128.1,arp_tpa=10.31.128.1", "LOCAL 10.30.0.2 10.30.1.0"},
		{"guest", guestA, all, asks + "10.31.77.7", "LOCAL 10.30.0.2 10.30.1.0"},
		{"guest", guestA, all, "dl_vlan=5," + asks + "10.31.1.0", "LOCAL 10.30.0.2 10.30.1.0"},
		{"guest", guestA, all, "arp,arp_op=2,arp_spa=10.31.200.7,arp_tpa=10.31.1.0", "LOCAL 10.30.0.2 10.30.1.0"},
	}
	for name, frames := range scenarios {
		t.Run(name, func(t *testing.T) { in.play(t, frames) })
	}
}

func TestPins(t *testing.T) { inAllRanges(t, testPins) }

func testPins(t *testing.T, in *instance) {
	const flood, local = "LOCAL 10.30.0.2 10.30.1.0", "LOCAL 2"
	arp := func(sender string) string { return "arp,arp_op=2,arp_spa=" + sender }
	ip := func(source string) string { return "ip,nw_src=" + source }
	for name, frames := range map[string][]frame{
		"multicast source address": {
			{"guest", "01:00:5e:00:00:01", all, "", "multicast source address from guest"},
			{"10.30.0.2", all, all, "", "multicast source address from tunnel"},
		},
		"stranger in the tunnel": {
			{"10.30.0.3", guestA, all, "", "tunnel from no member from tunnel"},
			{"10.30.128.1", guestA, all, "", "tunnel from no member from tunnel"},
		},
		"gateway MAC": {
			{"guest", gateway, all, "", "gateway MAC from guest"},
			{"guest", "02:6d:6f:01:00:02", all, "", "gateway MAC from guest"},
			{"guest", "02:6d:6f:01:7f:ff", all, "dl_vlan=9,dl_type=0x0800", "gateway MAC from guest"},
			{"10.30.0.2", "02:6d:6f:01:00:02", all, "", local},
			{"10.30.1.0", "02:6d:6f:01:00:02", all, "", "gateway MAC from tunnel"},
			{"10.30.0.2", gateway, all, "", "gateway MAC from tunnel"},
			{"gateway", "02:6d:6f:01:00:02", all, "", "gateway MAC from gateway"},
			{"gateway", guestA, all, "", "other MAC of the gateway from gateway"},
		},
		"host MAC": {
			{"guest", access, all, "", flood},
			{"guest", "02:6d:6f:02:01:00", all, "", "host MAC from guest"},
			{"10.30.1.0", "02:6d:6f:02:01:00", all, "", local},
			{"10.30.0.2", "02:6d:6f:02:01:00", all, "", "host MAC from tunnel"},
			{"10.30.0.2", access, all, "", "host MAC from tunnel"},
		},
		"ARP": {
			{"guest", guestA, all, arp("10.31.0.1"), "gateway address in ARP from guest"},
			{"guest", guestA, all, arp("10.31.1.0"), "gateway address in ARP from guest"},
			{"guest", guestA, all, arp("10.31.128.2"), "host address in ARP from guest"},
			{"guest", access, all, arp("10.31.128.1"), flood},
			{"guest", guestA, all, arp("10.31.128.1"), flood}, // manual mode
			{"guest", guestA, all, arp("10.31.0.3"), flood},   // nobody's
			{"guest", guestA, all, arp("0.0.0.0"), flood},     // a probe, RFC 5227
			{"gateway", gateway, all, arp("10.31.0.1"), "2 10.30.0.2 10.30.1.0"},
			{"10.30.0.2", guestB, all, arp("10.31.128.2"), local},
			{"10.30.0.2", "02:6d:6f:01:00:02", all, arp("10.31.0.2"), local},
			{"10.30.1.0", guestB, all, arp("10.31.0.2"), "gateway address in ARP from tunnel"},
			{"10.30.1.0", guestB, all, arp("10.31.128.2"), "host address in ARP from tunnel"},
			{"10.30.1.0", guestB, all, arp("10.31.0.1"), "gateway address in ARP from tunnel"},
			{"10.30.1.0", guestB, all, arp("10.31.128.1"), "host address in ARP from tunnel"},
			{"10.30.1.0", guestB, all, arp("10.31.77.7"), local},
			// Gratuitous: a request about the own address (RFC 5227 section 3).
			{"guest", guestA, all, "arp,arp_op=1,arp_spa=10.31.0.2,arp_tpa=10.31.0.2", "gateway address in ARP from guest"},
			{"guest", guestA, all, "arp,arp_op=1,arp_spa=10.31.128.2,arp_tpa=10.31.128.2", "host address in ARP from guest"},
		},
		"Ethernet addresses in ARP": {
			{"guest", guestA, all, arp("10.31.77.7") + ",arp_sha=02:6d:6f:01:00:02", "gateway MAC from guest"},
			{"guest", guestA, all, arp("10.31.77.7") + ",arp_sha=" + gateway, "gateway MAC from guest"},
			{"guest", guestA, all, arp("10.31.77.7") + ",arp_sha=02:6d:6f:02:01:00", "host MAC from guest"},
			{"guest", guestA, all, "dl_vlan=0,dl_vlan_pcp=3," + arp("10.31.77.7") + ",arp_sha=02:6d:6f:01:00:02", "gateway MAC from guest"},
			{"guest", guestA, all, arp("10.31.77.7") + ",arp_sha=" + guestB, flood},
			{"guest", access, all, arp("10.31.128.1") + ",arp_sha=" + access, flood},
			{"guest", access, all, arp("10.31.0.2") + ",arp_sha=" + access, "gateway address in ARP from guest"},
			{"gateway", gateway, all, arp("10.31.0.1") + ",arp_sha=" + gateway, "2 10.30.0.2 10.30.1.0"},
			{"10.30.0.2", "02:6d:6f:01:00:02", all, arp("10.31.0.2") + ",arp_sha=02:6d:6f:01:00:02", local},
		},
		"IPv4": {
			{"guest", guestA, all, ip("10.31.0.1"), "gateway address in IPv4 from guest"},
			{"guest", guestA, all, ip("10.31.0.2"), "gateway address in IPv4 from guest"},
			{"guest", guestA, all, ip("10.31.77.7"), flood},
			{"guest", guestA, all, ip("10.31.128.2"), "host address in IPv4 from guest"},
			{"guest", guestA, all, "dl_vlan=0,dl_vlan_pcp=3," + ip("10.31.128.2"), "host address in IPv4 from guest"},
			{"guest", guestA, all, "dl_vlan=5," + ip("10.31.128.2"), flood}, // another network
			{"guest", access, all, ip("10.31.128.1"), flood},
			{"guest", guestA, all, ip("10.31.128.1"), flood}, // manual mode
			{"10.30.0.2", guestB, all, ip("10.31.128.2"), local},
			{"10.30.1.0", guestB, all, ip("10.31.128.2"), "host address in IPv4 from tunnel"},
			{"10.30.1.0", guestB, all, ip("10.31.128.1"), "host address in IPv4 from tunnel"},
			{"10.30.0.2", "02:6d:6f:01:00:02", all, ip("10.31.0.2"), local},
			{"10.30.0.2", guestB, all, ip("198.51.100.1"), local}, // a gateway forwards
			{"10.30.1.0", guestB, all, ip("10.31.0.2"), "gateway address in IPv4 from tunnel"},
			{"10.30.1.0", guestB, all, ip("10.31.0.1"), "gateway address in IPv4 from tunnel"},
			{"gateway", gateway, all, ip("198.51.100.1"), "2 10.30.0.2 10.30.1.0"},
		},
		// What comes from older hosts, which do not have all of these pins.
		"what hosts let through": {
			{"10.30.0.2", guestB, all, "arp,arp_op=0", "unreadable ARP or IP from tunnel"},
			{"10.30.0.2", guestB, all, ip("10.30.0.2"), "intrawire address from tunnel"},
			{"10.30.0.2", "02:6d:6f:01:00:02", all, ip("10.30.128.1"), local}, // who was asked through a gateway answers
			{"10.30.0.2", "02:6d:6f:01:00:02", all, "dl_vlan=0,dl_vlan_pcp=3," + ip("10.30.0.1"), local},
			{"10.30.1.0", "02:6d:6f:01:00:02", all, ip("10.30.0.1"), "gateway MAC from tunnel"},
			{"10.30.0.2", "02:6d:6f:01:00:02", all, arp("10.30.0.1"), "intrawire address from tunnel"},
			{"10.30.0.2", guestB, all, arp("10.30.1.0"), "intrawire address from tunnel"},
			{"10.30.0.2", guestB, all, "icmp6,icmpv6_type=134", "IPv6 router from tunnel"},
			{"10.30.0.2", guestB, all, "ipv6,ipv6_src=fe80::6d:6fff:fe02:100,nw_proto=17", "host address in IPv6 from tunnel"},
			{"10.30.0.2", guestB, all, "ipv6,ipv6_src=fe80::6d:6fff:fe02:2,nw_proto=17", "host address in IPv6 from tunnel"},
			{"10.30.0.2", "02:6d:6f:02:00:02", all, "ipv6,ipv6_src=fe80::6d:6fff:fe02:2,nw_proto=17", local},
			{"10.30.0.2", guestB, all, "icmp6,icmpv6_type=136,icmpv6_code=0,nd_target=fe80::6d:6fff:fe02:2", "host address in IPv6 from tunnel"},
			{"10.30.0.2", "02:6d:6f:02:00:02", all, "icmp6,icmpv6_type=136,icmpv6_code=0,nd_target=fe80::6d:6fff:fe02:2,nd_tll=02:6d:6f:02:00:02", local},
			{"10.30.0.2", guestB, all, "icmp6,icmpv6_type=136,icmpv6_code=0,nd_target=fe80::1,nd_tll=02:6d:6f:02:00:02", "host MAC from tunnel"},
		},
		"the host's own IPv6": {
			{"guest", access, all, "ipv6,ipv6_src=fe80::6d:6fff:fe02:1,nw_proto=17", flood},
			{"guest", access, all, "icmp6,ipv6_src=fe80::6d:6fff:fe02:1,icmpv6_type=136,icmpv6_code=0,nd_target=fe80::6d:6fff:fe02:1,nd_tll=" + access, flood},
			{"guest", access, all, "icmp6,ipv6_src=fe80::6d:6fff:fe02:1,icmpv6_type=136,icmpv6_code=0,nd_target=fe80::6d:6fff:fe02:2,nd_tll=" + access, "host address in IPv6 from guest"},
			{"guest", access, all, "icmp6,icmpv6_type=135,icmpv6_code=0,nd_target=fe80::6d:6fff:fe02:1", flood}, // is it free?
			{"guest", access, all, "icmp6,ipv6_src=fe80::6d:6fff:fe02:1,icmpv6_type=135,icmpv6_code=0,nd_target=fe80::6d:6fff:fe02:2,nd_sll=" + access, flood},
			{"guest", access, all, "ipv6,ipv6_src=2001:db8::1,nw_proto=6", flood}, // what the operator gave it
			{"guest", guestA, all, "dl_vlan=5,icmp6,icmpv6_type=134", flood},      // another network
		},
		"tags": {
			{"guest", guestA, all, "dl_vlan=5," + arp("10.31.0.1"), flood}, // another network
			{"guest", guestA, all, "dl_vlan=0,dl_vlan_pcp=0," + arp("10.31.0.1"), "gateway address in ARP from guest"},
			{"guest", guestA, all, "dl_vlan=0,dl_vlan_pcp=0,dl_type=0x8100", "nested priority tag from guest"},
			{"guest", guestA, all, "dl_vlan=0,dl_vlan_pcp=0,dl_type=0x88a8", "nested priority tag from guest"},
			{"10.30.0.2", guestB, all, "dl_vlan=0,dl_vlan_pcp=0,dl_type=0x8100", "nested priority tag from tunnel"},
			{"guest", guestA, all, "dl_vlan=5,dl_type=0x8100", flood},
		},
	} {
		t.Run(name, func(t *testing.T) { in.play(t, frames) })
	}
}

func (in *instance) play(t *testing.T, frames []frame) {
	t.Helper()
	for i, f := range frames {
		flow, to := f.flow(), f.to
		if in.ranges != (network.Ranges{}) {
			flow, to = plantest.InOtherRanges(flow), plantest.InOtherRanges(to)
		}
		if got := in.send(flow); got != to {
			t.Errorf("frame %d from %s (%s):\nfound  %s\nwanted %s", i+1, f.from, flow, got, to)
		}
	}
}

func TestStats(t *testing.T) {
	in := startInstance(t)
	in.apply(example(1, 1, 2, 256), nil)
	const ether = "88b5" + "0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
	const everybody, a, b = "ffffffffffff", "52540000000a", "52540000000b"
	in.inject("in_port=2", everybody+a+ether)
	in.inject("in_port=2", everybody+a+"81000064"+ether)
	in.inject("in_port=1 tun_src=10.30.1.0", everybody+b+ether)
	in.inject("in_port=LOCAL", everybody+"026d6f010001"+ether)
	in.inject("in_port=2", everybody+"026d6f010002"+ether)
	in.inject("in_port=2", everybody+"026d6f010002"+ether)
	in.inject("in_port=1 tun_src=10.30.1.0", everybody+"026d6f020002"+ether)
	stats, err := in.Stats(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if n, err := CountDropped(in.dir, spec.SwitchBridge, 5*time.Second); err != nil || n.Claimed != stats.DroppedPackets() || n != (DroppedFrames{Claimed: 3}) {
		t.Errorf("the agent counts %+v (%v), wanted the 3 dropped frames that status does", n, err)
	}
	found := map[string]bool{}
	for _, d := range stats.Dropped {
		found[fmt.Sprintf("%s from %s: %d", d.Pin, d.Origin, d.Packets)] = true
	}
	for _, s := range in.learned("ovsbr-mobula") {
		found[fmt.Sprintf("%s VLAN %d %s %s", s.MAC, s.VLAN, s.Port, s.Remote)] = true
	}
	for _, want := range []string{
		"gateway MAC from guest: 2", "host MAC from tunnel: 1",
		"52:54:00:00:00:0a VLAN 0 mo-fac-ovs invalid IP", "52:54:00:00:00:0a VLAN 100 mo-fac-ovs invalid IP",
		"52:54:00:00:00:0b VLAN 0  10.30.1.0",
	} {
		if !found[want] {
			t.Errorf("no %q", want)
		}
		delete(found, want)
	}
	if len(found) > 0 || stats.DroppedPackets() != 3 {
		t.Errorf("more than wanted: %v", found)
	}
}

// learned reads what the switch has learned.
func (in *instance) learned(name string) (all []Station) {
	in.t.Helper()
	ctx := context.Background()
	bridges, err := in.observe(ctx)
	if err != nil {
		in.t.Fatal(err)
	}
	out, err := in.tools.dumpFlows(ctx, name, "table="+strconv.Itoa(tableLearned))
	if err != nil {
		in.t.Fatal(err)
	}
	flows, err := parseFlows(out)
	if err != nil {
		in.t.Fatal(err)
	}
	for _, f := range flows {
		if !isLearned(f.cookie) {
			continue
		}
		one, err := parseStation(f, bridges[name])
		if err != nil {
			in.t.Fatal(err)
		}
		all = append(all, one)
	}
	return all
}
