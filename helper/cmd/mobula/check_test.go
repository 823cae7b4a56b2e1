package main

import (
	"testing"

	"mobula/helper/internal/plan/plantest"
	"mobula/helper/internal/store"
)

// TestRangesOfACheck: a playbook says what the inventory has; who asks a host by hand
// means what that has.
func TestRangesOfACheck(t *testing.T) {
	document := plantest.Document(plantest.Host(1))
	document.Ranges = plantest.OtherRanges()
	deployed := &store.Change{HostID: 1, Document: document}
	for _, c := range []struct {
		wire, access string
		confirmed    *store.Change
		want         string
	}{
		{"", "", nil, "10.30.0.0/16 and 10.31.0.0/16"},
		{"", "", deployed, "172.20.0.0/16 and 192.168.0.0/16"},
		{"", "", &store.Change{Down: true}, "10.30.0.0/16 and 10.31.0.0/16"},
		{"10.30.0.0/16", "10.31.0.0/16", deployed, "10.30.0.0/16 and 10.31.0.0/16"},
		{"10.98.0.0/16", "", deployed, "10.98.0.0/16 and 10.31.0.0/16"},
	} {
		ranges, err := hostFlags{wire: &c.wire, accessNetwork: &c.access}.ranges()
		if err != nil {
			t.Fatal(err)
		}
		if got := (intended{ranges: ranges}).rangesOf(c.confirmed).String(); got != c.want {
			t.Errorf("%q, %q: found %s, wanted %s", c.wire, c.access, got, c.want)
		}
	}
	bad, none := "10.98.0.0/15", ""
	if ranges, err := (hostFlags{wire: &none, accessNetwork: &bad}).ranges(); err == nil {
		t.Errorf("found %v", ranges)
	}
}
