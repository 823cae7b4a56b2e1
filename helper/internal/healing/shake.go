package healing

import (
	"math/rand"
	"time"

	"mobula/helper/internal/network"
	"mobula/helper/internal/wireguard"
)

const (
	// A host that answers nothing, and of which nothing was received, for firstShake, or for
	// knownShake and two round trips where those are known, is shaken hands with again, and
	// then every pauseShakes; after quickShakes times each pause is twice the one before,
	// until hasteFor has gone by. The host with the higher ID of a pair begins laterShake
	// later, or both would try at the same moments.
	firstShake  = 600 * time.Millisecond
	knownShake  = 250 * time.Millisecond
	laterShake  = 500 * time.Millisecond
	pauseShakes = time.Second
	quickShakes = 4
	// mostLeads is how often it begins anew because the host is led elsewhere.
	mostLeads = 4
	// After patientShakes times without success the key in use is tried, too.
	patientShakes = 2
	// mostShakes is with how many hosts a look begins handshakes: taking a peer away
	// has the kernel wait for all its processors.
	mostShakes = 64
	// sessionFor is how long a session can be sent over (REJECT_AFTER_TIME).
	sessionFor = 180 * time.Second
)

// shaking remembers what looks saw of a host that may have no session with this one.
// WireGuard waits 5 s before it sends a handshake message again that got no answer
// (REKEY_TIMEOUT). When those of two hosts cross, each answers the other's and knows its
// own no more: neither has a session, both wait, and where both have something to send
// they try again at the same moment and may cross again. The zero shaking has seen
// nothing.
type shaking struct {
	own       network.Key // that of this host
	nowhere   bool        // WireGuard does not know where the host is
	received  int64
	heard     time.Time // when a look found that more was received
	handshake time.Time // the last under the key in use
	shaken    time.Time // when that was, by this host's own clock
	dead      time.Time // what handshake was when the own key changed: nothing can be sent over that session
	led       time.Time // when the peer was given another endpoint and there was no session
	leads     int       // that, since anything was received
	tries     int
	due       time.Time // the next
}

// lead notes that what is for the host goes elsewhere from now on. What WireGuard has sent
// before has gone nowhere, and still it waits for the answer. A host that is led here and there and
// stays silent is tried no more often for it.
func (s shaking) lead(now time.Time) shaking {
	if s.leads == mostLeads {
		return s
	}
	s.leads++
	s.led, s.heard, s.tries, s.due = now, now, 0, time.Time{}
	return s
}

// waits tells that the next look should come soon: a handshake may have to be tried again.
func (s shaking) waits(now, owes time.Time) bool {
	return !owes.IsZero() && !s.nowhere && !s.session(now) && s.tries < quickShakes
}

// session tells whether there is one over which the key in use can be sent to.
func (s shaking) session(now time.Time) bool {
	return !s.handshake.IsZero() && !s.handshake.Equal(s.dead) && now.Sub(s.shaken) < sessionFor
}

// next takes a look at the peers of a host into account: one, or two while its keys
// rotate. owes is since when the host has owed an answer; zero: it owes none. first and
// pause are how long to wait before the first and between two tries. It returns the
// peers that have to be made anew. One with allowed IPs is among them only if there is
// no session over which it can be sent to; and none is while anything is received.
func (s shaking) next(now, owes time.Time, first, pause time.Duration, peers []wireguard.PeerState) (after shaking, again []wireguard.PeerState) {
	active, again, steady := keys(peers)
	if !steady {
		return s, nil
	}
	s = s.see(now, active, again)
	silent := s.heard
	if owes.After(silent) {
		silent = owes
	}
	switch {
	case owes.IsZero():
		s.tries, s.due = 0, time.Time{}
		return s, nil
	case s.nowhere:
		return s, nil
	case now.Sub(silent) < first || now.Before(s.due):
		return s, nil
	}
	begun := active.LastHandshake.IsZero() && active.ReceiveBytes > 0 // and it did not end
	if !s.session(now) && (begun || s.tries >= patientShakes || len(peers) == 1) {
		again = append(again, active)
	}
	if len(again) == 0 {
		return s, nil
	}
	s.tries++
	for n := s.tries; n > quickShakes; n-- {
		pause *= 2
	}
	s.due = now.Add(pause)
	return s, again
}

// keys tells the peer in use from the other one, if any; not while somebody is changing them.
func keys(peers []wireguard.PeerState) (active wireguard.PeerState, passive []wireguard.PeerState, steady bool) {
	for _, p := range peers {
		if len(p.AllowedIPs) > 0 {
			active = p
		} else {
			passive = append(passive, p)
		}
	}
	return active, passive, len(passive) == len(peers)-1
}

// see notes what the peer in use and the other one, if any, tell.
func (s shaking) see(now time.Time, active wireguard.PeerState, passive []wireguard.PeerState) shaking {
	received := active.ReceiveBytes
	for _, p := range passive {
		received += p.ReceiveBytes
	}
	if received > s.received || s.heard.IsZero() {
		s.heard, s.leads = now, 0
	}
	switch {
	case active.LastHandshake.Equal(s.handshake):
	case s.own.IsZero(): // it was before the first look
		s.shaken = now.Add(-max(now.Sub(active.LastHandshake), 0))
	default:
		s.shaken = now
	}
	if s.own != active.Own {
		s.dead = time.Time{}
		if active.LastHandshake.Equal(s.handshake) {
			s.dead = s.handshake
		}
	}
	s.own, s.received, s.handshake, s.nowhere = active.Own, received, active.LastHandshake, !active.Endpoint.IsValid()
	return s
}

// onlyBegins reports that the other host can hardly begin: no document says where this one is.
func (h *Healer) onlyBegins(r *remote) bool {
	return h.self.IsUnreached() && !r.host.IsUnreached()
}

// shakeAgain begins handshakes with the hosts that are silent, all in one: when an uplink
// fails there are as many as peers. states are the peers of hosts. It reports whether the
// next look should come soon. The caller holds the lock.
func (h *Healer) shakeAgain(now time.Time, states map[uint16][]wireguard.PeerState) (soon bool) {
	var again []wireguard.PeerState
	hosts := 0
	for id, peers := range states {
		r := h.peers[id]
		if hosts == mostShakes {
			soon = true
			break
		}
		if now.Sub(h.followed) > hasteFor && now.Sub(r.shaking.led) > hasteFor {
			if active, passive, steady := keys(peers); steady {
				r.shaking = r.shaking.see(now, active, passive)
			}
			continue
		}
		rtt := h.engine.RTT(id)
		first := firstShake
		if rtt > 0 {
			first = knownShake + 2*rtt
		}
		if id < h.self.ID && !h.onlyBegins(r) {
			first += laterShake
		}
		pause := pauseShakes + 2*rtt
		pause += time.Duration(rand.Int63n(int64(pause / 5)))
		var silent []wireguard.PeerState
		if r.shaking, silent = r.shaking.next(now, r.owes, first, pause, peers); len(silent) > 0 {
			again = append(again, silent...)
			hosts++
		}
		soon = soon || r.shaking.waits(now, r.owes)
	}
	if len(again) == 0 {
		return soon
	}
	h.Log.Info("shaking hands again", "hosts", hosts)
	if err := h.device.ShakeAgain(again); err != nil {
		h.Log.Warn("shaking hands again", "hosts", hosts, "error", err)
	}
	return soon
}
