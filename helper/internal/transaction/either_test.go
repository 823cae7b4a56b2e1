package transaction

import (
	"testing"

	"mobula/helper/internal/spec"
)

// TestDoorwayOfEitherSide: while a change waits, the host's own table may be of any of
// both sides, and is looked for.
func TestDoorwayOfEitherSide(t *testing.T) {
	with, none := &spec.Host{Doorway: &spec.Doorway{HostID: 1}}, &spec.Host{}
	for _, c := range []struct {
		a, b *spec.Host
		want bool
	}{{with, none, true}, {none, with, true}, {with, with, true}, {none, none, false}} {
		if got := either(c.a, c.b).Doorway != nil; got != c.want {
			t.Errorf("of %+v and %+v: found %v, wanted %v", c.a, c.b, got, c.want)
		}
	}
	if with.OfVersionBefore().Doorway != nil {
		t.Error("the version before takes the table for its own")
	}
	if (&spec.Host{Opening: &spec.Opening{}}).OfVersionBefore().Opening != nil {
		t.Error("the version before knows nothing of what was opened")
	}
}
