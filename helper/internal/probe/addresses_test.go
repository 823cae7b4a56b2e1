package probe

import (
	"net/netip"
	"slices"
	"testing"
)

// TestAddresses: of both families, as many as fit. What is cut off is not read.
func TestAddresses(t *testing.T) {
	var all []netip.Addr
	for i := byte(1); i <= MaxAddresses+1; i++ {
		all = append(all, netip.AddrFrom4([4]byte{192, 168, 1, i}))
	}
	all[1] = netip.MustParseAddr("2001:db8::7")
	for n, want := range [][]netip.Addr{nil, all[:1], all[:2], all[:MaxAddresses], all} {
		b := Traffic{Session: 2, Carrier: true}.AppendAddresses([]byte("before"), want)[6:]
		m, err := ParseTraffic(b)
		if err != nil || m.Type != OwnAddresses || m.Session != 2 || !m.Carrier || m.Size != len(b) {
			t.Errorf("%d: found %+v, %v", n, m, err)
		}
		if got := Addresses(b); !slices.Equal(got, want[:min(len(want), MaxAddresses)]) {
			t.Errorf("found %v, wanted %v", got, want)
		}
		if len(want) > 1 {
			if got := Addresses(b[:TrafficSize+2*addressSize-1]); !slices.Equal(got, want[:1]) {
				t.Errorf("of a message that is cut off found %v, wanted %v", got, want[:1])
			}
		}
	}
}
