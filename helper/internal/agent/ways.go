package agent

import (
	"context"
	"strings"
	"time"

	"mobula/helper/internal/plan"
)

// Relaying is by what a host that keeps its NIC relays.
type Relaying interface {
	// Stale reports that the host would send to others in other ways than relayed packets
	// take; false on hosts that do not relay so.
	Stale(*plan.Doorway) (bool, error)
	// Unable returns why the host relays for nobody; "": it relays.
	Unable() string
}

// watchWays has relayed packets, and the gateway's way outside, follow the host's routing.
// Most of what changes there matters to neither, and starts nothing.
func (r *repairer) watchWays(ctx context.Context) {
	looks := pacer{burst: waysBurst, interval: waysInterval}
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.moved:
		}
		// What changes comes in pieces.
		select {
		case <-ctx.Done():
			return
		case <-time.After(looks.pause(time.Now())):
		}
		select {
		case <-r.moved:
		default:
		}
		why, err := r.stale()
		if err != nil {
			r.log.Warn("looking at the ways of the host", "error", err)
		} else if why != "" {
			r.because(why)
		}
	}
}

// stale returns what of the host's ways is another than its tables say; "": nothing.
func (r *repairer) stale() (why string, err error) {
	r.mu.Lock()
	doorway := r.doorway
	r.mu.Unlock()
	if doorway == nil {
		return "", nil
	}
	facts, err := r.agent.Facts()
	if err != nil || facts == nil || facts.In(true) == nil {
		return "", err
	}
	known := facts.In(true)
	if r.agent.Ways != nil {
		ways, err := r.agent.Ways()
		if err != nil {
			return "", err
		}
		if _, news := known.WithWays(ways); news {
			return "the ways outside changed", nil
		}
		if len(ways.Opened) > 0 { // each that is known has forwarded since it was opened
			return "forwarding of " + strings.Join(ways.Opened, ", ") + " is off", nil
		}
	}
	if r.agent.Relaying == nil {
		return "", nil
	}
	now := *doorway
	now.Outside = known.Shared.Outside // with those that a repair has noted since
	stale, err := r.agent.Relaying.Stale(&now)
	if err == nil && stale {
		why = "a way to another host changed"
	}
	return why, err
}

// relaysAt notices when what a host that keeps its NIC relays by is another.
type relaysAt struct {
	path string
	read file
	// unable: the host relays for nobody.
	unable bool
}

// look reads only what is new.
func (r *relaysAt) look(relaying Relaying) (unable bool) {
	if now := fileAt(r.path); relaying != nil && now != r.read {
		r.read, r.unable = now, relaying.Unable() != ""
	}
	return r.unable
}
