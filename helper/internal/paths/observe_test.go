package paths

import (
	"testing"
	"time"
)

// TestAHandshakeIsNoTraffic, however often the kernel is looked at; what a user sends is.
func TestAHandshakeIsNoTraffic(t *testing.T) {
	for what, c := range map[string]struct {
		bytes int64
		want  bool
	}{"a handshake": {148 + 92, false}, "a packet of full size": {1420, true}} {
		e := New(Config{Self: 9}, 1)
		e.SetPeers(0, Config{Self: 9}, []Peer{{ID: 1, Endpoint: underlay(1)}})
		k := Kernel{Peer: 1, Endpoint: underlay(1)}
		for now := time.Second; now < 3*time.Second; now += 210 * time.Millisecond {
			if now > 2*time.Second && k.TransmitBytes == 0 {
				k.TransmitBytes = c.bytes
			}
			e.Observe(now, []Kernel{k})
		}
		if got := e.now < e.peers[1].activeUntil; got != c.want {
			t.Errorf("%s: active %v", what, got)
		}
	}
}
