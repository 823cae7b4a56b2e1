package transaction

import (
	"context"
	"fmt"

	"mobula/helper/internal/network"
	"mobula/helper/internal/spec"
	"mobula/helper/internal/store"
)

// staysIn reports that the NIC stays with the host in a change; where the change does not
// say it, as it is in the facts.
func staysIn(change *store.Change, facts *spec.Facts) bool {
	if change == nil || change.Document == nil {
		return facts.IsShared()
	}
	self, _ := change.Self()
	return self.SharedUplink
}

// sideOf returns the facts with those of the change's way outside first, if they are known.
func sideOf(change *store.Change, facts *spec.Facts) *spec.Facts {
	if in := facts.In(staysIn(change, facts)); in != nil {
		return in
	}
	return facts
}

// Known returns what is known of the host; nil: Mobula never changed it. The facts of its
// other way outside are with them only while a change waits, which may lead to it or
// away from it.
func (h *Host) Known() (*spec.Facts, error) {
	facts, err := h.Store.Facts()
	if err != nil || facts == nil || facts.Other == nil {
		return facts, err
	}
	pending, confirmed, err := h.changes()
	if err != nil || pending != nil {
		return facts, err
	}
	return sideOf(confirmed, facts).Alone(), nil
}

// ModeChanges refuses to have the NIC stay or move where it did not in the confirmed
// change, if another program made that: the way back to it is that program's, which may
// not know what to take away.
func (h *Host) ModeChanges(known *spec.Facts, shared bool) error {
	confirmed, err := h.Store.Confirmed()
	if err != nil || known == nil || known.In(shared) == known || confirmed == nil || confirmed.Helper == h.programs().Self() {
		return err
	}
	return fmt.Errorf("uplink_mode: found %s in use by another version of Mobula, wanted it as it is: deploy once with uplink_mode: %s, and then with %s",
		network.UplinkMode(!shared), network.UplinkMode(!shared), network.UplinkMode(shared))
}

// keep notes the facts, those of the confirmed change first: the way back may belong to a
// program that reads no others.
func (h *Host) keep(facts *spec.Facts) error {
	confirmed, err := h.Store.Confirmed()
	if err != nil {
		return err
	}
	return h.Store.SetFacts(sideOf(confirmed, facts))
}

// forgetOther forgets the way outside that the host had before the change that is
// confirmed now.
func (h *Host) forgetOther(context.Context) error {
	facts, err := h.Store.Facts()
	if err != nil || facts == nil || facts.Other == nil {
		return err
	}
	if facts, err = h.Known(); err != nil {
		return err
	}
	return h.Store.SetFacts(facts)
}

// facts returns what the host was, surveying it if Mobula has not changed it, or not to
// have the NIC where the change wants it.
func (h *Host) facts(ctx context.Context, change *store.Change) (*spec.Facts, error) {
	facts, err := h.Known()
	if err != nil {
		return nil, err
	}
	if change == nil || change.Document == nil {
		if facts == nil {
			return h.Survey(ctx, network.Ranges{}, network.Host{}, nil)
		}
		return h.withWays(facts, change), nil
	}
	self, ok := change.Self()
	if !ok {
		return nil, fmt.Errorf("host_id %d: not in the network document", change.HostID)
	}
	if facts == nil {
		return h.Survey(ctx, change.Document.Ranges, self, nil)
	}
	if err := h.ModeChanges(facts, self.SharedUplink); err != nil {
		return nil, err
	}
	if facts.In(self.SharedUplink) == nil {
		other, err := h.Survey(ctx, change.Document.Ranges, self, facts)
		if err != nil {
			return nil, err
		}
		return other.Beside(facts), nil
	}
	facts = facts.In(self.SharedUplink)
	return h.withWays(facts, change), facts.Suit(self)
}

// withWays returns the facts with the ways outside, and the resolvers of its own, that a
// host with its NIC has now, for that change.
func (h *Host) withWays(facts *spec.Facts, change *store.Change) *spec.Facts {
	if !facts.IsShared() {
		return facts
	}
	if h.Ways != nil {
		if now, err := h.Ways(); err != nil {
			h.Log.Warn("looking for ways outside", "error", err)
		} else {
			facts, _ = facts.WithWays(now)
		}
	}
	if h.ResolvConf != nil {
		var ranges network.Ranges
		if change != nil && change.Document != nil {
			ranges = change.Document.Ranges
		}
		if now, resolvers, err := h.ResolvConf(ranges); err != nil {
			h.Log.Warn("looking for resolvers", "error", err)
		} else {
			facts, _ = facts.WithResolver(now, resolvers)
		}
	}
	return facts
}

// keepWays notes ways outside, and resolvers, that the host has got since, before anything
// is done to them: they have to be given back.
func (h *Host) keepWays(facts *spec.Facts) error {
	kept, err := h.Known()
	if err != nil || kept == nil || !facts.IsShared() || kept.In(true) == nil {
		return err
	}
	_, ways := kept.In(true).WithWays(*facts.Shared)
	_, resolvers := kept.In(true).WithResolver(facts.ResolvConf, nil)
	if ways || resolvers {
		h.Log.Info("ways outside or resolvers are new", "outside", facts.Shared.Outside, "resolvers", facts.Resolvers)
		return h.keep(facts)
	}
	return nil
}
