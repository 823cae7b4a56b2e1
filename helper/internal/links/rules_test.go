package links_test

import (
	"net/netip"
	"testing"

	"mobula/helper/internal/links"
	"mobula/helper/internal/netns/netnstest"
	"mobula/helper/internal/spec"
)

// TestRulesInTheKernel: every rule of a plan is found as it was made, twice made
// it is one, and of other people's nothing is seen that is not about our table.
func TestRulesInTheKernel(t *testing.T) {
	if !netnstest.Alone(t) {
		return
	}
	var kernel links.Netlink
	want := []spec.Rule{
		{Priority: spec.RulePriority, From: netip.MustParsePrefix("10.30.0.1/32"), Table: spec.RouteTable},
		{Priority: spec.RulePriority + 2, To: netip.MustParsePrefix("169.254.0.0/16"), Specific: true},
		{Priority: spec.RulePriority + 3, To: netip.MustParsePrefix("169.254.0.0/16"), Table: spec.RouteTable},
		{Priority: spec.RulePriority + 2, To: netip.MustParsePrefix("168.63.129.16/32"), Specific: true},
	}
	found := func() map[spec.Rule]bool {
		t.Helper()
		state, err := kernel.Observe(nil, spec.RouteTable, nil)
		if err != nil {
			t.Fatal(err)
		}
		return state.Rules
	}
	netnstest.Run(t, "", "ip", "rule", "add", "priority", "50", "lookup", "main", "suppress_prefixlength", "0")
	netnstest.Run(t, "", "ip", "rule", "add", "priority", "1035", "to", "172.31.0.0/16", "lookup", "main")
	for twice := 0; twice < 2; twice++ {
		for _, r := range want {
			if err := kernel.AddRule(r); err != nil {
				t.Fatal(err)
			}
		}
		if got := found(); len(got) != len(want) {
			t.Errorf("found %v, wanted %v", got, want)
		}
	}
	for i, r := range want {
		if !found()[r] {
			t.Errorf("%+v is not found", r)
		}
		for twice := 0; twice < 2; twice++ {
			if err := kernel.DeleteRule(r); err != nil {
				t.Fatal(err)
			}
		}
		if got := found(); len(got) != len(want)-i-1 {
			t.Errorf("after deleting %+v: found %v", r, got)
		}
	}
}
