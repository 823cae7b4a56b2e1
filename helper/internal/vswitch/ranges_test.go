package vswitch

import (
	"os"
	"regexp"
	"testing"

	"mobula/helper/internal/network"
	"mobula/helper/internal/plan/plantest"
	"mobula/helper/internal/spec"
)

// inRanges returns the switch in other ranges.
func inRanges(ranges network.Ranges, s *spec.Switch) *spec.Switch {
	s.Ranges = ranges
	for i, r := range s.Remotes {
		s.Remotes[i].Address = ranges.IntrawireAddress(r.HostID)
	}
	return s
}

// TestOtherRanges: the flows of a network in other ranges are those of the default ones
// with the first bytes of these everywhere. Cookies follow from the flows.
func TestOtherRanges(t *testing.T) {
	cookie := regexp.MustCompile(`cookie=0x6d6f01[0-9a-f]+`)
	golden, err := os.ReadFile("testdata/3-hosts.flows")
	if err != nil {
		t.Fatal(err)
	}
	got := cookie.ReplaceAllString(string(render(t, inRanges(plantest.OtherRanges(), example(256, 1, 2, 256)))), "")
	want := cookie.ReplaceAllString(string(golden), "")
	if other := plantest.InOtherRanges(want); got != other || other == want {
		t.Errorf("found\n%s\nwanted\n%s", got, other)
	}
}
