package healing

import (
	"encoding/hex"
	"errors"
	"time"

	"mobula/helper/internal/network"
	"mobula/helper/internal/paths"
	"mobula/helper/internal/plan"
	"mobula/helper/internal/probe"
	"mobula/helper/internal/store"
)

// Follow takes over another document.
func (h *Healer) Follow(running *store.Change) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.change == running {
		return nil
	}
	generation := running.Generation()
	self, ok := running.Self()
	if !ok {
		return errors.New("this host is not in the document")
	}
	var own []network.Key
	for _, public := range self.Keys() {
		private, err := h.PrivateKey(public)
		switch {
		case err == nil:
			own = append(own, private)
		case public == self.PublicKey:
			return err
		}
	}
	h.change, h.generation, h.own, h.self, h.mtus = running, generation, own, self, running.Document.MTUs()
	h.hasIPv6 = running.Document.HasIPv6()
	h.ranges, h.insiders = running.Document.Ranges, insidersOf(running.Document)
	h.followed = time.Now()
	if b, err := hex.DecodeString(generation); err == nil && len(b) == len(h.number) {
		h.number = probe.Generation(b)
	}
	old, turns := h.peers, h.turns
	h.peers, h.byKey, h.turns = map[uint16]*remote{}, map[network.Key]uint16{}, map[uint16]turn{}
	var all []paths.Peer
	relays := running.Document.Relays()
	for _, host := range running.Document.Hosts {
		if host.ID == self.ID || host.PublicKey.IsZero() {
			continue
		}
		r := old[host.ID]
		if r == nil || !haveOneKeyInCommon(r.host, host) {
			r = &remote{}
		}
		if h.below6 == nil {
			host = host.IPv4Only()
		}
		r.host, r.secrets, r.shaking.leads = host, nil, 0
		h.peers[host.ID] = r
		for _, key := range host.Keys() {
			h.byKey[key] = host.ID
		}
		if !host.AlsoKey.IsZero() {
			h.turns[host.ID] = turns[host.ID]
		}
		all = append(all, paths.Peer{ID: host.ID, Endpoint: host.Endpoint, Others: host.OtherPlaces(), NoRelay: !relays[host.ID]})
	}
	h.engine.SetPeers(h.now(), paths.Config{Self: self.ID, Relays: h.relays(), Exact: self.SharedUplink, Local: h.local, From6: h.from6}, all)
	h.announceAnew()
	h.followNamed()
	h.tellCarrier()
	h.observe = true
	wake(h.poke)
	if len(h.turns) > 0 {
		wake(h.rotates)
	}
	return nil
}

// SetUnable has a host that keeps its NIC relay for nobody, or for others again.
func (h *Healer) SetUnable(unable bool) {
	if h == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if unable = unable && h.self.SharedUplink; unable != h.unable {
		h.unable = unable
		h.engine.SetRelays(h.relays())
	}
}

// relays are the hosts that this one forwards to.
func (h *Healer) relays() map[uint16]bool {
	all := map[uint16]bool{}
	if !h.unable {
		for _, r := range plan.Relays(h.change.Document, h.self.ID) {
			all[r.HostID] = true
		}
	}
	return all
}

func haveOneKeyInCommon(a, b network.Host) bool {
	for _, k := range a.Keys() {
		if k == b.PublicKey || k == b.AlsoKey {
			return true
		}
	}
	return false
}
