//go:build ovs

package vswitch

import (
	"context"
	"fmt"
	"strings"
	"testing"
)

// reading is a frame that a guest of host 1 sends to host 2.
type reading struct {
	name  string
	frame []byte
	then  []byte // a second frame, if any
	// lie is what a kernel without a switch before it then believes of a member, or
	// "" if the frame is nothing to it.
	lie string
	// pin is what the switch drops it by, and passes what it lets through: the
	// address of a datagram that arrives then.
	pin    Pin
	passes string
}

// TestReading holds what Open vSwitch and Linux each make of a frame: where they
// differ, the switch must be the stricter one.
func TestReading(t *testing.T) {
	b := newBench(t)
	before := b.dropped(t)
	for _, r := range readings() {
		t.Run(r.name, func(t *testing.T) {
			for _, frame := range [][]byte{r.frame, r.then} {
				if frame != nil {
					b.guest.send(frame)
					b.direct.send(frame)
				}
			}
			b.settle()
			told := strings.Join(b.twin.lies(), ", ")
			if r.lie == "" && told != "" || !strings.Contains(told, r.lie) {
				t.Errorf("without a switch the kernel believes %q, wanted %q", told, r.lie)
			}
			for _, behind := range []*receiver{b.behind, b.gateway} {
				if lies := behind.lies(); len(lies) > 0 {
					t.Errorf("behind the switch %s believes %s", behind.ip, strings.Join(lies, ", "))
				}
			}
			after := b.dropped(t)
			for pin := PinMulticastSource; pin <= lastPin; pin++ {
				want := uint64(0)
				if pin == r.pin {
					if want = 1; r.then != nil {
						want = 2
					}
				}
				if n := after[pin] - before[pin]; n != want {
					t.Errorf("counted %d frames by the pin %q, wanted %d", n, pin, want)
				}
			}
			before = after
			if r.passes != "" && !b.behind.heard(r.passes) {
				t.Errorf("no datagram of %s arrived", r.passes)
			}
			for _, x := range []*receiver{b.twin, b.behind, b.gateway} {
				x.reset()
			}
		})
	}
}

// dropped returns what guests lost by each pin.
func (b *bench) dropped(t *testing.T) map[Pin]uint64 {
	t.Helper()
	b.must("ovs-appctl", "-t", b.dir+"/ovs-vswitchd.ctl", "revalidator/purge") // brings the counters up to date
	out, err := b.tools.dumpFlows(context.Background(), "ovsbr-mobula", fmt.Sprintf("table=%d", tableDropped))
	if err != nil {
		t.Fatal(err)
	}
	flows, err := parseFlows(out)
	if err != nil {
		t.Fatal(err)
	}
	all := map[Pin]uint64{}
	for _, f := range flows {
		if pin, origin, _ := droppedBy(f.cookie); origin == OriginGuest {
			all[pin] += f.packets
		}
	}
	// The receiver answers as host 2, which the switch knows to be elsewhere.
	delete(all, PinAccessMAC)
	return all
}

// Forms in which a claim travels.
const (
	everybody = all
	allNodes  = "33:33:00:00:00:01"
	nodes     = "ff02::1"
)

func readings() []reading {
	claim := func(change func(*arpPacket)) []byte {
		a := arpPacket{operation: 2, sha: guestA, spa: thirdIP, tha: receiverMAC, tpa: receiverIP}
		change(&a)
		return a.bytes()
	}
	as := claim(func(*arpPacket) {})
	const taken = thirdIP + " is at " + guestA
	to4 := func(src string, change func(*ipv4Packet)) []byte {
		p := udp4(src, receiverIP)
		change(&p)
		return p.bytes()
	}
	plain4 := func(src string) []byte { return udp4(src, receiverIP).bytes() }
	to := func(rest ...[]byte) []byte { return ethernet(receiverMAC, guestA, rest...) }
	multicast := func(p ipv6Packet) []byte { return ethernet(allNodes, guestA, p.bytes()) }
	unicast := func(p ipv6Packet) []byte { return to(p.bytes()) }
	with := func(p ipv6Packet, extensions ...extension) ipv6Packet {
		p.extensions = extensions
		return p
	}
	cut := func(p ipv6Packet, from, to int) ipv6Packet {
		p.payload = p.payload[from:min(to, len(p.payload))]
		return p
	}
	router := routerMessage(guestIP6, nodes)
	const route, taken6 = "route to ::/0 via " + guestIP6, thirdIP6 + " is at " + guestA
	claim6 := advertise(guestIP6, receiverIP6, thirdIP6, targetLink(guestA))
	const ieee802 = 6
	return []reading{
		// ARP
		{"ARP", to(as), nil, taken, PinAccessARP, ""},
		{"ARP, broadcast", ethernet(everybody, guestA, as), nil, taken, PinAccessARP, ""},
		{"ARP of the gateway", to(claim(func(a *arpPacket) { a.spa = "10.31.1.0" })), nil, "10.31.1.0 is at " + guestA, PinGatewayARP, ""},
		{"ARP, IEEE 802", to(claim(func(a *arpPacket) { a.hardware = ieee802 })), nil, taken, PinUnreadable, ""},
		{"ARP, IEEE 802, of the gateway", to(claim(func(a *arpPacket) { a.hardware, a.spa = ieee802, "10.31.1.0" })), nil, "10.31.1.0 is at " + guestA, PinUnreadable, ""},
		{"ARP, IEEE 802, request", to(claim(func(a *arpPacket) { a.hardware, a.operation = ieee802, 1 })), nil, taken, PinUnreadable, ""},
		{"ARP, IEEE 802, priority tag", to(tag(0x8100, 0x6000), claim(func(a *arpPacket) { a.hardware = ieee802 })), nil, taken, PinUnreadable, ""},
		{"ARP, IEEE 802, names a gateway's MAC", to(claim(func(a *arpPacket) { a.hardware, a.operation, a.spa, a.sha = ieee802, 1, guestIP, gateway })), nil, guestIP + " is at " + gateway, PinUnreadable, ""},
		{"ARP, hardware type 0", to(claim(func(a *arpPacket) { a.hardware = 0x10000 })), nil, "", PinUnreadable, ""},
		{"ARP, Fibre Channel", to(claim(func(a *arpPacket) { a.hardware = 18 })), nil, "", PinUnreadable, ""},
		{"ARP for trailers", to(claim(func(a *arpPacket) { a.protocol = 0x1000 })), nil, "", PinUnreadable, ""},
		{"ARP, hardware addresses of 8 bytes", to(claim(func(a *arpPacket) { a.hardwareLen = 8 })), nil, "", PinUnreadable, ""},
		{"ARP, protocol addresses of 6 bytes", to(claim(func(a *arpPacket) { a.protocolLen = 6 })), nil, "", PinUnreadable, ""},
		{"ARP, operation 258", to(claim(func(a *arpPacket) { a.operation = 258 })), nil, "", PinUnreadable, ""},
		{"ARP, too short", to(as[:2+27]), nil, "", PinUnreadable, ""},
		{"ARP, no padding", to(as[:2+28]), nil, taken, PinAccessARP, ""},
		{"ARP, long", to(as, make([]byte, 900)), nil, taken, PinAccessARP, ""},
		{"ARP, inverse", to(claim(func(a *arpPacket) { a.operation = 9 })), nil, "", PinAccessARP, ""},
		{"ARP, reverse", to(typed(0x8035, as[2:])), nil, "", 0, ""},
		{"ARP in SNAP", to(snap(0x0806, as[2:])), nil, "", PinAccessARP, ""},
		{"ARP of an intrawire address", to(claim(func(a *arpPacket) { a.spa, a.operation = "10.30.0.1", 1 })), nil, "10.30.0.1 is at " + guestA, PinWire, ""},
		{"ARP names a host's MAC", to(claim(func(a *arpPacket) { a.spa, a.operation, a.sha = guestIP, 1, thirdMAC })), nil, guestIP + " is at " + thirdMAC, 0, ""},
		// Tags
		{"priority tag", to(tag(0x8100, 0), as), nil, taken, PinAccessARP, ""},
		{"priority tag, drop eligible", to(tag(0x8100, 0x1000), as), nil, taken, PinAccessARP, ""},
		{"priority tag of 802.1ad", to(tag(0x88a8, 0x7000), as), nil, taken, PinAccessARP, ""},
		{"priority tag in a priority tag", to(tag(0x8100, 0), tag(0x8100, 0), as), nil, taken, PinNestedTag, ""},
		{"802.1ad in a priority tag", to(tag(0x8100, 0), tag(0x88a8, 0), as), nil, taken, PinNestedTag, ""},
		{"priority tag in 802.1ad", to(tag(0x88a8, 0), tag(0x8100, 0), as), nil, taken, PinNestedTag, ""},
		{"three priority tags", to(tag(0x88a8, 0), tag(0x8100, 0), tag(0x8100, 0), as), nil, taken, PinNestedTag, ""},
		{"VLAN in a priority tag", to(tag(0x8100, 0), tag(0x8100, 5), as), nil, "", PinNestedTag, ""},
		{"VLAN", to(tag(0x8100, 5), as), nil, "", 0, ""},
		{"priority tag in a VLAN", to(tag(0x8100, 5), tag(0x8100, 0), as), nil, "", 0, ""},
		{"a tag of the kind before the standard", to(tag(0x9100, 0), as), nil, "", 0, ""},
		{"a tag and nothing in it", to(tag(0x8100, 0)), nil, "", 0, ""},
		// IPv4
		{"IPv4 of a guest", to(plain4(guestIP)), nil, "", 0, guestIP},
		{"IPv4 of a host", to(plain4(thirdIP)), nil, "a datagram of " + thirdIP, PinAccessIPv4, ""},
		{"IPv4 of a gateway", to(plain4("10.31.0.1")), nil, "a datagram of 10.31.0.1", PinGatewayIPv4, ""},
		{"IPv4 from intrawire", to(plain4("10.30.0.1")), nil, "a datagram of 10.30.0.1", PinWire, ""},
		{"IPv4 from extrawire", to(plain4("10.30.128.1")), nil, "a datagram of 10.30.128.1", PinWire, ""},
		{"IPv4 from intrawire, broadcast", ethernet(everybody, guestA, udp4("10.30.0.1", "10.31.255.255").bytes()), nil, "a datagram of 10.30.0.1", PinWire, ""},
		{"IPv4 from intrawire, priority tag", to(tag(0x8100, 0), plain4("10.30.0.1")), nil, "a datagram of 10.30.0.1", PinWire, ""},
		{"IPv4 from intrawire, options", to(to4("10.30.0.1", func(p *ipv4Packet) { p.options = []byte{1, 1, 1, 0} })), nil, "a datagram of 10.30.0.1", PinWire, ""},
		{"IPv4 from intrawire, record route", to(to4("10.30.0.1", func(p *ipv4Packet) { p.options = []byte{7, 7, 4, 0, 0, 0, 0, 0} })), nil, "a datagram of 10.30.0.1", PinWire, ""},
		{"IPv4, options, of a guest", to(to4(guestIP, func(p *ipv4Packet) { p.options = []byte{1, 1, 1, 0} })), nil, "", 0, guestIP},
		{"IPv4, padded", to(plain4(guestIP), make([]byte, 40)), nil, "", 0, guestIP},
		{"IPv4 from intrawire, a fragment", to(to4("10.30.0.1", func(p *ipv4Packet) { p.fragment, p.payload = 0x2000, p.payload[:8] })), nil, "", PinWire, ""},
		{"IPv4 from intrawire, the other", to(to4("10.30.0.1", func(p *ipv4Packet) { p.fragment, p.payload = 1, p.payload[8:] })), nil, "a datagram of 10.30.0.1", PinWire, ""},
		{"IPv4 longer than the frame", to(to4("10.30.0.1", func(p *ipv4Packet) { p.length = 900 })), nil, "", PinUnreadable, ""},
		{"IPv4 shorter than its header", to(to4("10.30.0.1", func(p *ipv4Packet) { p.length = 19 })), nil, "", PinUnreadable, ""},
		{"IPv4, version 6", to(to4(thirdIP, func(p *ipv4Packet) { p.version = 6 })), nil, "", PinAccessIPv4, ""},
		{"IPv4 in SNAP", to(snap(0x0800, udp4(thirdIP, receiverIP).packet())), nil, "", PinAccessIPv4, ""},
		{"IPv4 in IEEE 802.2", to(u16(3+32), []byte{6, 6, 3}, udp4(thirdIP, receiverIP).packet()), nil, "", 0, ""},
		{"IPv4 in a VLAN", to(tag(0x8100, 5), plain4("10.30.0.1")), nil, "", 0, ""},
		{"IPv4 as IPv6", to(typed(0x86dd, udp4(thirdIP, receiverIP).packet())), nil, "", PinUnreadable, ""},
		// IPv6
		{"IPv6 of a guest", unicast(udp6(guestIP6, receiverIP6)), nil, "", 0, guestIP6},
		{"IPv6 of a host", unicast(udp6(thirdIP6, receiverIP6)), nil, "a datagram of " + thirdIP6, PinNeighbor, ""},
		{"IPv6 of a host, priority tag", to(tag(0x8100, 0), udp6(thirdIP6, receiverIP6).bytes()), nil, "a datagram of " + thirdIP6, PinNeighbor, ""},
		{"IPv6 of a host, destination options", unicast(with(udp6(thirdIP6, receiverIP6), destination)), nil, "a datagram of " + thirdIP6, PinNeighbor, ""},
		{"IPv6 from intrawire", unicast(udp6("::ffff:10.30.0.1", receiverIP6)), nil, "a datagram of ::ffff:10.30.0.1", PinUnreadable, ""},
		{"IPv6 from a host's IPv4 address", unicast(udp6("::ffff:"+thirdIP, receiverIP6)), nil, "a datagram of ::ffff:" + thirdIP, PinUnreadable, ""},
		{"neighbor advertisement", unicast(claim6), nil, taken6, PinNeighbor, ""},
		{"neighbor advertisement to all", multicast(advertise(guestIP6, nodes, thirdIP6, targetLink(guestA))), nil, taken6, PinNeighbor, ""},
		{"neighbor advertisement, priority tag", to(tag(0x8100, 0), claim6.bytes()), nil, taken6, PinNeighbor, ""},
		{"neighbor advertisement, options before it", unicast(with(claim6, hopByHop, destination)), nil, taken6, PinNeighbor, ""},
		{"neighbor advertisement, twice the option", unicast(advertise(guestIP6, receiverIP6, thirdIP6, targetLink(guestA), targetLink(guestB))), nil, taken6, PinUnreadable, ""},
		{"neighbor advertisement, another option first", unicast(advertise(guestIP6, receiverIP6, thirdIP6, join([]byte{14, 1}, make([]byte, 6)), targetLink(guestA))), nil, taken6, PinNeighbor, ""},
		{"neighbor advertisement, an empty option", unicast(advertise(guestIP6, receiverIP6, thirdIP6, make([]byte, 8), targetLink(guestA))), nil, "", PinNeighbor, ""},
		{"neighbor advertisement names a host's MAC", unicast(solicit(guestIP6, receiverIP6, receiverIP6, sourceLink(thirdMAC))), nil, guestIP6 + " is at " + thirdMAC, 0, ""},
		{"neighbor advertisement names a gateway's MAC", unicast(solicit(guestIP6, receiverIP6, receiverIP6, sourceLink(gateway))), nil, guestIP6 + " is at " + gateway, PinGatewayMAC, ""},
		{"neighbor solicitation of a host", unicast(solicit(thirdIP6, receiverIP6, receiverIP6, sourceLink(guestA))), nil, taken6, PinNeighbor, ""},
		{"neighbor solicitation of a guest", unicast(solicit(guestIP6, receiverIP6, receiverIP6, sourceLink(guestA))), nil, "", 0, ""},
		{"a host's address is looked for", unicast(solicit("::", "ff02::1:ff02:2", receiverIP6)), nil, "", PinNeighbor, ""},
		{"router advertisement", multicast(router), nil, route, PinRouter, ""},
		{"router advertisement of a host", multicast(routerMessage(thirdIP6, nodes, sourceLink(guestA))), nil, "route to ::/0 via " + thirdIP6, PinRouter, ""},
		{"router advertisement, priority tag", ethernet(allNodes, guestA, tag(0x88a8, 0), router.bytes()), nil, route, PinRouter, ""},
		{"router advertisement, options before it", multicast(with(router, hopByHop, destination)), nil, route, PinRouter, ""},
		{"router advertisement, a length of nothing", multicast(func() ipv6Packet { p := with(router, hopByHop); p.length = -1; return p }()), nil, route, PinUnreadable, ""},
		{"router advertisement in fragments", multicast(cut(with(router, fragmentHeader(0, true)), 0, 16)), multicast(cut(with(router, fragmentHeader(2, false)), 16, 99)), "", 0, ""},
		{"IPv6 of a guest in fragments", unicast(cut(with(udp6(guestIP6, receiverIP6), fragmentHeader(0, true)), 0, 8)), unicast(cut(with(udp6(guestIP6, receiverIP6), fragmentHeader(1, false)), 8, 99)), "", 0, guestIP6},
		{"IPv6 of a host in fragments", unicast(cut(with(udp6(thirdIP6, receiverIP6), fragmentHeader(0, true)), 0, 8)), unicast(cut(with(udp6(thirdIP6, receiverIP6), fragmentHeader(1, false)), 8, 99)), "a datagram of " + thirdIP6, PinNeighbor, ""},
		{"router advertisement, first fragment without it", multicast(cut(with(router, fragmentHeader(0, true), destination), 0, 0)), nil, "", 0, ""},
		{"router advertisement, one fragment", multicast(with(router, fragmentHeader(0, false))), nil, "", PinRouter, ""},
		{"router advertisement in a VLAN", ethernet(allNodes, guestA, tag(0x8100, 5), router.bytes()), nil, "", 0, ""},
		{"router solicitation", ethernet("33:33:00:00:00:02", guestA, icmp6Message(guestIP6, "ff02::2", 133, 0, u32(0), sourceLink(guestA)).bytes()), nil, "", 0, ""},
		{"redirect", unicast(icmp6Message(guestIP6, receiverIP6, redirect, 0, u32(0), addr(guestIP6), addr("2001:db8::1"), targetLink(guestA))), nil, "", PinRouter, ""},
		{"echo request over IPv6", unicast(icmp6Message(guestIP6, receiverIP6, 128, 0, u32(1))), nil, "", 0, ""},
	}
}
