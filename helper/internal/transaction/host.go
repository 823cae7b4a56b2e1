// Package transaction changes a host safely: the rollback timer is started before the
// first change, a change counts only once it is confirmed, and boot builds what
// was confirmed last.
package transaction

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"mobula/helper/internal/network"
	"mobula/helper/internal/plan"
	"mobula/helper/internal/reconcile"
	"mobula/helper/internal/spec"
	"mobula/helper/internal/store"
)

// Programs are the versions of this program on the host, each known by an ID. What
// a change means is up to the program that made it: another version's plan for the
// same document is another one. So boot and the rollback belong to the program that
// made what is confirmed, and a repair to the one that made what runs.
type Programs interface {
	// Self returns the ID of this program.
	Self() string
	// Settle puts this program and the one in force, whose ID it returns, where they
	// are found later; "": none is in force.
	Settle(ctx context.Context) (inForce string, err error)
	// Runs returns why a program cannot run.
	Runs(ctx context.Context, id string) error
	// Yield has another program carry out a command, 'boot' or 'rollback', and
	// returns its error.
	Yield(ctx context.Context, id, command string) error
	// Prune removes all programs but this one and those.
	Prune(ids ...string) error
}

func (h *Host) programs() Programs {
	if h.Programs == nil {
		return onlyProgram{}
	}
	return h.Programs
}

// onlyProgram is the one program of a host that has no others.
type onlyProgram struct{}

func (onlyProgram) Self() string                           { return "" }
func (onlyProgram) Settle(context.Context) (string, error) { return "", nil }
func (onlyProgram) Runs(context.Context, string) error {
	return errors.New("there is no other program")
}
func (onlyProgram) Yield(context.Context, string, string) error {
	return errors.New("there is no other program")
}
func (onlyProgram) Prune(...string) error { return nil }

// Alarm rolls the host back after a while unless it is disarmed, whatever
// happens to the process that armed it.
type Alarm interface {
	Arm(ctx context.Context, after time.Duration) error
	Disarm(ctx context.Context) error
	// Armed reports that it will ring or rings.
	Armed(ctx context.Context) bool
}

// Host is a host with the ways to look at it and to change it.
type Host struct {
	Store *store.Store
	Alarm Alarm
	// Programs is nil where there is one alone, without an ID.
	Programs Programs
	// Survey finds what the host is before its first change, as far as a document with
	// these ranges needs it that says this of the host; known, if not nil, are the facts of the other
	// way outside, which the host has.
	Survey func(ctx context.Context, ranges network.Ranges, self network.Host, known *spec.Facts) (*spec.Facts, error)
	// Ways returns the ways outside of a host that keeps its NIC; nil: those of the facts.
	Ways func() (spec.Shared, error)
	// ResolvConf returns /etc/resolv.conf as it is now, and the resolvers in it outside of
	// these ranges, of a host that keeps its NIC; nil: that of the facts.
	ResolvConf func(ranges network.Ranges) (spec.File, []netip.Addr, error)
	// SSHPorts returns the ports on which SSH answers now, in a network of these ranges.
	SSHPorts func(ctx context.Context, ranges network.Ranges) ([]uint16, error)
	// Reconciler returns the hands of a host with these facts.
	Reconciler func(facts *spec.Facts, booting bool) *reconcile.Reconciler
	// Run is a store that a reboot empties.
	Run *store.Store
	Log *slog.Logger
	// Before, if not nil, is called with the name of each step of Apply and Confirm
	// before it is taken; its error stops the change.
	Before func(ctx context.Context, step string) error
	// Progress, if not nil, is called whenever something got done, with how long the next
	// thing may take where that grows with the network; 0: as long as anything.
	Progress func(next time.Duration)
	// Now is the time; nil: time.Now.
	Now func() time.Time
	// Leave, if not nil, is called before the first operation that ends SSH
	// connections; its error stops the change.
	Leave func(ctx context.Context) error

	clock clock
}

// target is where a change leads and where it starts.
type target struct {
	change         *store.Change
	facts          *spec.Facts
	want, previous *spec.Host
}

// aim computes where change leads, nil being a host without Mobula, and what
// stands as far as Mobula put it there.
func (h *Host) aim(ctx context.Context, change *store.Change) (*target, error) {
	facts, err := h.facts(ctx, change)
	if err != nil {
		return nil, err
	}
	t := &target{change: change, facts: facts}
	if t.want, err = build(change, facts); err != nil {
		return nil, err
	}
	t.previous, err = h.previous(facts)
	return t, err
}

// previous returns what stands. While a change waits that may be of either of
// its sides.
func (h *Host) previous(facts *spec.Facts) (*spec.Host, error) {
	pending, confirmed, err := h.changes()
	if err != nil {
		return nil, err
	}
	if pending == nil {
		running, err := h.Running()
		if err != nil || running == nil {
			return nil, err
		}
		return buildAlone(running, facts)
	}
	before, err := buildAlone(confirmed, facts)
	if err != nil {
		return nil, fmt.Errorf("what is confirmed: %w", err)
	}
	if facts.In(staysIn(pending, facts)) == nil {
		return before, nil // it was noted and no more
	}
	tried, err := buildAlone(pending, facts)
	if err != nil {
		return nil, fmt.Errorf("what waits for confirmation: %w", err)
	}
	return either(before, tried), nil
}

// build returns what a change makes of the host, without what is left of another way
// outside where the facts are alone.
func build(change *store.Change, facts *spec.Facts) (*spec.Host, error) {
	switch {
	case change == nil:
		return plan.Without(*facts), nil
	case change.Document == nil:
		return plan.Leaving(*facts), nil
	}
	known := *facts
	if change.SSHPorts != nil {
		known.SSHPorts = change.SSHPorts
	}
	known.Program = spec.ProgramPath(change.Helper)
	return plan.Build(change.Document, change.HostID, known)
}

// buildAlone returns what a change made of the host, with nothing of the other way
// outside: what stands was put there for one of them.
func buildAlone(change *store.Change, facts *spec.Facts) (*spec.Host, error) {
	return build(change, sideOf(change, facts).Alone())
}

// either returns what may stand after a change from a to b was interrupted, as
// far as Diff asks for it.
func either(a, b *spec.Host) *spec.Host {
	both := &spec.Host{
		Addresses: append(append([]spec.Address{}, a.Addresses...), b.Addresses...),
		Routes:    append(append([]spec.Route{}, a.Routes...), b.Routes...),
		Neighbors: append(append([]spec.Neighbor{}, a.Neighbors...), b.Neighbors...),
		WireGuard: &spec.WireGuard{}, Switch: b.Switch, Doorway: a.Doorway,
	}
	if both.Doorway == nil {
		both.Doorway = b.Doorway
	}
	at := map[network.Key]int{}
	for _, h := range []*spec.Host{a, b} {
		if h.WireGuard == nil {
			continue
		}
		for _, p := range h.WireGuard.Peers {
			i, known := at[p.PublicKey]
			if !known {
				at[p.PublicKey] = len(both.WireGuard.Peers)
				both.WireGuard.Peers = append(both.WireGuard.Peers, p)
			} else if both.WireGuard.Peers[i].Endpoint != p.Endpoint {
				both.WireGuard.Peers[i].Endpoint = spec.AnyEndpoint
			}
		}
	}
	return both
}

// applied returns nil if nothing can be taken as set.
func (h *Host) applied() *store.Applied {
	a, err := h.Run.Applied()
	if err != nil {
		h.Log.Warn("reading what was applied last", "error", err)
		return nil
	}
	return a
}

// setApplied notes what the host was given; nil: Mobula is not on it.
func (h *Host) setApplied(change *store.Change, complete bool) error {
	if change == nil {
		return h.Run.SetApplied(nil)
	}
	return h.Run.SetApplied(&store.Applied{Change: *change, Complete: complete})
}

// Changing reports that a change is carried out, or was interrupted.
func (h *Host) Changing() bool {
	a := h.applied()
	return a != nil && !a.Complete
}

// carriedOut reports whether change is what was applied last, to the end.
func (h *Host) carriedOut(change *store.Change) bool {
	a := h.applied()
	return a != nil && a.Complete && a.Same(change)
}

// Running returns the change that the host has now: the last one that was
// applied to the end since boot; nil if there is none.
func (h *Host) Running() (*store.Change, error) {
	a := h.applied()
	if a == nil || !a.Complete || a.Down {
		return nil, nil
	}
	return &a.Change, nil
}
