package watch

import (
	"context"
	"strings"
	"time"
)

const (
	// The ways outside and to other hosts are looked at as soon as something changes,
	// waysBurst times, and then every waysInterval: that is a question to the kernel for
	// each host, and routes may change all the time.
	waysBurst    = 10
	waysInterval = 2 * time.Second
)

// watchWays has relayed packets, and the gateway's way outside, follow the host's routing.
// Most of what changes there matters to neither, and starts nothing.
func (r *Repairer) watchWays(ctx context.Context) {
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
			r.Log.Warn("looking at the ways of the host", "error", err)
		} else if why != "" {
			r.because(why)
		}
	}
}

// stale returns what of the host's ways is another than its tables say; "": nothing.
func (r *Repairer) stale() (why string, err error) {
	r.mu.Lock()
	doorway := r.doorway
	r.mu.Unlock()
	if doorway == nil {
		return "", nil
	}
	facts, err := r.Facts()
	if err != nil || facts == nil || facts.In(true) == nil {
		return "", err
	}
	known := facts.In(true)
	if r.Ways != nil {
		ways, err := r.Ways()
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
	if r.Stale == nil {
		return "", nil
	}
	now := *doorway
	now.Outside = known.Shared.Outside // with those that a repair has noted since
	stale, err := r.Stale(&now)
	if err == nil && stale {
		why = "a way to another host changed"
	}
	return why, err
}

// move has the ways looked at.
func (r *Repairer) move() {
	select {
	case r.moved <- struct{}{}:
	default: // they will be
	}
}
