package transaction

import (
	"regexp"
	"testing"

	"mobula/helper/internal/network"
	"mobula/helper/internal/plan/plantest"
	"mobula/helper/internal/spec"
	"mobula/helper/internal/store"
)

// TestLifeInOtherRanges: nothing of a host in other ranges is in the default ones, and
// both come and go by an uninstall between.
func TestLifeInOtherRanges(t *testing.T) {
	inDefault := regexp.MustCompile(`\b10\.3[01]\.`)
	for name, fresh := range map[string]func(*testing.T, ...spec.Manager) *world{"moved": newWorld, "shared": newStaying} {
		t.Run(name, func(t *testing.T) {
			w := fresh(t, spec.Ifupdown, spec.Networkd)
			none := w.String()
			for i, ranges := range []network.Ranges{plantest.OtherRanges(), {}, plantest.OtherRanges()} {
				w.ranges = ranges
				change := w.document(int64(i+1), nil, 2, 3)
				w.apply(change)
				w.reachable()
				w.confirm(change)
				if found := inDefault.FindString(w.String()); (found == "") != (ranges != network.Ranges{}) {
					t.Errorf("ranges %s: found %q in\n%s", ranges, found, w.String())
				}
				if err := w.boot(); err != nil {
					t.Fatal(err)
				}
				if ops := w.apply(change); len(ops) > 0 {
					t.Errorf("ranges %s: did %v again", ranges, ops)
				}
				down := &store.Change{Down: true}
				w.apply(down)
				w.confirm(down)
				w.same("gone", w.String(), none)
				key, err := w.host.Store.Keys().Create()
				if err != nil {
					t.Fatal(err)
				}
				w.own = key
			}
		})
	}
}
