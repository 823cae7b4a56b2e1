package plan

import (
	"net/netip"
	"slices"
	"testing"

	"mobula/helper/internal/spec"
)

// TestAddressesWithAPeerAnswer: where arp_ignore is 1, the kernel answers ARP for an
// address with a peer in another network only if it has the address without the peer, too.
func TestAddressesWithAPeerAnswer(t *testing.T) {
	p := netip.MustParsePrefix
	for _, c := range []struct {
		name string
		has  []spec.Address
		want []netip.Prefix // without a peer, after those
	}{
		{"peer elsewhere", []spec.Address{{Prefix: p("203.0.113.10/32"), Peer: p("172.31.1.1/32")}}, []netip.Prefix{p("203.0.113.10/32")}},
		{"two peers elsewhere", []spec.Address{{Prefix: p("203.0.113.10/32"), Peer: p("172.31.1.1/32")}, {Prefix: p("203.0.113.10/32"), Peer: p("172.31.1.2/32")}}, []netip.Prefix{p("203.0.113.10/32")}},
		{"peer in its network", []spec.Address{{Prefix: p("203.0.113.10/32"), Peer: p("203.0.113.1/24")}}, nil},
		{"there without", []spec.Address{{Prefix: p("203.0.113.10/32"), Peer: p("172.31.1.1/32")}, {Prefix: p("203.0.113.10/24")}}, nil},
		{"no peer", []spec.Address{{Prefix: p("192.0.2.10/24")}}, nil},
	} {
		got, _, _ := onBridge(spec.Baseline{Addresses: c.has})
		var alone []netip.Prefix
		for _, a := range got[len(c.has):] {
			if a.Peer.IsValid() || a.NS != spec.Namespace || a.Link != spec.ExternalLink || !a.Uplink {
				t.Errorf("%s: found %+v", c.name, a)
			}
			alone = append(alone, a.Prefix)
		}
		if !slices.Equal(alone, c.want) {
			t.Errorf("%s: found %v, wanted %v", c.name, alone, c.want)
		}
	}
}
