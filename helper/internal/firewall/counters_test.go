package firewall

import (
	"fmt"
	"testing"
	"time"

	"mobula/helper/internal/network"
)

// TestCounters: what a guest is refused, and what passes from one member to another, both
// ways, is counted where the NIC has moved; of a host that has no tables of its own nothing
// is missing.
func TestCounters(t *testing.T) {
	if !world(t) {
		return
	}
	read := func(shared bool) *Counted {
		t.Helper()
		c, err := readCounters(gateway(1), shared)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	before := read(false)
	if len(before.Refused) != 4 || before.Refused["source"] != 0 || before.RelayedPackets != 0 {
		t.Errorf("found %+v, wanted four counters, and nothing counted", before)
	}
	sh(t, guestOf(1), "ip addr add 203.0.113.9/32 dev eth0")
	forged := udp(t, guestOf(1), "203.0.113.9:9")
	for i := 0; i < 3; i++ {
		send(t, forged, "198.51.100.1:9", "not me")
	}
	three, four := udp(t, outside, members[2].String()), udp(t, outside, members[3].String())
	port := network.RelayPort(network.Host{Endpoint: members[0]}, 4)
	send(t, three, fmt.Sprintf("%s:%d", members[0].Addr(), port), "to four")
	text, from := hear(t, four)
	if text != "to four" || from.Addr() != members[0].Addr() {
		t.Fatalf("host 4 hears %q from %s, wanted it relayed", text, from)
	}
	send(t, four, from.String(), "to three")
	if text, _ := hear(t, three); text != "to three" {
		t.Fatalf("host 3 hears %q, wanted the answer", text)
	}
	for end := time.Now().Add(patience); read(false).Refused["source"] < 3 && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
	}
	if got := read(true); got.Refused["source"] != 3 || got.RelayedPackets != 2 || got.RelayedBytes != 2*28+uint64(len("to four")+len("to three")) {
		t.Errorf("found %+v, wanted three packets refused and two relayed", got)
	}
	if c, err := readCounters("nowhere", false); err == nil {
		t.Errorf("found %+v of a namespace that is not there", c)
	}
}
