package transaction

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"mobula/helper/internal/plan"
	"mobula/helper/internal/reconcile"
	"mobula/helper/internal/spec"
	"mobula/helper/internal/store"
)

// nicTimeout bounds how long a boot keeps the rest of the host waiting for the NIC.
const nicTimeout = 30 * time.Second

// ErrBeginAgain is the error of a boot that got nowhere and may get further when it
// is begun again: there is no NIC yet, or it was stopped.
var ErrBeginAgain = errors.New("to be begun again")

// Boot builds the last confirmed change from local state. A change that was not
// confirmed before the host went down is dropped; a host without any confirmed
// one is freed of what the dropped one left. If the network cannot be built the
// NIC goes back to the host, so that the operator gets in. It is late if the host
// has gone on booting without it.
func (h *Host) Boot(ctx context.Context, late bool, find func(*spec.Facts) (name string, card net.HardwareAddr, found bool)) error {
	facts, err := h.Known()
	if err != nil || facts == nil {
		return err // Mobula never changed this host
	}
	if late && h.Alarm.Armed(ctx) {
		return nil // somebody changes the host since; that has a way back of its own
	}
	confirmed, err := h.Store.Confirmed()
	other, confirmed := h.maker(ctx, confirmed)
	if other != "" {
		return h.programs().Yield(ctx, other, "boot")
	}
	if pending, err := h.Store.Pending(); err != nil || pending != nil {
		h.Log.Warn("dropping a change that was not confirmed", "generation", pending.Generation(), "error", err)
	}
	if facts = sideOf(confirmed, facts); facts.IsShared() {
		late = false // nothing waits for it
	} else {
		late = late || facts.Other != nil // nothing waited for the boot of that
		var missing error
		if facts, missing = h.waitForNIC(ctx, facts, find); missing != nil {
			return missing
		}
	}
	facts = facts.AtBoot(!late)
	if err == nil && confirmed == nil {
		return h.free(ctx, facts, late)
	}
	if err == nil {
		err = h.build(ctx, confirmed, h.withWays(facts, confirmed), late)
	}
	if err != nil {
		h.Log.Error("the network cannot be built; the host goes back to its own", "error", err)
		if door := h.reconciler(facts, !late).Insist(ctx, openDoor(facts), nil); door != nil {
			return fmt.Errorf("%w: %w", ErrBeginAgain, errors.Join(err, door))
		}
		if facts.IsShared() && errors.Is(err, syscall.EADDRINUSE) { // a client has WireGuard's port, as a resolver may
			err = fmt.Errorf("%w: %w", ErrBeginAgain, err)
		}
		return errors.Join(err, h.Store.DropPending())
	}
	return errors.Join(h.setApplied(confirmed, true), h.Store.DropPending())
}

// free takes Mobula off a host without a confirmed change. Of a NIC that comes late
// the host's network manager has not known, so its addresses and routes are put
// there.
func (h *Host) free(ctx context.Context, facts *spec.Facts, late bool) error {
	if late {
		if err := h.reconciler(facts, false).Insist(ctx, plan.Leaving(*facts), nil); err != nil {
			return fmt.Errorf("%w: %w", ErrBeginAgain, err)
		}
	}
	return h.finish(ctx, !late)
}

func (h *Host) build(ctx context.Context, confirmed *store.Change, facts *spec.Facts, late bool) error {
	want, err := build(confirmed, facts)
	if err == nil {
		err = h.keepWays(facts)
	}
	if err != nil {
		return err
	}
	return h.reconciler(facts, !late).Insist(ctx, want, nil)
}

// openDoor is the NIC with its addresses and routes in the host's namespace,
// and Mobula's files left in place: the next boot tries again.
func openDoor(facts *spec.Facts) *spec.Host {
	want := plan.Without(*facts)
	want.Keep = spec.OwnedFiles(facts.NICThatMoves())
	return want
}

// waitForNIC returns the facts with what the NIC is now: a kernel may name it in
// another way, and another card may have its place.
func (h *Host) waitForNIC(ctx context.Context, facts *spec.Facts, find func(*spec.Facts) (string, net.HardwareAddr, bool)) (*spec.Facts, error) {
	ctx, cancel := context.WithTimeout(ctx, nicTimeout)
	defer cancel()
	for {
		name, card, found := find(facts)
		if now, changed := facts.Recognized(name, card); found && changed {
			h.Log.Warn("the NIC is not what it was", "was", facts.Uplink, "is", name, "address", card.String())
			if err := h.keep(now); err != nil { // the next boot finds it once more
				h.Log.Warn("what the NIC is cannot be noted", "error", err)
			}
			return now, nil
		} else if found {
			return facts, nil
		}
		select {
		case <-ctx.Done():
			return facts, fmt.Errorf("uplink %s: did not appear within %v: %w", facts.Uplink, nicTimeout, ErrBeginAgain)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// Differences returns what somebody else changed on the running host.
func (h *Host) Differences(ctx context.Context) ([]reconcile.Operation, error) {
	t, err := h.runningTarget(ctx, true)
	if err != nil || t == nil {
		return nil, err
	}
	return h.reconciler(t.facts, false).Plan(ctx, t.want, t.want)
}

// runningTarget asks for the ports of SSH only where it has the time.
func (h *Host) runningTarget(ctx context.Context, askSSH bool) (*target, error) {
	running, err := h.Running()
	if err != nil || running == nil {
		return nil, err
	}
	if askSSH {
		if running, err = h.withMorePorts(ctx, running); err != nil {
			return nil, err
		}
	}
	return h.aim(ctx, running)
}

// Repair brings the running host back to what it was given, if something else
// changed it. It returns what it did. If subjects are named, the others are not
// even looked at. The agent's own service is left to systemd, which starts it
// again: a new helper is taken up by Apply, not here.
func (h *Host) Repair(ctx context.Context, subjects ...string) ([]string, error) {
	t, err := h.runningTarget(ctx, len(subjects) == 0)
	if err != nil || t == nil {
		return nil, err
	}
	if t.change.Helper != h.programs().Self() {
		h.Log.Warn("nothing is repaired: another program made what runs", "wanted", t.change.Helper, "found", h.programs().Self())
		return nil, nil
	}
	if err := errors.Join(h.keepPorts(t.change), h.keepWays(t.facts)); err != nil {
		return nil, err
	}
	r := h.reconciler(t.facts, true)
	if len(subjects) > 0 {
		r.Subjects = named(r.Subjects, subjects)
	}
	ops, err := r.Plan(ctx, t.want, t.want)
	if err != nil || len(ops) == 0 {
		return nil, err
	}
	done := make([]string, len(ops))
	for i, op := range ops {
		done[i] = op.String()
	}
	return done, r.Insist(ctx, t.want, t.want)
}

// named returns the subjects with the given names.
func named(all []reconcile.Subject, names []string) []reconcile.Subject {
	var some []reconcile.Subject
	for _, s := range all {
		for _, name := range names {
			if s.Name() == name {
				some = append(some, s)
			}
		}
	}
	return some
}
