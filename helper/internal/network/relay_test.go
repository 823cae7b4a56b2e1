package network

import (
	"fmt"
	"net/netip"
	"testing"
)

// TestRelays: who has relay ports of its own at its endpoint can relay.
func TestRelays(t *testing.T) {
	endpoint := netip.MustParseAddrPort
	for _, c := range []struct {
		name   string
		change func(*Document)
		want   string
	}{
		{"all", func(*Document) {}, "map[1:true 2:true 256:true]"},
		{"one keeps its NIC", func(d *Document) { d.Hosts[1].SharedUplink = true }, "map[1:true 2:true 256:true]"},
		{"one behind a router that translates", func(d *Document) { d.Hosts[1].WireGuardPort = 7 }, "map[2:true 256:true]"},
		{"two behind one address", func(d *Document) { d.Hosts[1].Endpoint = endpoint("192.0.2.2:7") }, "map[256:true]"},
	} {
		d := small()
		c.change(&d)
		if got := fmt.Sprint(d.Relays()); got != c.want {
			t.Errorf("%s: found %s, wanted %s", c.name, got, c.want)
		}
	}
}
