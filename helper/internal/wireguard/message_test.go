package wireguard_test

import (
	"testing"

	"mobula/helper/internal/network"
)

// TestShakeAgainWithMany: as many peers as a rotation of a large network has at
// once keep where they are, their secrets, keepalive and allowed IPs when they are made
// anew, however many messages that takes.
func TestShakeAgainWithMany(t *testing.T) {
	for _, hosts := range []uint16{2, 16, 17, 32, 33, 100} {
		b := newBench(t)
		var others []uint16
		for id := uint16(2); id < 2+hosts; id++ {
			others = append(others, id)
		}
		b.bring(b.plan(func(hosts []network.Host) {
			for i := range hosts {
				hosts[i].PresharedKeys = true
			}
		}, others...), nil)
		seen, err := b.device.Peers()
		if err != nil {
			t.Fatal(err)
		}
		before := b.kernel.String()
		b.kernel.Woken = nil
		if err := b.device.ShakeAgain(seen); err != nil {
			t.Fatal(err)
		}
		if after := b.kernel.String(); after != before {
			t.Errorf("of %d hosts: found\n%swanted\n%s", hosts, after, before)
		}
		if len(b.kernel.Woken) != int(hosts) {
			t.Errorf("%d of %d hosts were woken", len(b.kernel.Woken), hosts)
		}
	}
}
