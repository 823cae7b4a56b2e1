package nameserver

import "sync/atomic"

// Stats counts what happened since New, but for the last four fields, which
// say what is now.
type Stats struct {
	Queries    uint64 // messages from allowed sources
	Private    uint64 // answered from the zone
	CacheHits  uint64
	Declined   uint64 // told that nothing is answered here, or not yet
	Upstream   uint64 // that only an upstream resolver can answer
	Forwarded  uint64 // questions sent upstream, tries not counted
	Failed     uint64 // of these, without an answer
	Unanswered uint64 // tries that an upstream resolver did not answer
	Refused    uint64 // messages and connections from sources not allowed, dropped
	Malformed  uint64 // messages that are no question
	Forged     uint64 // datagrams from upstream addresses that answer nothing that was asked
	Overloaded uint64 // questions and connections turned away because of a bound

	Entries     int // of the cache
	CacheBytes  int
	Outstanding int // questions on their way upstream
	Names       int // private names
}

type counters struct {
	queries, private, cacheHits, declined, upstream, forwarded, failed, unanswered, refused, malformed, forged, overloaded atomic.Uint64
}

// Stats returns a snapshot. Its fields are read one after the other.
func (s *Server) Stats() Stats {
	c := &s.stats
	entries, bytes := s.forwarder.Load().cache.size()
	names := 0
	if z := s.zone.Load(); z != nil {
		names = len(z.addresses)
	}
	return Stats{
		Queries: c.queries.Load(), Private: c.private.Load(), CacheHits: c.cacheHits.Load(),
		Declined: c.declined.Load(), Upstream: c.upstream.Load(), Unanswered: c.unanswered.Load(),
		Forwarded: c.forwarded.Load(), Failed: c.failed.Load(), Refused: c.refused.Load(),
		Malformed: c.malformed.Load(), Forged: c.forged.Load(), Overloaded: c.overloaded.Load(),
		Entries: entries, CacheBytes: bytes, Outstanding: len(s.outstanding), Names: names,
	}
}
