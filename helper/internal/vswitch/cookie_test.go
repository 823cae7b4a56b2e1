package vswitch

import (
	"testing"

	"mobula/helper/internal/spec"
)

func mustPipeline(t *testing.T, s *spec.Switch) []*flow {
	t.Helper()
	flows, err := Pipeline(*s, true, defaultNeighbors)
	if err != nil {
		t.Fatal(err)
	}
	return flows
}

func TestEqualHashesTakeTheNextCookie(t *testing.T) {
	same := func() *flow { return &flow{priority: 1, actions: []string{"drop"}} }
	flows := []*flow{same(), same()}
	stamp(flows)
	if flows[1].cookie != flows[0].cookie+1 {
		t.Errorf("found %#x after %#x", flows[1].cookie, flows[0].cookie)
	}
}

func TestCookiesOfDropsSayWhy(t *testing.T) {
	seen := map[string]bool{}
	for _, f := range mustPipeline(t, example(1, 1, 2)) {
		if pin, origin, ok := droppedBy(f.cookie); ok {
			seen[pin.String()+" "+origin.String()] = true
		}
		if isLearned(f.cookie) {
			t.Errorf("cookie %#x is that of a learned flow", f.cookie)
		}
	}
	if len(seen) != 3*len(pinNames) {
		t.Errorf("found %d pairs of pin and origin: %v", len(seen), seen)
	}
}
