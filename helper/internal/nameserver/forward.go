package nameserver

import (
	"context"
	"log/slog"
	"net/netip"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

const (
	// maxRounds is how often each upstream resolver is asked one question. The
	// time for an answer doubles each round.
	maxRounds = 3
	// failureTTL is how long it is remembered that no upstream resolver had an
	// answer (RFC 9520 section 3.2 wants at least a second).
	failureTTL = time.Second
	// penalty is how long a resolver that did not answer is asked last.
	penalty = 30 * time.Second
)

// forwarder gets answers from one list of upstream resolvers and keeps them.
// A change of the list makes a new forwarder: other resolvers may know other
// answers.
type forwarder struct {
	server    *Server
	upstreams []*upstream
	cache     *cache

	mu      sync.Mutex
	flights map[question]*flight
}

// upstream is one resolver and what is known about it.
type upstream struct {
	address netip.AddrPort
	// silentUntil is the time in nanoseconds since 1970 until which it is asked
	// last; 0: it answered last time.
	silentUntil atomic.Int64
}

// flight is a question on its way. reply may be read when done is closed.
type flight struct {
	done  chan struct{}
	reply reply
}

func newForwarder(s *Server, addresses []netip.AddrPort) *forwarder {
	f := &forwarder{
		server: s, cache: newCache(s.cfg.CacheEntries, s.cfg.CacheBytes),
		flights: map[question]*flight{},
	}
	for _, a := range addresses {
		f.upstreams = append(f.upstreams, &upstream{address: a})
	}
	return f
}

func (f *forwarder) addresses() (all []netip.AddrPort) {
	for _, u := range f.upstreams {
		all = append(all, u.address)
	}
	return all
}

// resolve returns the answer to a question, SERVFAIL if there is none. Equal
// questions that are asked at the same time are sent once.
func (f *forwarder) resolve(ctx context.Context, q question) reply {
	f.mu.Lock()
	if fl, ok := f.flights[q]; ok {
		f.mu.Unlock()
		<-fl.done // bounded: its leader has a deadline and the same context
		return fl.reply
	}
	fl := &flight{done: make(chan struct{})}
	f.flights[q] = fl
	f.mu.Unlock()

	fl.reply = f.lead(ctx, q)
	f.mu.Lock()
	delete(f.flights, q)
	f.mu.Unlock()
	close(fl.done)
	return fl.reply
}

// lead asks the upstream resolvers and keeps what they say.
func (f *forwarder) lead(ctx context.Context, q question) reply {
	s := f.server
	if r, ok := f.cache.get(q, s.now()); ok { // the flight before has just landed
		return r
	}
	select {
	case s.outstanding <- struct{}{}:
		defer func() { <-s.outstanding }()
	default:
		s.stats.overloaded.Add(1)
		return reply{wire: packEmpty(q, dns.RcodeServerFailure)}
	}
	s.stats.forwarded.Add(1)
	d, err := f.ask(ctx, q, s.zone.Load())
	if err != nil {
		s.stats.failed.Add(1)
		d = distilled{packEmpty(q, dns.RcodeServerFailure), failureTTL}
	}
	r := reply{wire: d.wire, at: s.now()}
	f.cache.put(q, r, d.ttl)
	return r
}

// ask asks one resolver after the other, until one has an answer or the
// deadline passes. One that answers without an answer is not asked again. z has the
// names that no resolver is believed about.
func (f *forwarder) ask(ctx context.Context, q question, z *zone) (distilled, error) {
	s := f.server
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Deadline)
	defer cancel()
	d := distiller{z, s.cfg.MaxTTL, s.cfg.MaxNegativeTTL}
	left, timeout := f.order(s.now()), s.cfg.AttemptTimeout
	for round := 0; round < maxRounds; round++ {
		var silent []*upstream
		for _, u := range left {
			r, err := f.try(ctx, u, q, timeout)
			if ctx.Err() != nil {
				return distilled{}, errUnhelpful
			}
			f.note(u, err)
			if err != nil {
				silent = append(silent, u)
				continue
			}
			if answer, err := d.distill(r, q); err == nil {
				return answer, nil
			}
		}
		left, timeout = silent, 2*timeout
	}
	return distilled{}, errUnhelpful
}

// order returns the resolvers as they were listed, the silent ones last.
func (f *forwarder) order(now time.Time) []*upstream {
	ordered := append([]*upstream(nil), f.upstreams...)
	silent := map[*upstream]bool{}
	for _, u := range ordered {
		silent[u] = u.silentUntil.Load() > now.UnixNano()
	}
	sort.SliceStable(ordered, func(i, j int) bool { return !silent[ordered[i]] && silent[ordered[j]] })
	return ordered
}

// note remembers whether a resolver answered, and logs when that changes.
func (f *forwarder) note(u *upstream, err error) {
	if err != nil {
		f.server.stats.unanswered.Add(1)
		until := f.server.now().Add(penalty).UnixNano()
		if u.silentUntil.Swap(until) == 0 {
			f.server.log.Warn("upstream resolver does not answer", slog.String("resolver", u.address.String()), slog.Any("error", err))
		}
	} else if u.silentUntil.Swap(0) != 0 {
		f.server.log.Info("upstream resolver answers again", slog.String("resolver", u.address.String()))
	}
}
