package nameserver

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"mobula/helper/internal/network"
)

// Config is what a Server is made of. Zero values mean the default that is
// given with each field.
type Config struct {
	// PacketConns and Listeners are where questions come in, over UDP and TCP.
	// Each should be bound to one address: an answer leaves by the socket that
	// the question came in by. Serve closes them.
	PacketConns []net.PacketConn
	Listeners   []net.Listener
	// Dial connects to upstream resolvers; network is "udp" or "tcp". For UDP it
	// must return a new connected socket with a port of the kernel's choice each
	// time. Default: a net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Upstreams are asked in this order. None: only private names are answered.
	Upstreams []netip.AddrPort
	// Allowed are the sources that get an answer. Default: those of a network in the
	// default ranges.
	Allowed []netip.Prefix
	// Favored are sources that nobody else can take, for whom a quarter of all that
	// is bounded by source is kept free. Default: none.
	Favored []netip.Prefix

	CacheEntries   int           // default 10,000
	CacheBytes     int           // default 8 MiB
	MaxTTL         time.Duration // longest life of an answer; default 1 h
	MaxNegativeTTL time.Duration // longest life of a negative answer; default 5 min

	MaxOutstanding      int // questions on their way to upstream resolvers; default 512
	MaxPending          int // clients that wait for them, however they ask; default 512
	MaxPendingPerSource int // default 128; fewer while others wait, see quota
	MaxConns            int // TCP connections of clients; default 128
	MaxConnsPerSource   int // default 16

	Deadline       time.Duration // for an upstream answer, all tries included; default 5 s
	AttemptTimeout time.Duration // of the first try, doubled each round; default 800 ms
	IdleTimeout    time.Duration // of a TCP connection, between and within messages; default 10 s
}

func (c Config) withDefaults() Config {
	if c.Dial == nil {
		c.Dial = new(net.Dialer).DialContext
	}
	if c.Allowed == nil {
		c.Allowed = []netip.Prefix{network.Ranges{}.Wire(), network.Ranges{}.Access()}
	}
	orDefault(&c.CacheEntries, 10_000)
	orDefault(&c.CacheBytes, 8<<20)
	orDefault(&c.MaxTTL, time.Hour)
	orDefault(&c.MaxNegativeTTL, 5*time.Minute)
	orDefault(&c.MaxOutstanding, 512)
	orDefault(&c.MaxPending, 512)
	orDefault(&c.MaxPendingPerSource, 128)
	orDefault(&c.MaxConns, 128)
	orDefault(&c.MaxConnsPerSource, 16)
	orDefault(&c.Deadline, 5*time.Second)
	orDefault(&c.AttemptTimeout, 800*time.Millisecond)
	orDefault(&c.IdleTimeout, 10*time.Second)
	return c
}

func orDefault[T int | time.Duration](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}

// Port53 returns the addresses of resolvers with the port of DNS.
func Port53(addresses []netip.Addr) []netip.AddrPort {
	var all []netip.AddrPort
	for _, a := range addresses {
		all = append(all, netip.AddrPortFrom(a, 53))
	}
	return all
}

// Server is a nameserver. All its methods may be called at any time.
type Server struct {
	cfg Config
	log *slog.Logger
	now func() time.Time

	changing    sync.Mutex // held by whoever replaces zone or forwarder
	zone        atomic.Pointer[zone]
	forwarder   atomic.Pointer[forwarder]
	outstanding chan struct{} // one for each question on its way upstream
	pending     *quota
	conns       *quota
	stats       counters
}

// New returns a Server that answers SERVFAIL until SetZone is called: as long
// as it does not know the private names it cannot keep them inside.
func New(cfg Config, logger *slog.Logger) *Server {
	s := &Server{cfg: cfg.withDefaults(), log: logger, now: time.Now}
	s.outstanding = make(chan struct{}, s.cfg.MaxOutstanding)
	s.pending = newQuota(s.cfg.MaxPending, s.cfg.MaxPendingPerSource, s.cfg.Favored)
	s.conns = newQuota(s.cfg.MaxConns, s.cfg.MaxConnsPerSource, s.cfg.Favored)
	s.forwarder.Store(newForwarder(s, s.cfg.Upstreams))
	return s
}

// SetZone makes the names of a valid document those that are answered here. What
// the cache holds is forgotten: of names around them it may not be true any more.
func (s *Server) SetZone(d *network.Document) {
	z := newZone(d)
	s.changing.Lock()
	defer s.changing.Unlock()
	s.zone.Store(z)
	s.forwarder.Store(newForwarder(s, s.forwarder.Load().addresses()))
	s.log.Info("private names changed", slog.Int("names", len(z.addresses)), slog.Int64("serial", d.Serial))
}

// SetUpstreams replaces the upstream resolvers. If they differ from those
// before, what the cache holds is forgotten.
func (s *Server) SetUpstreams(addresses []netip.AddrPort) {
	s.changing.Lock()
	defer s.changing.Unlock()
	old := s.forwarder.Load()
	if sameUpstreams(old.upstreams, addresses) {
		return
	}
	s.forwarder.Store(newForwarder(s, addresses))
	s.log.Info("upstream resolvers changed", slog.Any("resolvers", addresses))
}

func sameUpstreams(have []*upstream, want []netip.AddrPort) bool {
	if len(have) != len(want) {
		return false
	}
	for i, u := range have {
		if u.address != want[i] {
			return false
		}
	}
	return true
}

// answer answers a message at once if it can. Else it returns the query, which
// has to wait for an upstream resolver. Both nil: nothing is answered.
func (s *Server) answer(packet []byte, source netip.Addr, tcp bool) ([]byte, *query) {
	if !s.allows(source) {
		s.stats.refused.Add(1)
		return nil, nil
	}
	s.stats.queries.Add(1)
	q, refusal := parse(packet, tcp)
	if q == nil {
		s.stats.malformed.Add(1)
		return refusal, nil
	}
	switch {
	case q.version != 0:
		return s.decline(q, dns.RcodeBadVers), nil
	case q.class != dns.ClassINET, isMeta(q.qtype) && q.qtype != dns.TypeANY: // zone transfers among them
		return s.decline(q, dns.RcodeRefused), nil
	}
	return s.answerQuery(q)
}

func (s *Server) answerQuery(q *query) ([]byte, *query) {
	z := s.zone.Load()
	if z == nil {
		return s.decline(q, dns.RcodeServerFailure), nil
	}
	if a, ours := z.lookup(q.name, q.qtype); ours {
		s.stats.private.Add(1)
		return q.authoritative(a), nil
	}
	if !q.rd { // whoever wants no recursion gets no look into the cache either
		return s.decline(q, dns.RcodeRefused), nil
	}
	now := s.now()
	if r, ok := s.forwarder.Load().cache.get(q.question, now); ok {
		s.stats.cacheHits.Add(1)
		return q.finish(r, now), nil
	}
	s.stats.upstream.Add(1)
	return nil, q
}

// decline says that there is no answer here.
func (s *Server) decline(q *query, rcode int) []byte {
	s.stats.declined.Add(1)
	return q.refuse(rcode)
}

// wait gets the answer to a query from an upstream resolver.
func (s *Server) wait(ctx context.Context, q *query) []byte {
	r := s.forwarder.Load().resolve(ctx, q.question)
	return q.finish(r, s.now())
}

func (s *Server) allows(source netip.Addr) bool {
	for _, p := range s.cfg.Allowed {
		if p.Contains(source) {
			return true
		}
	}
	return false
}
