package transaction

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"mobula/helper/internal/network"
	"mobula/helper/internal/plan"
	"mobula/helper/internal/reconcile"
	"mobula/helper/internal/spec"
	"mobula/helper/internal/store"
)

// Options of a change.
type Options struct {
	// ConfirmTimeout is how long the change may stay unconfirmed.
	ConfirmTimeout time.Duration
	// AllowOlder permits a document that is older than the running one.
	AllowOlder bool
	// AllowAlone permits a document without peers where there were some.
	AllowAlone bool
	// Rebuild takes everything down before building it again.
	Rebuild bool
}

// Plan is what a change would do to the host as it was seen.
type Plan struct {
	Operations []reconcile.Operation
	target     *target
}

// Plan returns what a change would do, and does nothing.
func (h *Host) Plan(ctx context.Context, change *store.Change, o Options) (*Plan, error) {
	if err := h.check(change, o); err != nil {
		return nil, err
	}
	return h.plan(ctx, change, o)
}

func (h *Host) plan(ctx context.Context, change *store.Change, o Options) (*Plan, error) {
	change, err := h.withPortsOfNow(ctx, change)
	if err != nil {
		return nil, err
	}
	t, err := h.aim(ctx, change)
	if err != nil {
		return nil, err
	}
	ops, err := h.operations(ctx, t, o)
	return &Plan{ops, t}, err
}

// Keep confirms a change at once that makes no difference to the host, as its plan has just
// said. Nothing may have changed the host since.
func (h *Host) Keep(ctx context.Context, p *Plan) error {
	if len(p.Operations) > 0 {
		return fmt.Errorf("found %d operations to carry out, wanted none", len(p.Operations))
	}
	if p.target.change.Down {
		if pending, confirmed, err := h.changes(); err != nil || pending == nil && confirmed == nil {
			return err // Mobula is not on this host
		}
	}
	return h.note(ctx, p.target.change)
}

func (h *Host) operations(ctx context.Context, t *target, o Options) ([]reconcile.Operation, error) {
	ops, err := h.reconciler(t.facts, false).Plan(ctx, t.want, t.previous)
	if err == nil && o.Rebuild && t.previous != nil {
		ops = append([]reconcile.Operation{{Verb: reconcile.Change, Object: "everything", Detail: "is taken down and built again",
			Interrupts: peers(t.want), Reconnects: true, Do: func(ctx context.Context) error { return h.rebuild(ctx, t) }}}, ops...)
	}
	return ops, err
}

func peers(h *spec.Host) int {
	if h.WireGuard == nil {
		return 0
	}
	return len(h.WireGuard.Peers)
}

// rebuild takes everything down and brings it up again. The units stay, so that
// after a power cut the host boots what it has confirmed.
func (h *Host) rebuild(ctx context.Context, t *target) error {
	r := h.reconciler(t.facts, false)
	if err := r.Insist(ctx, plan.Leaving(*t.facts), t.previous); err != nil {
		return err
	}
	return r.Insist(ctx, t.want, nil)
}

// check refuses documents that would break a running network.
func (h *Host) check(change *store.Change, o Options) error {
	if change.Down {
		return nil
	}
	if self := h.programs().Self(); change.Helper != self {
		return fmt.Errorf("helper: found a change by the program %s, wanted one by this one, %s", change.Helper, self)
	}
	self, ok := change.Self()
	if !ok {
		return fmt.Errorf("host_id %d: not in the network document; name the one of this host with --host-id, or copy the document of the last deploy once more", change.HostID)
	}
	if _, err := h.Store.Keys().PrivateKey(self.PublicKey); err != nil {
		return fmt.Errorf("host_id %d: %w; name the one of this host with --host-id; if it is, deploy: that takes the key that the host has ('mobula key')", change.HostID, err)
	}
	confirmed, err := h.Store.Confirmed()
	if err != nil || confirmed == nil || confirmed.Document == nil {
		return err
	}
	old := confirmed.Document
	if change.Document.Serial < old.Serial && change.Generation() != confirmed.Generation() && !o.AllowOlder {
		return fmt.Errorf("serial: found %d, wanted at least that of the running generation %s, %d; --allow-older takes it anyway",
			change.Document.Serial, confirmed.Generation(), old.Serial)
	}
	if err := SameRanges(old.Ranges, change.Document.Ranges); err != nil {
		return err
	}
	if err := readable(confirmed, change); err != nil {
		return err
	}
	if err := keysMissing(old, change.Document, change.HostID); err != nil {
		return err
	}
	if others(change.Document, change.HostID) == 0 && others(old, confirmed.HostID) > 0 && !o.AllowAlone {
		return fmt.Errorf("hosts: found no other host in the document, wanted some of the %d that there are now; --allow-alone takes it anyway", others(old, confirmed.HostID))
	}
	return nil
}

// readable refuses the first hosts without an endpoint of IPv4 in a document together with another
// version of the program: the way back is that one's, which may not be able to read what waits.
func readable(confirmed, change *store.Change) error {
	first := func(d *network.Document) string {
		for _, h := range d.Hosts {
			if !h.Endpoint.IsValid() {
				return h.Name
			}
		}
		return ""
	}
	name := first(change.Document)
	if name == "" || confirmed.Helper == change.Helper || first(confirmed.Document) != "" {
		return nil
	}
	return fmt.Errorf("endpoint: found none of IPv4 of %s, and another version of Mobula in use, which may not know that, wanted one after the other: "+
		"deploy once without this host or with an endpoint of IPv4, and then as it is", name)
}

// SameRanges refuses to give a host addresses in other ranges than those that it has:
// every address of it and of its peers would be another one, and the hosts would be apart
// until the last one had changed.
func SameRanges(old, new network.Ranges) error {
	if old == new {
		return nil
	}
	return fmt.Errorf("wire_network and access_network: found %s, wanted %s, which this host has: addresses in use do not change; "+
		"to have others, uninstall all hosts first (playbooks/uninstall.yml)", new, old)
}

// keysMissing refuses a document in which a host is still wanted and has no key any
// more, though it has one in the running document: whoever compiled it did not know
// the key, and the host would be cut off.
func keysMissing(old, new *network.Document, self uint16) error {
	peers := map[uint16]bool{}
	names := map[string]bool{}
	for _, host := range old.Hosts {
		if host.ID != self && !host.PublicKey.IsZero() {
			peers[host.ID], names[host.Name] = true, true
		}
	}
	var missing []string
	for _, host := range new.Hosts {
		if host.PublicKey.IsZero() && (peers[host.ID] || names[host.Name]) {
			missing = append(missing, host.Name)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	const most = 10
	list := strings.Join(missing[:min(len(missing), most)], ", ")
	if len(missing) > most {
		list += fmt.Sprintf(" and %d more", len(missing)-most)
	}
	return fmt.Errorf("keys: found none in the document for %s, to which this host is connected and which would be cut off, wanted theirs: "+
		"deploy them in the same run (without --limit), or bring wireguard_pubkeys.yml from where you deployed last, or take them out of the inventory if they are to go", list)
}

func others(d *network.Document, self uint16) int {
	n := 0
	for _, host := range d.Hosts {
		if host.ID != self && !host.PublicKey.IsZero() {
			n++
		}
	}
	return n
}

// ErrUnfinished is returned by Confirm while the change is still carried out.
var ErrUnfinished = errors.New("the change is not carried out to its end yet; try again in a second")

// ErrWaiting is returned while another change waits for confirmation.
var ErrWaiting = errors.New("another change waits for confirmation")

// Waiting returns ErrWaiting if another change than this one waits for
// confirmation.
func (h *Host) Waiting(ctx context.Context, change *store.Change) error {
	pending, confirmed, err := h.changes()
	if err != nil || pending == nil || finishing(pending, confirmed) || pending.Same(change) || !h.Alarm.Armed(ctx) {
		return err
	}
	return fmt.Errorf("%w: generation %s; 'mobula confirm' keeps that, 'mobula rollback' rolls it back", ErrWaiting, pending.Generation())
}

// Apply carries a change out and leaves it waiting for confirmation. It returns
// what it did, nothing if nothing differed; then the change is confirmed at
// once. If anything fails, the host is rolled back to what it was.
func (h *Host) Apply(ctx context.Context, change *store.Change, o Options) ([]reconcile.Operation, error) {
	if err := h.check(change, o); err != nil {
		return nil, err
	}
	if err := h.Waiting(ctx, change); err != nil {
		return nil, err
	}
	pending, confirmed, err := h.changes()
	if err != nil {
		return nil, err
	}
	if finishing(pending, confirmed) || pending != nil && !pending.Same(change) {
		// Nobody waits any more: power was cut before the host knew what to do when
		// it boots, or while it noted the end of what it did.
		if err := h.Rollback(ctx); err != nil {
			return nil, err
		}
		pending = nil
	}
	if pending == nil && confirmed == nil && change.Down {
		return nil, nil // Mobula is not on this host
	}
	p, err := h.plan(ctx, change, o)
	if err != nil {
		return nil, err
	}
	ops, t := p.Operations, p.target
	if len(ops) == 0 && pending == nil {
		return nil, h.note(ctx, t.change)
	}
	if err := h.arm(ctx, t, o, pending == nil); err != nil {
		return nil, err
	}
	if err := h.walk(ctx, h.carryingOut(t, h.reconciler(t.facts, false), ops)); err != nil {
		return ops, errors.Join(fmt.Errorf("the change failed: %w", err), h.Rollback(context.WithoutCancel(ctx)))
	}
	h.carriedOutNow(ctx)
	return ops, nil
}

// note keeps a change that makes no difference to this host.
func (h *Host) note(ctx context.Context, change *store.Change) error {
	if change.Down {
		if err := h.Store.SetPending(change); err != nil {
			return err
		}
		if err := h.Store.Confirm(); err != nil {
			return err
		}
		return h.finish(ctx, false)
	}
	if err := h.Store.SetConfirmed(change); err != nil {
		return err
	}
	h.forgetPrograms(change)
	return errors.Join(h.setApplied(change, true), h.prune(change))
}

// arm begins a change, or leaves everything as it was.
func (h *Host) arm(ctx context.Context, t *target, o Options, first bool) error {
	err := h.walk(ctx, h.beginning(t, o))
	switch {
	case err == nil:
		return nil
	case !first: // it was begun before and may have lost its clock
		return errors.Join(err, h.Rollback(context.WithoutCancel(ctx)))
	}
	return errors.Join(err, h.drop(context.WithoutCancel(ctx)))
}
