package agent

import (
	"strings"
	"testing"
)

// TestFailingRepairsAreTold: other hosts hear of it.
func TestFailingRepairsAreTold(t *testing.T) {
	for _, failing := range []bool{false, true} {
		a := &Agent{failing: func() bool { return failing }}
		if _, found := a.about(); failing && (len(found) != 1 || !strings.Contains(found[0], "mobula-repair")) || !failing && len(found) != 0 {
			t.Errorf("repairs fail %v: found %q", failing, found)
		}
	}
}
