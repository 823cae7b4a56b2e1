package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sort"
	"time"

	"mobula/helper/internal/spec"
)

// Reconciler brings all subjects of a host to what is wanted.
type Reconciler struct {
	Subjects []Subject
	Log      *slog.Logger
	// Progress, if not nil, is called before each thing that is looked at or done, so
	// after each one that got done, with the limit of an operation; 0: it has none.
	Progress func(ctx context.Context, limit time.Duration)
}

func (r *Reconciler) progress(ctx context.Context, limit time.Duration) {
	if r.Progress != nil {
		r.Progress(ctx, limit)
	}
}

// Plan returns what differs, in the order in which it has to be done: additions
// and changes from the first step to the last, then removals backwards. It
// changes nothing.
func (r *Reconciler) Plan(ctx context.Context, want, previous *spec.Host) ([]Operation, error) {
	ops, err := r.look(ctx, want, previous)
	if err != nil {
		return nil, err
	}
	return ops, nil
}

// look returns what differs as far as it can be seen, and what cannot.
func (r *Reconciler) look(ctx context.Context, want, previous *spec.Host) ([]Operation, error) {
	var ops []Operation
	var blind error
	for _, s := range r.Subjects {
		r.progress(ctx, 0)
		some, err := s.Diff(ctx, want, previous)
		if err != nil {
			blind = errors.Join(blind, fmt.Errorf("looking at %s: %w", s.Name(), err))
			continue
		}
		ops = append(ops, some...)
	}
	return inOrder(ops), blind
}

func inOrder(ops []Operation) []Operation {
	var forward, backward []Operation
	for _, op := range ops {
		if op.Verb == Remove {
			backward = append(backward, op)
		} else {
			forward = append(forward, op)
		}
	}
	sort.SliceStable(forward, func(i, j int) bool { return forward[i].Step < forward[j].Step })
	for i, j := 0, len(backward)-1; i < j; i, j = i+1, j-1 {
		backward[i], backward[j] = backward[j], backward[i]
	}
	sort.SliceStable(backward, func(i, j int) bool { return backward[i].Step > backward[j].Step })
	return append(forward, backward...)
}

// Execute carries the operations out and stops at the first that fails.
func (r *Reconciler) Execute(ctx context.Context, ops []Operation) error {
	for _, op := range ops {
		r.progress(ctx, op.Limit)
		r.Log.Info("change", "operation", op.String())
		if err := op.Do(ctx); err != nil {
			return fmt.Errorf("%s: %w", op, err)
		}
	}
	return nil
}

// passes bounds how often Insist tries.
const passes = 3

// Insist brings the host to what is wanted whatever fails on the way: a subject
// that cannot be looked at and an operation that fails do not stop the others,
// and what is left is tried again. It returns what still differs at the end.
func (r *Reconciler) Insist(ctx context.Context, want, previous *spec.Host) error {
	var failed error
	for pass := 0; ; pass++ {
		ops, blind := r.look(ctx, want, previous)
		if len(ops) == 0 && blind == nil {
			return nil
		}
		if pass == passes {
			return errors.Join(blind, left(ops), failed)
		}
		failed = r.try(ctx, ops, pass == 0)
		if blind == nil && failed == nil {
			previous = want // what moves from now on moves on purpose
		}
	}
}

// try carries out what it can. A careful one removes nothing when something that
// may have to take its place failed.
func (r *Reconciler) try(ctx context.Context, ops []Operation, careful bool) error {
	var failed error
	for _, op := range ops {
		if careful && failed != nil && op.Verb == Remove {
			break
		}
		r.progress(ctx, op.Limit)
		r.Log.Info("change", "operation", op.String())
		if err := op.Do(ctx); err != nil {
			r.Log.Warn("change failed", "operation", op.String(), "error", err)
			failed = errors.Join(failed, fmt.Errorf("%s: %w", op, err))
		}
	}
	return failed
}

func left(ops []Operation) error {
	var err error
	for _, op := range ops {
		err = errors.Join(err, fmt.Errorf("still to do: %s", op))
	}
	return err
}

// Interrupted returns how many peers lose packets while the operations run.
func Interrupted(ops []Operation) int {
	n := 0
	for _, op := range ops {
		n += op.Interrupts
	}
	return n
}
