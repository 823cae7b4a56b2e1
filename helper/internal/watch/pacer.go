package watch

import "time"

// pacer bounds how often something is done for what others do: burst times at once, and
// then every interval.
type pacer struct {
	burst    int
	interval time.Duration
	// due is when the next time would be the first of a new burst, had there been one every
	// interval until then.
	due time.Time
}

// pause returns how long what happens now has to wait, at least debounce.
func (p *pacer) pause(now time.Time) time.Duration {
	if p.due.Before(now) {
		p.due = now
	}
	wait := p.due.Sub(now) - time.Duration(p.burst-1)*p.interval
	p.due = p.due.Add(p.interval)
	return max(wait, debounce)
}
