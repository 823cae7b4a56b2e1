package transaction

import (
	"strings"
	"testing"

	"mobula/helper/internal/spec"
)

// TestANewWayOutside: an interface that gets a default route later is one as the first
// was, and is given back, too; where the host becomes a router by itself, nothing that it
// forwards is kept from it.
func TestANewWayOutside(t *testing.T) {
	w := newStaying(t, spec.Networkd)
	w.kernel.Replace("", "wlan0", []byte{2, 0, 0, 0, 0, 7})
	none := w.String()
	w.apply(first(w))
	w.confirm(first(w))
	w.ways = spec.Shared{Outside: []string{"eth0", "wlan0"}, Opened: []string{"wlan0"}} // eth0 forwards by now
	if done, err := w.host.Repair(ctx); err != nil || len(done) == 0 {
		t.Fatalf("did %q, %v", done, err)
	}
	if facts, err := w.host.Store.Facts(); err != nil || strings.Join(facts.Shared.Opened, " ") != "eth0 wlan0" {
		t.Errorf("noted %+v, %v", facts.Shared, err)
	}
	if done, err := w.host.Repair(ctx); err != nil || len(done) > 0 {
		t.Errorf("did %q again, %v", done, err)
	}
	w.ways = spec.Shared{Outside: []string{"eth0"}} // wlan0 is off: it may come back
	if done, err := w.host.Repair(ctx); err != nil || len(done) > 0 {
		t.Errorf("did %q, %v, when a way went", done, err)
	}
	if err := w.boot(); err != nil {
		t.Fatal(err)
	}
	// The boot was before the host had its addresses.
	if len(w.followed) != 1 || w.followed[0] != "+ relays: table netdev mobula" {
		t.Errorf("did %q after a boot", w.followed)
	}
	if done, err := w.host.Repair(ctx); err != nil || len(done) > 0 {
		t.Errorf("did %q again, %v, after a boot", done, err)
	}
	w.ways.Router = true
	if done, err := w.host.Repair(ctx); err != nil || len(done) != 1 || !strings.Contains(done[0], "doorway") {
		t.Errorf("did %q, %v, when the host became a router", done, err)
	}
	w.ways.Router = false
	w.apply(down)
	w.confirm(down)
	w.same("gone", w.String(), none)
}
