package wireguard_test

import (
	"testing"

	"mobula/helper/internal/network"
	"mobula/helper/internal/plan"
	"mobula/helper/internal/plan/plantest"
)

// TestShakeAgainWithMany: as many peers as a rotation of a large network has at
// once keep where they are, their secrets and their keepalive when they are made
// anew, however many messages that takes.
func TestShakeAgainWithMany(t *testing.T) {
	for _, hosts := range []uint16{2, 16, 17, 32, 33, 100} {
		b := newBench(t)
		var others []uint16
		var all []network.Key
		for id := uint16(2); id < 2+hosts; id++ {
			others = append(others, id)
			all = append(all, plantest.Key(int(id)))
		}
		b.bring(b.plan(func(hosts []network.Host) {
			for i := range hosts {
				hosts[i].PresharedKeys = true
			}
		}, others...), nil)
		before, err := b.kernel.Device(plan.WireLink)
		if err != nil {
			t.Fatal(err)
		}
		// None of the hosts has allowed IPs, as those have none whose other key is used.
		if err := b.device.GiveAllowedIPs(plantest.Key(1000), allIPs(before.Peers)); err != nil {
			t.Fatal(err)
		}
		b.kernel.Woken = nil
		if err := b.device.ShakeAgain(all); err != nil {
			t.Fatal(err)
		}
		after := map[network.Key]string{}
		now, err := b.kernel.Device(plan.WireLink)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range now.Peers {
			after[network.Key(p.PublicKey)] = p.Endpoint.String() + p.PersistentKeepaliveInterval.String() + p.PresharedKey.String()
		}
		for _, p := range before.Peers {
			key := network.Key(p.PublicKey)
			if want := p.Endpoint.String() + p.PersistentKeepaliveInterval.String() + p.PresharedKey.String(); after[key] != want {
				t.Errorf("of %d hosts, %s: found %q, wanted %q", hosts, key, after[key], want)
				break
			}
		}
		if len(b.kernel.Woken) != len(all) {
			t.Errorf("%d of %d hosts were woken", len(b.kernel.Woken), hosts)
		}
	}
}
