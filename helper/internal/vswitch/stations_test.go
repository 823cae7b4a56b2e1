//go:build ovs

package vswitch

import (
	"fmt"
	"testing"
	"time"

	"mobula/helper/internal/spec"
)

// TestStations: a guest that invents Ethernet addresses takes room up to a bound
// that holds for its port alone. Beyond it its frames are dropped and counted, and
// who was known before, members and other hosts' guests go on.
func TestStations(t *testing.T) {
	b := newBench(t)
	invented := func(i int) []byte {
		return ethernet(all, fmt.Sprintf("52:54:01:%02x:%02x:%02x", i>>16, i>>8&0xff, i&0xff), typed(0x88b5, make([]byte, 46)))
	}
	const more = 200
	b.settle() // so that guest A is known
	began := time.Now()
	for i := 0; i < maxLearned-1; i++ {
		b.guest.send(invented(i))
		if i%100 == 0 {
			b.settle()
		}
	}
	b.settle()
	room := time.Since(began)
	if n := b.dropped(t)[PinStations]; n != 0 {
		t.Errorf("%d frames were dropped of as many stations as there may be", n)
	}
	began = time.Now()
	for i := 0; i < more; i++ {
		b.guest.send(invented(1<<20 + i))
	}
	b.settle() // guest A is still heard
	t.Logf("a new station takes %v, one too many %v", room/maxLearned, time.Since(began)/more)
	if n := b.dropped(t)[PinStations]; n != more {
		t.Errorf("counted %d frames of too many stations, wanted %d", n, more)
	}
	if n, err := CountDropped(b.dir, spec.SwitchBridge, 5*time.Second); err != nil || n.Beyond != more {
		t.Errorf("the agent counts %+v (%v), wanted %d beyond the bound", n, err, more)
	}
	for _, f := range []frame{
		{"guest", guestC, all, "", "too many stations or addresses from guest"},
		{"guest", guestA, guestC, "", "LOCAL 3 10.30.0.2 10.30.1.0"},
		{"guest", access, all, "", "LOCAL 3 10.30.0.2 10.30.1.0"},
		{"guest", access, gateway, "", "LOCAL"},
		{"gateway", gateway, guestA, "", "2"},
		{"10.30.0.2", guestB, guestA, "", "2"},
		{"guest", guestA, guestB, "", "10.30.0.2"},
		{"guest", "52:54:01:00:00:07", guestA, "", "nowhere"}, // known, and at the same port
	} {
		if got := b.send(f.flow()); got != f.to {
			t.Errorf("%s from %s: found %q, wanted %q", f.flow(), f.from, got, f.to)
		}
	}
}

const guestC = "52:54:00:00:00:0c"
