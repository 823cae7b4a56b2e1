package paths

import "time"

// RoundTripBounds are the upper bounds of the buckets in which round trips are counted; what
// takes longer is in none.
var RoundTripBounds = [...]time.Duration{
	500 * time.Microsecond, time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond,
	50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second,
}

// RoundTrips counts answers by how long they took.
type RoundTrips struct {
	// Buckets are of those within the bound and beyond the one before.
	Buckets [len(RoundTripBounds)]uint64
	Count   uint64
	Sum     time.Duration
}

func (r *RoundTrips) add(took time.Duration) {
	r.Count++
	r.Sum += took
	for i, bound := range RoundTripBounds {
		if took <= bound {
			r.Buckets[i]++
			return
		}
	}
}

// WayStats are of all peers to which traffic takes one kind of way.
type WayStats struct {
	// Sent counts the probes of the traffic path, those of full size not among them.
	Sent uint64
	// RoundTrips are of these probes. What is missing was lost, or is on its way.
	RoundTrips RoundTrips
	// Taken counts how often traffic began to take another way, which is of this kind.
	Taken uint64
}

// Stats counts what happened since New, with all peers together.
type Stats struct {
	Direct, Relayed WayStats
	// Falls counts paths that nothing passed any more.
	Falls uint64
	// Searches counts searches for a relay, SearchesFailed those in which all were asked
	// and none would do.
	Searches, SearchesFailed uint64
	// QuestionsRefused counts other hosts' questions for a relay that were too many to be
	// answered, ChecksRefused the targets in them for which nothing was tried.
	QuestionsRefused, ChecksRefused uint64
	// RumorsRefused counts what other hosts said of dead ones and was too much to look into.
	RumorsRefused uint64
	// ProbesHeld counts own probes that waited because all together were too many.
	ProbesHeld uint64
}

// Stats returns a snapshot.
func (e *Engine) Stats() Stats { return e.stats }

// kind returns the counters of the way that traffic to the peer takes.
func (e *Engine) kind(p *peer) *WayStats {
	if p.via != 0 {
		return &e.stats.Relayed
	}
	return &e.stats.Direct
}
