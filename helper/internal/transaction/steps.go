package transaction

import (
	"context"
	"fmt"
	"slices"
	"time"

	"mobula/helper/internal/reconcile"
	"mobula/helper/internal/store"
)

// step is one thing that Apply or Confirm does. A change can be interrupted
// before each, by a kill or a power cut, and each may fail.
type step struct {
	name string
	do   func(context.Context) error
	// limit is that of an operation.
	limit time.Duration
}

// walk takes the steps one after the other, up to the first that fails.
func (h *Host) walk(ctx context.Context, steps []step) error {
	for _, s := range steps {
		if h.Before != nil {
			if err := h.Before(ctx, s.name); err != nil {
				return fmt.Errorf("before %q: %w", s.name, err)
			}
		}
		h.progressed(ctx, s.limit)
		if err := s.do(ctx); err != nil {
			return err
		}
		if s.limit > 0 { // the next one may not have as long
			h.progressed(ctx, 0)
		}
	}
	return nil
}

// Steps names all that Apply does to carry these operations out and Confirm to
// keep the change, in their order. Both walk through the same lists, and call
// Before with these names.
func (h *Host) Steps(change *store.Change, ops []reconcile.Operation) (apply, confirm []string) {
	t := &target{change: change}
	return names(append(h.beginning(t, Options{}), h.carryingOut(t, &reconcile.Reconciler{}, ops)...)), names(h.keeping(change))
}

func names(steps []step) []string {
	all := make([]string, len(steps))
	for i, s := range steps {
		all[i] = s.name
	}
	return all
}

// settle keeps the programs that the change and its way back need. A confirmed
// change of before programs had IDs gets the one of the program that runs it.
func (h *Host) settle(ctx context.Context) error {
	inForce, err := h.programs().Settle(ctx)
	if err != nil {
		return fmt.Errorf("keeping the programs: %w", err)
	}
	pending, confirmed, err := h.changes()
	if err != nil || confirmed == nil || pending != nil || inForce == "" || confirmed.Helper == inForce {
		return err // while a change waits, the program in force may be its own
	}
	confirmed.Helper = inForce
	return h.Store.SetConfirmed(confirmed)
}

// beginning starts the clock of the way back and notes the change, in this
// order: a clock without a noted change finds nothing to take back, a noted
// change without a clock would wait forever. The first change counts when the
// facts are there, too.
func (h *Host) beginning(t *target, o Options) []step {
	return []step{
		{name: "keep the programs", do: h.settle},
		{name: "start the rollback timer", do: func(ctx context.Context) error {
			if err := h.startClock(ctx, o.ConfirmTimeout); err != nil {
				return fmt.Errorf("starting the rollback timer: %w", err)
			}
			return nil
		}},
		{name: "note the change", do: func(context.Context) error { return h.Store.SetPending(t.change) }},
		{name: "note what the host was", do: func(context.Context) error { return h.keep(t.facts) }},
	}
}

// carryingOut is the change itself. Its end is noted only after a look at what
// came out of it.
func (h *Host) carryingOut(t *target, r *reconcile.Reconciler, ops []reconcile.Operation) []step {
	steps := []step{{name: "note the begin", do: func(context.Context) error { return h.setApplied(t.change, false) }}}
	left := false
	for i, op := range ops {
		one := ops[i : i+1]
		if op.Reconnects && !left {
			left = true
			steps = append(steps, step{name: "say that connections end", do: h.leaving})
		}
		steps = append(steps, step{name: op.String(), do: func(ctx context.Context) error { return r.Execute(ctx, one) }, limit: op.Limit})
	}
	return append(steps,
		step{name: "verify", do: func(ctx context.Context) error {
			left, err := r.Plan(ctx, t.want, t.want)
			// Relays follow the host's routing, and names are found where others say: both may
			// change at any time. What others have just written of names is repaired, by the
			// agent if it does not succeed here.
			changed := left
			left = slices.DeleteFunc(slices.Clone(left), func(op reconcile.Operation) bool {
				return op.Step == reconcile.StepRelays || op.Step == reconcile.StepNames
			})
			if err == nil && len(left) == 0 {
				names := slices.DeleteFunc(changed, func(op reconcile.Operation) bool { return op.Step != reconcile.StepNames })
				if err := r.Execute(ctx, names); err != nil {
					h.Log.Warn("somebody else changed where names are found", "error", err)
				}
			}
			if err == nil && len(left) > 0 {
				err = fmt.Errorf("%d differences are left, the first: %s", len(left), left[0])
			}
			if err != nil {
				return fmt.Errorf("verifying: %w", err)
			}
			return nil
		}},
		step{name: "note the end", do: func(context.Context) error { return h.setApplied(t.change, true) }})
}

// leaving lets whoever waits go before the NIC moves.
func (h *Host) leaving(ctx context.Context) error {
	if h.Leave == nil {
		return nil
	}
	return h.Leave(ctx)
}

// keeping makes the pending change the confirmed one. The clock stops when all that
// counts is done: should this hang, it ends it, and finds nothing to take back.
func (h *Host) keeping(pending *store.Change) []step {
	after := step{name: "forget other keys", do: func(context.Context) error { return h.prune(pending) }}
	if pending.Down { // if that fails, the clock tries again
		after = step{name: "leave the host", do: func(ctx context.Context) error { return h.finish(ctx, false) }}
	}
	return []step{
		{name: "keep the change", do: func(context.Context) error { return h.Store.Confirm() }},
		after,
		{name: "forget another way outside", do: h.forgetOther},
		{name: "cancel the rollback timer", do: func(ctx context.Context) error {
			if err := h.Alarm.Disarm(ctx); err != nil {
				h.Log.Warn("canceling the rollback timer", "error", err)
			}
			return nil
		}},
		{name: "forget other programs", do: func(context.Context) error { h.forgetPrograms(pending); return nil }},
	}
}
