package transaction

import (
	"context"
	"fmt"
	"slices"

	"mobula/helper/internal/plan"
	"mobula/helper/internal/reconcile"
	"mobula/helper/internal/spec"
	"mobula/helper/internal/store"
)

// changes returns the pending and the confirmed change; nil: none.
func (h *Host) changes() (pending, confirmed *store.Change, err error) {
	if pending, err = h.Store.Pending(); err == nil {
		confirmed, err = h.Store.Confirmed()
	}
	return pending, confirmed, err
}

// Confirm keeps the change that waits. generation, if not empty, must be its
// generation. Confirming what is confirmed already succeeds.
func (h *Host) Confirm(ctx context.Context, generation string) (*store.Change, error) {
	pending, confirmed, err := h.changes()
	switch {
	case err != nil:
		return nil, err
	case pending == nil && generation != confirmed.Generation():
		return nil, fmt.Errorf("no change waits for confirmation; the host has generation %s; if that is not yours, it was rolled back: apply it again, and confirm it in time", confirmed.Generation())
	case pending == nil && confirmed == nil:
		return &store.Change{Down: true}, nil
	case pending == nil:
		return confirmed, nil
	case generation != "" && pending.Generation() != generation:
		return nil, fmt.Errorf("generation %s waits for confirmation, not %s; without --generation it is confirmed, whatever it is, and 'mobula rollback' rolls it back", pending.Generation(), generation)
	case !finishing(pending, confirmed) && !h.carriedOut(pending):
		return nil, ErrUnfinished
	}
	return pending, h.walk(ctx, h.keeping(pending))
}

// prune deletes the keys that the confirmed change does not name.
func (h *Host) prune(confirmed *store.Change) error {
	self, ok := confirmed.Self()
	if !ok {
		return nil
	}
	return h.Store.Keys().Prune(self.Keys()...)
}

// forgetPrograms removes the programs that the only change left does not need. What
// cannot be removed goes with the next one.
func (h *Host) forgetPrograms(confirmed *store.Change) {
	if err := h.programs().Prune(confirmed.Helper); err != nil {
		h.Log.Warn("removing programs that nobody needs", "error", err)
	}
}

// maker returns the ID of the program whose business the confirmed change is; "": it
// is this one's. If that one cannot run this one stands in for it, with the plan
// that it makes itself of the change that is returned.
func (h *Host) maker(ctx context.Context, confirmed *store.Change) (other string, mine *store.Change) {
	if confirmed == nil || confirmed.Helper == "" || confirmed.Helper == h.programs().Self() {
		return "", confirmed
	}
	err := h.programs().Runs(ctx, confirmed.Helper)
	if err == nil {
		return confirmed.Helper, nil
	}
	h.Log.Error("the program that made what is confirmed cannot run; this one stands in for it", "error", err, "program", h.programs().Self())
	taken := *confirmed
	taken.Helper = h.programs().Self()
	return "", &taken
}

// finishing reports that a Down was confirmed and finish has not done its work.
func finishing(pending, confirmed *store.Change) bool {
	return confirmed == nil && pending != nil && pending.Down
}

// finish leaves nothing of a confirmed Down but the keys.
func (h *Host) finish(ctx context.Context, booting bool) error {
	facts, err := h.Known()
	if err != nil {
		return err
	}
	if facts != nil {
		if err := h.leave(ctx, facts, booting); err != nil {
			return err
		}
	}
	if err := h.setApplied(nil, true); err != nil {
		return err
	}
	return h.Store.Forget()
}

// leave removes what is left of Mobula on a host whose NIC is its own again. The
// NIC's addresses and routes are up to the host.
func (h *Host) leave(ctx context.Context, facts *spec.Facts, booting bool) error {
	return h.reconciler(facts, booting).Insist(ctx, plan.Left(*facts), nil)
}

// Rollback rolls the host back to the last confirmed change, or to what it was
// before the first one. Without a pending change it does nothing.
func (h *Host) Rollback(ctx context.Context) error {
	pending, confirmed, err := h.changes()
	switch {
	case err != nil:
		return err
	case pending == nil && confirmed == nil:
		return h.forgetNote()
	case pending == nil:
		return nil
	}
	if finishing(pending, confirmed) {
		return h.finish(ctx, false)
	}
	h.Log.Warn("rolling back", "from", pending.Generation(), "to", confirmed.Generation())
	kept := confirmed
	other, confirmed := h.maker(ctx, confirmed)
	if other != "" {
		if err := h.takeBackNews(ctx, kept); err != nil {
			h.Log.Warn("something that the other program does not know may be left", "error", err)
		}
		return h.programs().Yield(ctx, other, "rollback")
	}
	back, err := h.withMorePorts(ctx, confirmed)
	if err != nil {
		return fmt.Errorf("rolling back: %w", err)
	}
	t, err := h.aim(ctx, back)
	if err != nil {
		return fmt.Errorf("rolling back: %w", err)
	}
	if err := h.setApplied(nil, true); err != nil { // nothing can be taken as set now
		return fmt.Errorf("rolling back: %w", err)
	}
	if err := h.reconciler(t.facts, false).Insist(ctx, t.want, t.previous); err != nil {
		return fmt.Errorf("rolling back: %w", err)
	}
	if err := h.setApplied(back, true); err != nil {
		return err
	}
	return h.drop(ctx)
}

// takeBackNews takes away what the program that made the confirmed change may not know,
// before it takes back the rest.
func (h *Host) takeBackNews(ctx context.Context, confirmed *store.Change) error {
	t, err := h.aim(ctx, confirmed)
	if err != nil {
		return err
	}
	r := h.reconciler(t.facts, false)
	subjects := named(r.Subjects, []string{"links", "doorway", "openings", "names"})
	for _, system := range named(r.Subjects, []string{"system"}) {
		subjects = append(subjects, resolvConfOnly{system})
	}
	r.Subjects = subjects
	return r.Insist(ctx, t.want.OfVersionBefore(), t.previous)
}

// resolvConfOnly is of a subject what it does to the host's resolv.conf.
type resolvConfOnly struct{ reconcile.Subject }

func (s resolvConfOnly) Diff(ctx context.Context, want, previous *spec.Host) ([]reconcile.Operation, error) {
	ops, err := s.Subject.Diff(ctx, want, previous)
	return slices.DeleteFunc(ops, func(op reconcile.Operation) bool { return op.Object != "file "+spec.ResolvConfPath }), err
}

// drop forgets the pending change. If that fails, the clock tries again.
func (h *Host) drop(ctx context.Context) error {
	if err := h.Store.DropPending(); err != nil {
		return err
	}
	h.clock = clock{}
	return h.Alarm.Disarm(ctx)
}

// forgetNote removes the note of a first change that did not begin.
func (h *Host) forgetNote() error {
	facts, err := h.Store.Facts()
	if err != nil || facts != nil {
		return err
	}
	return h.Store.Forget()
}
