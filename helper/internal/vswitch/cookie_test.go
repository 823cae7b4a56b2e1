package vswitch

import (
	"testing"

	"github.com/digitalocean/go-openvswitch/ovs"

	"mobula/helper/internal/plan"
)

func mustPipeline(t *testing.T, s *plan.Switch) []*ovs.Flow {
	t.Helper()
	flows, err := Pipeline(*s, true, defaultNeighbors)
	if err != nil {
		t.Fatal(err)
	}
	return flows
}

func TestEqualHashesTakeTheNextCookie(t *testing.T) {
	same := func() *ovs.Flow { return &ovs.Flow{Priority: 1, Actions: []ovs.Action{ovs.Drop()}} }
	flows := []*ovs.Flow{same(), same()}
	if err := stamp(flows); err != nil {
		t.Fatal(err)
	}
	if flows[1].Cookie != flows[0].Cookie+1 {
		t.Errorf("found %#x after %#x", flows[1].Cookie, flows[0].Cookie)
	}
}

func TestCookiesOfDropsSayWhy(t *testing.T) {
	seen := map[string]bool{}
	for _, f := range mustPipeline(t, example(1, 1, 2)) {
		if pin, origin, ok := droppedBy(f.Cookie); ok {
			seen[pin.String()+" "+origin.String()] = true
		}
		if isLearned(f.Cookie) {
			t.Errorf("cookie %#x is that of a learned flow", f.Cookie)
		}
	}
	if len(seen) != 3*len(pinNames) {
		t.Errorf("found %d pairs of pin and origin: %v", len(seen), seen)
	}
}
