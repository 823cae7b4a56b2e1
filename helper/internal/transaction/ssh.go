package transaction

import (
	"context"

	"mobula/helper/internal/store"
)

// Whoever sees a published port may be on the way in through it. So a port goes in a
// change only, which has to be confirmed; everything else adds ports, and what nobody
// can tell stays as it was.

// publishes reports that the gateway stands before the host's SSH.
func publishes(change *store.Change) bool {
	if change == nil || change.Document == nil {
		return false
	}
	self, _ := change.Self()
	return !self.SharedUplink
}

// published returns the SSH ports that a change publishes.
func (h *Host) published(change *store.Change) ([]uint16, error) {
	if change != nil && change.SSHPorts != nil {
		return change.SSHPorts, nil
	}
	facts, err := h.Known()
	if err != nil || facts == nil || facts.In(false) == nil {
		return nil, err
	}
	return facts.In(false).SSHPorts, nil
}

// withPortsOfNow returns a new change that publishes the ports on which SSH answers
// now. If nobody can tell them all, those that are published already stay, too.
func (h *Host) withPortsOfNow(ctx context.Context, change *store.Change) (*store.Change, error) {
	if !publishes(change) {
		return change, nil
	}
	ports, err := h.SSHPorts(ctx, change.Document.Ranges)
	if err != nil {
		confirmed, storeErr := h.Store.Confirmed()
		if storeErr != nil {
			return nil, storeErr
		}
		known, storeErr := h.published(confirmed)
		ports = union(known, ports)
		if storeErr != nil || len(ports) == 0 { // the survey says why
			return change, storeErr
		}
		h.Log.Warn("the ports of SSH stay as they are", "ports", ports, "error", err)
	}
	return withPorts(change, ports), nil
}

// withMorePorts returns a change that stands, and publishes the ports on which SSH
// answers now, too.
func (h *Host) withMorePorts(ctx context.Context, change *store.Change) (*store.Change, error) {
	if !publishes(change) {
		return change, nil
	}
	ports, err := h.published(change)
	if err != nil {
		return nil, err
	}
	now, err := h.SSHPorts(ctx, change.Document.Ranges)
	if err != nil {
		h.Log.Warn("the ports of SSH stay as they are", "ports", ports, "error", err)
	}
	return withPorts(change, union(ports, now)), nil
}

// keepPorts notes the ports that running publishes: for what comes next, and for the
// next boot, if the running change is the confirmed one.
func (h *Host) keepPorts(running *store.Change) error {
	if !publishes(running) {
		return nil
	}
	if a := h.applied(); a != nil && len(a.SSHPorts) < len(running.SSHPorts) {
		if err := h.setApplied(running, true); err != nil {
			return err
		}
	}
	pending, confirmed, err := h.changes()
	if err != nil || pending != nil || confirmed == nil || !confirmed.Same(running) {
		return err
	}
	known, err := h.published(confirmed)
	if all := union(known, running.SSHPorts); err == nil && len(all) > len(known) {
		err = h.Store.SetConfirmed(withPorts(confirmed, all))
	}
	return err
}

func withPorts(change *store.Change, ports []uint16) *store.Change {
	with := *change
	with.SSHPorts = ports
	return &with
}

// union returns the ports of some and then what more has besides.
func union(some, more []uint16) []uint16 {
	all := append([]uint16{}, some...)
	seen := map[uint16]bool{}
	for _, p := range some {
		seen[p] = true
	}
	for _, p := range more {
		if !seen[p] {
			seen[p] = true
			all = append(all, p)
		}
	}
	return all
}
