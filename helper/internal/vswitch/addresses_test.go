//go:build ovs

package vswitch

import (
	"fmt"
	"strings"
	"testing"
)

// TestInventedAddresses: a guest that invents IP addresses, in questions for the gateway's
// Ethernet address and in datagrams that it answers, makes the kernel remember as many
// neighbors as a bound allows. Whoever was known before, members, and guests of other
// hosts go on.
func TestInventedAddresses(t *testing.T) {
	b := newBench(t)
	sw := example(1, 1, 2, 256)
	sw.LocalPorts = []string{"mo-fac-ovs", "lab0"}
	b.options.Neighbors = 120
	b.apply(sw, sw)
	const room = 120 / 4
	invented := func(i int) string { return fmt.Sprintf("10.31.%d.%d", 210+i/250, i%250+1) }
	asks := func(from string) []byte {
		return ethernet(all, guestA, arpPacket{operation: 1, sha: guestA, spa: from, tpa: "10.31.0.1"}.bytes())
	}
	b.guest.send(asks(guestIP))
	b.settle()
	const more = 20
	for i := 0; i < room+more; i++ {
		frame := asks(invented(i))
		if i%2 == 0 {
			frame = ethernet(gateway, guestA, udp4(invented(i), "10.31.0.1").bytes())
		}
		b.guest.send(frame)
		if i%20 == 0 {
			b.settle()
		}
	}
	b.settle()
	neighbors := 0
	for _, line := range strings.Split(b.gateway.run("ip", "neigh", "show", "dev", "ovsbr-mobula"), "\n") {
		if strings.HasPrefix(line, "10.31.2") {
			neighbors++
		}
	}
	if neighbors > room || neighbors < room/2 {
		t.Errorf("the kernel has %d neighbors of %d invented addresses, wanted at most %d, and others than none", neighbors, room+more, room)
	}
	if n := b.dropped(t)[PinStations]; n != more+1 { // the room that guest A has
		t.Errorf("counted %d frames of too many addresses, wanted %d", n, more+1)
	}
	asking := func(from string) string {
		return "arp,arp_op=1,arp_tpa=10.31.0.1,arp_sha=" + guestA + ",arp_spa=" + from
	}
	sending := func(from string) string { return "ip,nw_dst=10.31.0.1,nw_src=" + from }
	const elsewhere = "52:54:00:00:09:01"
	for _, f := range []frame{
		{"guest", guestA, all, asking("10.31.220.1"), "too many stations or addresses from guest"},
		{"guest", guestA, gateway, sending("10.31.220.1"), "too many stations or addresses from guest"},
		{"guest", guestA, gateway, "ip,nw_dst=192.0.2.1,nw_src=10.31.220.1", "too many stations or addresses from guest"},
		{"guest", access, gateway, sending("10.31.220.1"), "too many stations or addresses from guest"}, // its host bridges it
		{"guest", guestA, gateway, sending(guestIP), "LOCAL"},
		{"guest", guestA, all, asking(guestIP), "LOCAL"},
		{"guest", access, gateway, sending("10.31.128.1"), "LOCAL"},
		{"guest", guestA, guestB, sending("10.31.220.1"), "LOCAL 3 10.30.0.2 10.30.1.0"}, // who is not this host
		{"10.30.0.2", elsewhere, gateway, sending("10.31.220.1"), "LOCAL"},
		{"10.30.0.2", "02:6d:6f:02:00:02", gateway, sending("10.31.128.2"), "LOCAL"},
	} {
		if got := b.send(f.flow()); got != f.to {
			t.Errorf("%s from %s: found %q, wanted %q", f.flow(), f.from, got, f.to)
		}
	}
	for i := 0; i <= 120/6; i++ {
		b.send(frame{"10.30.1.0", "02:6d:6f:02:01:00", gateway, sending(invented(i)), ""}.flow()) // behind that host
	}
	for _, f := range []frame{
		{"10.30.1.0", elsewhere, gateway, sending("10.31.221.1"), "too many stations or addresses from tunnel"},
		{"10.30.1.0", "02:6d:6f:02:01:00", gateway, sending("10.31.221.1"), "too many stations or addresses from tunnel"},
		{"10.30.1.0", "02:6d:6f:02:01:00", gateway, sending("10.31.129.0"), "LOCAL"},
		{"10.30.1.0", "02:6d:6f:02:01:00", all, "arp,arp_op=1,arp_tpa=10.31.0.1,arp_sha=02:6d:6f:02:01:00,arp_spa=10.31.129.0", "LOCAL 2 3"},
	} {
		if got := b.send(f.flow()); got != f.to {
			t.Errorf("%s from %s: found %q, wanted %q", f.flow(), f.from, got, f.to)
		}
	}
}
