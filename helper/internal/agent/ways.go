package agent

import (
	"context"
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

// watchWays has relayed packets follow the host's routing. Most of what changes there
// matters to none of them, and starts nothing.
func (r *repairer) watchWays(ctx context.Context) {
	pause := time.NewTicker(waysInterval)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-pause.C:
		}
		select {
		case <-r.moved:
		default:
			continue
		}
		stale, err := r.stale()
		if err != nil {
			r.log.Warn("looking at the ways to other hosts", "error", err)
		} else if stale {
			r.because("a way to another host changed")
		}
	}
}

// stale asks for the ways, also for those outside that a repair has noted since.
func (r *repairer) stale() (bool, error) {
	r.mu.Lock()
	doorway := r.doorway
	r.mu.Unlock()
	if doorway == nil || r.agent.Relaying == nil {
		return false, nil
	}
	facts, err := r.agent.Facts()
	if err != nil || facts == nil || facts.In(true) == nil {
		return false, err
	}
	now := *doorway
	now.Outside = facts.In(true).Shared.Outside
	return r.agent.Relaying.Stale(&now)
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
