package healing

import (
	"net/netip"
	"testing"

	"mobula/helper/internal/network"
)

// TestAPacketThatLeavesIsFollowedByAProbe at once, whose answer is due before the path
// would have been tried otherwise.
func TestAPacketThatLeavesIsFollowedByAProbe(t *testing.T) {
	n := still(t, 2)
	one, two := n.healers[1], n.healers[2]
	one.renew(t)
	select {
	case <-one.poke:
	default:
	}
	for _, to := range []netip.Addr{network.Ranges{}.IntrawireAddress(900), network.Ranges{}.DirectGateway(), netip.MustParseAddr("10.30.128.7")} {
		one.leaves(to)
	}
	one.work(0)
	if sent := two.inside.(*testSocket).drain(); len(sent) > 0 || len(one.poke) > 0 {
		t.Fatalf("sent %d messages for packets to nobody", len(sent))
	}
	one.leaves(network.Ranges{}.IntrawireAddress(2))
	if len(one.poke) == 0 {
		t.Error("the engine is not woken")
	}
	one.work(0)
	if sent := two.inside.(*testSocket).drain(); len(sent) != 1 {
		t.Errorf("sent %d messages, wanted a probe", len(sent))
	}
}
