//go:build kernel

package links_test

import (
	"fmt"
	"testing"

	"mobula/helper/internal/links"
)

// TestNICNearby: what the kernel says of a link that leads out of here, of one that is down, of a
// bridge of the network's guests, and of addresses that pass.
func TestNICNearby(t *testing.T) {
	if !apart(t) {
		return
	}
	run(t, `ip netns add elsewhere
		ip link add out up type veth peer name beyond netns elsewhere
		ip -n elsewhere link set beyond up
		ip link add va up type veth peer name vb
		ip link set vb up
		ip address add 10.52.0.7/24 dev va
		ip link add off type veth peer name beyond2
		ip link add veth_fac0 up type veth peer name mo-fac-ovs
		ip link set mo-fac-ovs up
		ip link add guests up type bridge
		ip link set veth_fac0 master guests
		ip tuntap add dev tun0 mode tap
		ip link set tun0 up
		ip address add 192.0.2.7/24 dev out
		ip address add 10.9.0.7/24 dev out
		ip address add 192.0.2.8/32 dev out
		ip address add 2001:db8::7/64 dev out nodad
		ip address add 2001:db8:1::7/64 dev out nodad preferred_lft 0
		ip address add 10.8.0.7/24 dev off
		ip address add 10.50.0.7/24 dev guests
		ip address add 10.51.0.7/24 dev tun0`)
	all, err := links.Nearby("")
	if got, want := fmt.Sprint(all), "[10.9.0.7/24 192.0.2.7/24 2001:db8::7/64]"; err != nil || got != want {
		t.Errorf("found %s, %v, wanted %s", got, err, want)
	}
}
