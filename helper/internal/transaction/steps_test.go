package transaction

import (
	"context"
	"errors"
	"strings"
	"testing"

	"mobula/helper/internal/spec"
	"mobula/helper/internal/store"
)

// TestStepsAreWhatIsWalked holds that Steps misses nothing that Apply and
// Confirm do, and that a stop before any of them is rolled back at once.
func TestStepsAreWhatIsWalked(t *testing.T) {
	for _, c := range []struct {
		name  string
		next  func(*world) *store.Change
		least int // how many steps Apply has
	}{
		{"first apply", first, 20},
		{"apply", kept, 5},
		{"down", func(w *world) *store.Change { kept(w); return down }, 20},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, spec.Networkd)
			next := c.next(w)
			before := w.String()
			p, err := w.host.Plan(ctx, next, options)
			if err != nil {
				t.Fatal(err)
			}
			ops := p.Operations
			apply, confirm := w.host.Steps(next, ops)
			around := 7
			for _, op := range ops {
				if op.Reconnects { // which is said once
					around = 8
				}
			}
			if len(apply) != len(ops)+around || len(apply) < c.least || len(confirm) < 3 {
				t.Fatalf("%d operations, but the steps are %q and %q", len(ops), apply, confirm)
			}
			var walked []string
			note := func(_ context.Context, step string) error { walked = append(walked, step); return nil }
			for _, name := range append(append([]string{}, apply...), confirm...) {
				w.host.Before = func(ctx context.Context, step string) error {
					if step == name {
						return errors.New("stopped")
					}
					return nil
				}
				err := doApply(w, next)
				if err == nil {
					if err = doConfirm(w, next); err == nil || !strings.Contains(err.Error(), name) {
						t.Fatalf("stopped before %q: error %v", name, err)
					}
					break // what follows has confirmed the change already
				}
				if !strings.Contains(err.Error(), name) {
					t.Fatalf("stopped before %q: error %v", name, err)
				}
				w.same("stopped before "+name, w.String(), before)
			}
			w.host.Before = note
			w.ring()
			w.apply(next)
			w.confirm(next)
			if got, want := strings.Join(walked, "\n"), strings.Join(append(apply, confirm...), "\n"); got != want {
				t.Errorf("walked through\n%s\nwanted\n%s", got, want)
			}
		})
	}
}

// TestWaiting holds that a second change learns before it touches anything that
// the first one waits for confirmation.
func TestWaiting(t *testing.T) {
	w := newWorld(t)
	next := kept(w)
	other := w.document(3, nil, 5)
	if err := w.host.Waiting(ctx, other); err != nil {
		t.Fatal(err)
	}
	w.apply(next)
	if err := w.host.Waiting(ctx, next); err != nil {
		t.Errorf("the same change: %v", err)
	}
	if err := w.host.Waiting(ctx, other); !errors.Is(err, ErrWaiting) {
		t.Errorf("error %v, wanted %v", err, ErrWaiting)
	}
	w.ring()
	if err := w.host.Waiting(ctx, other); err != nil {
		t.Errorf("after the clock has rung: %v", err)
	}
}
