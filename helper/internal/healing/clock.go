package healing

import (
	"context"
	"time"

	"mobula/helper/internal/paths"
)

// shortestSleep bounds how often the engine is served.
const shortestSleep = 5 * time.Millisecond

// shakesShare is how many times what a look takes passes, at least, between two of them that
// handshakes need.
const shakesShare = 20

// run is the engine's clock.
func (h *Healer) run(ctx context.Context) {
	defer h.ended.Done()
	timer := time.NewTimer(0)
	defer timer.Stop()
	var nextLook, noSooner, unhurried time.Duration
	for {
		h.mu.Lock()
		now := h.now()
		if due := h.engine.Next(); due <= now {
			h.engine.Tick(now)
			h.flush()
		}
		sleep := h.engine.Next() - now
		if h.observe {
			nextLook = min(nextLook, noSooner)
		}
		if h.shakes {
			nextLook = min(nextLook, unhurried)
		}
		look := now >= nextLook
		if look {
			h.observe, h.shakes = false, false
		}
		peers, deaf, self := len(h.peers), h.deaf, h.self
		h.deaf = false
		h.mu.Unlock()
		switch {
		case deaf:
			h.takeAnotherPort(self.ListenPort())
		case h.rewriting != nil && !self.IsUnreached():
			h.keepPort() // others look for it at its endpoint
		}
		if look {
			began := time.Now()
			h.look()
			took := time.Since(began)
			nextLook = now + took + time.Second*time.Duration(1+peers/500)
			noSooner = now + took + 50*time.Millisecond + time.Duration(peers)*100*time.Microsecond
			unhurried = max(noSooner, now+shakesShare*took)
			continue
		}
		if sleep < shortestSleep {
			sleep = shortestSleep
		}
		if most := nextLook - now; sleep > most {
			sleep = most
		}
		timer.Reset(sleep)
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-h.poke:
			if !timer.Stop() {
				select {
				case <-timer.C:
				default:
				}
			}
		}
	}
}

// look hands the kernel's view of the peers to the engine. What was read before
// an endpoint was set meanwhile is worthless.
func (h *Healer) look() {
	h.lookAtNetworks()
	h.mu.Lock()
	settings := h.settings
	h.mu.Unlock()
	states, err := h.device.Peers()
	if err != nil {
		return // the device is gone; the repair will say so
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if settings != h.settings {
		h.observe = true
		return
	}
	byHost := h.byHost(states)
	all := make([]paths.Kernel, 0, len(byHost))
	for id, peers := range byHost {
		s := peers[0]
		for _, other := range peers[1:] {
			s = s.Join(other)
		}
		age := time.Duration(-1)
		if !s.LastHandshake.IsZero() {
			age = time.Since(s.LastHandshake)
		}
		h.peers[id].shaken = s.LastHandshake
		all = append(all, paths.Kernel{Peer: id, Endpoint: s.Endpoint, ReceiveBytes: s.ReceiveBytes, TransmitBytes: s.TransmitBytes,
			HandshakeAge: age, OwnBytes: h.peers[id].ownBytes + h.carrier.counted(id)})
	}
	h.deaf = h.looksDeaf(time.Now(), byHost)
	h.insiders.look(h.self.ID, states)
	h.engine.Observe(h.now(), all)
	h.flush()
	h.tellCarrier()
	for id := range h.turns {
		delete(byHost, id) // they are looked at more often
	}
	if h.shakeAgain(time.Now(), byHost) {
		h.shakes = true
	}
}
