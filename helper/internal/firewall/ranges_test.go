package firewall

import (
	"os"
	"testing"

	"mobula/helper/internal/network"
	"mobula/helper/internal/plan/plantest"
)

// TestOtherRanges: the rulesets of a network in other ranges are those of the default
// ones with the first bytes of these everywhere.
func TestOtherRanges(t *testing.T) {
	moved, shared, ajar, doorway := examples()
	for name, render := range map[string]func(network.Ranges) string{
		"host256":           func(r network.Ranges) string { moved.Ranges = r; return Render(moved, plenty) },
		"shared256":         func(r network.Ranges) string { shared.Ranges = r; return Render(shared, plenty) },
		"doorway256":        func(r network.Ranges) string { ajar.Ranges = r; return RenderDoorway(ajar) },
		"doorway256-router": func(r network.Ranges) string { doorway.Ranges = r; return RenderDoorway(doorway) },
	} {
		golden, err := os.ReadFile("testdata/" + name + ".nft")
		if err != nil {
			t.Fatal(err)
		}
		if got, want := render(plantest.OtherRanges()), plantest.InOtherRanges(string(golden)); got != want || got == string(golden) {
			t.Errorf("%s: found\n%s\nwanted\n%s", name, got, want)
		}
	}
}
