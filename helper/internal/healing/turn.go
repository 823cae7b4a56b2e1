package healing

import (
	"context"
	"time"

	"mobula/helper/internal/network"
	"mobula/helper/internal/wireguard"
)

const (
	// shortestLook is the least time between two looks for turned keys. Between them
	// passes lookShare times what a look takes, so that hosts that are slow, or many,
	// do not spend on looking what the rotation needs; but at most mostLook, for which
	// a peer that has turned may not be heard.
	shortestLook = 2 * time.Millisecond
	mostLook     = 500 * time.Millisecond
	lookShare    = 10
	// A rotation is over in seconds. One that was interrupted is looked after
	// less often when hasteFor has gone by.
	hasteFor = 10 * time.Minute
	longLook = time.Second
)

// turn remembers what the last look saw of the two keys of a host that rotates.
// The active one is the key whose peer has the allowed IPs. The zero turn has
// seen nothing.
type turn struct {
	active                            network.Key
	activeHandshake, passiveHandshake time.Time
	passiveBytes                      int64
}

// next decides which key has the allowed IPs from now on: the one with which the
// host shakes hands. A key with which it never did becomes active with the first
// bytes that arrive under it, which are those of a valid handshake, because what
// follows on them is data. Later only another handshake counts: packets of the
// old session may still be on their way. move tells that the active key has
// changed; if the change fails, the old turn still holds.
func (t turn) next(a, b wireguard.PeerState) (after turn, move bool) {
	active, passive := a, b
	if len(b.AllowedIPs) > 0 {
		active, passive = b, a
	}
	if len(active.AllowedIPs) == 0 || len(passive.AllowedIPs) > 0 {
		return t, false // somebody is changing them
	}
	shaken := passive.LastHandshake.After(active.LastHandshake)
	asked := false
	if t.active == active.PublicKey { // clocks may have been set since
		asked = passive.LastHandshake.IsZero() && passive.ReceiveBytes > 0 && passive.ReceiveBytes != t.passiveBytes // fewer: made anew
		shaken = !passive.LastHandshake.Equal(t.passiveHandshake) && !passive.LastHandshake.IsZero() &&              // made anew
			(shaken || active.LastHandshake.Equal(t.activeHandshake))
	}
	if move = asked || shaken; move {
		active, passive = passive, active
	}
	return turn{active.PublicKey, active.LastHandshake, passive.LastHandshake, passive.ReceiveBytes}, move
}

// followTurns has the allowed IPs of hosts whose keys rotate follow the keys.
func (h *Healer) followTurns(ctx context.Context) {
	defer h.ended.Done()
	var again <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.rotates:
		case <-again:
		}
		began := time.Now()
		h.mu.Lock()
		rotating, hurry := len(h.turns) > 0, time.Since(h.followed) < hasteFor
		h.mu.Unlock()
		if !rotating {
			again = nil
			continue
		}
		h.lookForTurns()
		again = time.After(untilNextLook(time.Since(began), hurry))
	}
}

// untilNextLook is how long to wait after a look that took so long.
func untilNextLook(took time.Duration, hurry bool) time.Duration {
	if !hurry {
		return longLook
	}
	return min(max(lookShare*took, shortestLook), mostLook)
}

// lookForTurns moves the allowed IPs of hosts that have turned to another key, and
// has handshakes tried again that may be lost.
func (h *Healer) lookForTurns() {
	states, err := h.device.Peers()
	if err != nil {
		return // the device is gone; the repair will say so
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	quiet := map[uint16][]wireguard.PeerState{}
	for id, peers := range h.byHost(states) {
		t, rotates := h.turns[id]
		if !rotates || len(peers) != 2 {
			continue
		}
		after, move := t.next(peers[0], peers[1])
		if !move {
			h.turns[id], quiet[id] = after, peers
			continue
		}
		r := h.peers[id]
		if err := h.device.GiveAllowedIPs(after.active, append(peers[0].AllowedIPs, peers[1].AllowedIPs...)); err != nil {
			h.Log.Warn("following a host to its other key", "peer", r.host.Hostname, "error", err)
			continue
		}
		h.Log.Info("a host uses its other key", "peer", r.host.Hostname, "public_key", after.active)
		h.turns[id], h.observe = after, true
		wake(h.poke)
	}
	h.shakeAgain(time.Now(), quiet)
}

// byHost returns the peers of each host. The caller holds the lock.
func (h *Healer) byHost(states []wireguard.PeerState) map[uint16][]wireguard.PeerState {
	all := make(map[uint16][]wireguard.PeerState, len(h.peers))
	for _, s := range states {
		if id, known := h.byKey[s.PublicKey]; known {
			all[id] = append(all[id], s)
		}
	}
	return all
}
