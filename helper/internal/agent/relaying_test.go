package agent

import (
	"os"
	"testing"
	"time"

	"mobula/helper/internal/spec"
)

// unable is why a host relays for nobody in tests.
type unable struct{ why string }

func (*unable) Stale(*spec.Doorway) (bool, error) { return false, nil }
func (u *unable) Unable() string                  { return u.why }

// TestRelaysAreReadWhenTheyChange: why a host relays for nobody is asked for as often as the
// file of it changes.
func TestRelaysAreReadWhenTheyChange(t *testing.T) {
	relaying, file := &unable{"no fwd statement"}, t.TempDir()+"/relays.json"
	at := relaysAt{path: file}
	if at.look(relaying) {
		t.Error("without a file: found that it relays for nobody")
	}
	for i, why := range []string{"no fwd statement", "", "no fwd statement"} {
		if err := os.WriteFile(file, []byte(why), 0o600); err != nil {
			t.Fatal(err)
		}
		when := time.Unix(int64(i+1), 0)
		if err := os.Chtimes(file, when, when); err != nil {
			t.Fatal(err)
		}
		relaying.why = why
		if found := at.look(relaying); found != (why != "") {
			t.Errorf("%q: found that it relays for nobody %v", why, found)
		}
		relaying.why = "something else"
		if found := at.look(relaying); found != (why != "") {
			t.Errorf("%q, with the same file: found that it relays for nobody %v", why, found)
		}
	}
}
