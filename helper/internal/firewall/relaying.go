package firewall

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"

	"mobula/helper/internal/reconcile"
	"mobula/helper/internal/spec"
)

// Relaying is the hand for the table by which a host that keeps its NIC relays: at the
// interfaces' ingress, before the host's own firewall.
type Relaying struct {
	table  Firewall
	onward Onward
}

// Onward tells how a host would send on now.
type Onward func(*spec.Doorway) (*spec.Onward, error)

// NewRelaying returns the hand for it. runDir is that of New.
func NewRelaying(runDir string, onward Onward) *Relaying {
	return RelayingOn(program{}, runDir, onward)
}

// RelayingOn is NewRelaying with another nft.
func RelayingOn(nft NFT, runDir string, onward Onward) *Relaying {
	return &Relaying{onward: onward, table: Firewall{name: "relays", family: "netdev", program: nft, record: RelaysPath(runDir)}}
}

// RelaysPath is the file that changes whenever the table or the reason for none does.
func RelaysPath(runDir string) string { return filepath.Join(runDir, "relays.json") }

// Name implements reconcile.Subject.
func (r *Relaying) Name() string { return r.table.name }

// relaysBy reports that a plan has this host relay by this table.
func relaysBy(h *spec.Host) bool { return h.Doorway != nil && len(h.Doorway.Relays) > 0 }

// Diff implements reconcile.Subject. The ways on are those of the moment, so operations
// look once more: what they follow may come only with those before them, as a NIC does that
// returns to the host.
func (r *Relaying) Diff(ctx context.Context, want, previous *spec.Host) ([]reconcile.Operation, error) {
	known := r.table.onRecord()
	if !relaysBy(want) && previous != nil && !relaysBy(previous) && !known {
		return nil, nil
	}
	listing, err := r.table.list(ctx)
	if !relaysBy(want) {
		if errors.Is(err, exec.ErrNotFound) || err == nil && listing == "" && !known {
			return nil, nil
		}
		return []reconcile.Operation{{Step: reconcile.StepRelays, Verb: reconcile.Remove, Object: r.table.name, Do: r.table.remove}}, err
	}
	if err != nil {
		return nil, err
	}
	text, err := r.render(want.Doorway)
	if err != nil {
		return nil, err
	}
	op := reconcile.Operation{Step: reconcile.StepRelays, Verb: reconcile.Change, Object: r.table.name,
		Do: func(ctx context.Context) error { return r.load(ctx, want.Doorway) }}
	last := r.table.readRecord()
	switch {
	case !known, text != "" && last.Ruleset == "":
		op.Verb, op.Detail = reconcile.Add, "table netdev "+table
	case last.Ruleset != text && text == "":
		op.Detail = noWay
	case last.Ruleset != text:
		op.Detail = describe(last.Ruleset, text)
	case last.Unable != "" && listing == "":
		return nil, nil
	case listing == "":
		op.Verb, op.Detail = reconcile.Add, "table netdev "+table
	case last.Listing != hash(listing):
		op.Detail = "somebody else changed the rules; load them again"
	default:
		return nil, nil
	}
	return []reconcile.Operation{op}, nil
}

func (r *Relaying) render(d *spec.Doorway) (string, error) {
	onward, err := r.onward(d)
	if err != nil {
		return "", fmt.Errorf("the ways to other hosts: %w", err)
	}
	return RenderRelays(d, onward), nil
}

// load puts the table there, or notes why the host cannot have it: it is a good member
// without.
func (r *Relaying) load(ctx context.Context, d *spec.Doorway) error {
	onward, err := r.onward(d)
	if err != nil {
		return fmt.Errorf("the ways to other hosts: %w", err)
	}
	text := RenderRelays(d, onward)
	if text == "" {
		return r.without(ctx, text, noWay)
	}
	err = r.table.load(ctx, text)
	if err == nil {
		return nil
	}
	device := strconv.Quote(onward.Links[0].Name)
	if _, cannot := r.table.nft(ctx, fmt.Sprintf(smallest, device), "--check", "-f", "-"); cannot != nil && ctx.Err() == nil {
		return r.without(ctx, text, fmt.Sprintf("nftables cannot send on here: %v", cannot))
	}
	return err
}

// smallest is what a kernel and an nft(8) must know to relay: the family netdev, its hook,
// and the fwd statement (Linux 5.3 with CONFIG_NFT_FWD_NETDEV).
const smallest = "table netdev " + table + `_can {
	chain outside {
		type filter hook ingress devices = { %[1]s } priority filter; policy accept;
		fwd ip to ip daddr device %[1]s
	}
}
`

const noWay = "it has no way to another host"

// without leaves the host without the table.
func (r *Relaying) without(ctx context.Context, text, why string) error {
	if err := r.table.remove(ctx); err != nil {
		return err
	}
	return r.table.note(loaded{Ruleset: text, Unable: why})
}

// Unable returns why the host relays for nobody; "": it relays, or nothing was tried yet.
func (r *Relaying) Unable() string { return r.table.readRecord().Unable }

// Stale reports that the ways on are others than those that the table was made for.
func (r *Relaying) Stale(d *spec.Doorway) (bool, error) {
	text, err := r.render(d)
	return err == nil && (!r.table.onRecord() || r.table.readRecord().Ruleset != text), err
}
