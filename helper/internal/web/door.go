package web

import (
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"mobula/helper/internal/bucket"
)

// Door lets in who asks by a name that a service has, and no more often than its limits say.
type Door struct {
	// Guests are the addresses that guests can have; the zero Prefix: there are none.
	Guests netip.Prefix
	Limits Limits
	// Refused, if it is not nil, counts who asked too often, and connections that were too many.
	Refused *atomic.Uint64

	names atomic.Pointer[map[string]bool]
	rate  rate
}

// Limits are how often one address may ask, and all together: so often a second, and so many
// times at once; and how many connections there may be, and from one address.
type Limits struct {
	Each, EachBurst, All, AllBurst float64
	Conns, ConnsEach               int
}

// Know gives the service these names and addresses, in lower case and without a port, in
// place of others. What a browser is told by a foreign name, whose owner has it lead here (DNS
// rebinding), is not said. Without any nobody is let in.
func (d *Door) Know(names map[string]bool) { d.names.Store(&names) }

// Guard returns a handler that has the given one answer who is let in.
func (d *Door) Guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if d.lets(w, r) {
			next.ServeHTTP(w, r)
		}
	})
}

// lets reports whether somebody may ask; if not he has been told why.
func (d *Door) lets(w http.ResponseWriter, r *http.Request) bool {
	if names := d.names.Load(); names == nil || !(*names)[nameIn(r.Host)] {
		refuse(w, http.StatusMisdirectedRequest, "Nothing is known here by that name: use an address of the gateway, or the host's.")
		return false
	}
	source := sourceOf(r.RemoteAddr)
	if d.rate.may(d.Limits, source, d.isGuest(source), time.Now()) {
		return true
	}
	if d.Refused != nil {
		d.Refused.Add(1)
	}
	w.Header().Set("Retry-After", "2")
	refuse(w, http.StatusTooManyRequests, "Too many questions.")
	return false
}

func (d *Door) isGuest(source netip.Addr) bool { return d.Guests.Contains(source) }

const (
	// guestsPart is what of all guests together may have, a half: they take whatever
	// addresses they like, and must not keep hosts and clients out.
	guestsPart = 2
	// maxSources bounds what is remembered of them.
	maxSources = 1024
)

// rate bounds questions. The zero rate is full.
type rate struct {
	mu      sync.Mutex
	all     bucket.Bucket
	guests  bucket.Bucket
	sources map[netip.Addr]*bucket.Bucket
}

func (r *rate) may(l Limits, source netip.Addr, guest bool, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	one := r.sources[source]
	if one == nil {
		if r.sources == nil || len(r.sources) >= maxSources {
			r.sources = map[netip.Addr]*bucket.Bucket{} // the bound of all holds meanwhile
		}
		one = &bucket.Bucket{}
		r.sources[source] = one
	}
	if !one.Take(now, l.Each, l.EachBurst) || guest && !r.guests.Take(now, l.All/guestsPart, l.AllBurst/guestsPart) {
		return false
	}
	return r.all.Take(now, l.All, l.AllBurst)
}
