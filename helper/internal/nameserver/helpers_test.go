package nameserver

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"mobula/helper/internal/network"
)

// testDocument has two hosts, one with an ID that makes addresses end in .0,
// names for a guest, and further names for a host and for a gateway.
func testDocument() *network.Document {
	return &network.Document{
		Serial: 1_700_000_000,
		Hosts: []network.Host{
			{ID: 1, Hostname: "Alice.Example.com"},
			{ID: 256, Hostname: "bob.example.com"},
		},
		Names: []network.Name{
			{Address: netip.MustParseAddr("10.31.0.254"), Names: []string{"nas.example.com", "files.example.com"}},
			{Address: network.Ranges{}.AccessAddress(1), Names: []string{"www.example.net"}},
			{Address: network.Ranges{}.GatewayAddress(256), Names: []string{"gw.example.com"}},
		},
	}
}

var (
	loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	inside   = netip.MustParseAddr("10.31.128.1")
	silent   = slog.New(slog.NewTextHandler(io.Discard, nil))
)

// resolver is an upstream resolver on 127.0.0.1, over UDP and TCP on one port.
type resolver struct {
	address netip.AddrPort
	asked   atomic.Int64 // messages that came in, over UDP or TCP
	overTCP atomic.Int64
}

// startResolver starts a resolver that answers as handle does.
func startResolver(t testing.TB, handle dns.HandlerFunc) *resolver {
	t.Helper()
	packets, listener := listen(t)
	r := &resolver{address: packets.LocalAddr().(*net.UDPAddr).AddrPort()}
	counted := dns.HandlerFunc(func(w dns.ResponseWriter, m *dns.Msg) {
		r.asked.Add(1)
		if w.LocalAddr().Network() == "tcp" {
			r.overTCP.Add(1)
		}
		handle(w, m)
	})
	for _, server := range []*dns.Server{{PacketConn: packets, Handler: counted}, {Listener: listener, Handler: counted}} {
		server, started := server, make(chan struct{})
		server.NotifyStartedFunc = func() { close(started) }
		go server.ActivateAndServe()
		<-started
		t.Cleanup(func() { server.Shutdown() })
	}
	return r
}

// listen returns sockets for UDP and TCP on one port of 127.0.0.1.
func listen(t testing.TB) (net.PacketConn, net.Listener) {
	t.Helper()
	for i := 0; i < 20; i++ {
		packets, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		listener, err := net.Listen("tcp", packets.LocalAddr().String())
		if err == nil {
			return packets, listener
		}
		packets.Close()
	}
	t.Fatal("found no port that is free for UDP and TCP")
	return nil, nil
}

// running is a Server that serves on 127.0.0.1.
type running struct {
	*Server
	address string
}

// start serves the test document with what cfg says, until the test ends.
func start(t testing.TB, cfg Config, upstreams ...*resolver) *running {
	t.Helper()
	packets, listener := listen(t)
	cfg.PacketConns, cfg.Listeners = []net.PacketConn{packets}, []net.Listener{listener}
	if cfg.Allowed == nil {
		cfg.Allowed = loopback
	}
	for _, u := range upstreams {
		cfg.Upstreams = append(cfg.Upstreams, u.address)
	}
	s := New(cfg, silent)
	s.SetZone(testDocument())
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Serve: %v", err)
			}
		case <-time.After(10 * time.Second):
			t.Error("Serve does not end")
		}
	})
	return &running{s, packets.LocalAddr().String()}
}

// ask sends one question over UDP or TCP and returns the answer.
func (r *running) ask(t testing.TB, transport string, m *dns.Msg) *dns.Msg {
	t.Helper()
	client := dns.Client{Net: transport, Timeout: 8 * time.Second, UDPSize: maxTCPBytes}
	answer, _, err := client.Exchange(m, r.address)
	if err != nil {
		t.Fatalf("asking %v over %s: %v", m.Question, transport, err)
	}
	return answer
}

// eventually waits until is returns true.
func eventually(t testing.TB, is func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not come true")
		}
	}
}

func asking(name string, qtype uint16) *dns.Msg { return new(dns.Msg).SetQuestion(name, qtype) }

// answering returns a handler that answers with the given records, spelled as
// in a zone file.
func answering(records ...string) dns.HandlerFunc {
	return func(w dns.ResponseWriter, m *dns.Msg) {
		w.WriteMsg(answerWith(m, records...))
	}
}

func answerWith(m *dns.Msg, records ...string) *dns.Msg {
	out := new(dns.Msg).SetReply(m)
	out.RecursionAvailable = true
	for _, text := range records {
		out.Answer = append(out.Answer, rr(text))
	}
	return out
}

func rr(text string) dns.RR {
	record, err := dns.NewRR(text)
	if err != nil {
		panic(err)
	}
	return record
}

// clock is a time that only a test moves.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// offline returns a server without sockets that hands its questions to
// upstreams, and the clock that it goes by.
func offline(cfg Config, upstreams ...*resolver) (*Server, *clock) {
	for _, u := range upstreams {
		cfg.Upstreams = append(cfg.Upstreams, u.address)
	}
	s := New(cfg, silent)
	c := &clock{now: time.Unix(1_700_000_000, 0)}
	s.now = c.Now
	s.SetZone(testDocument())
	return s, c
}

// exchange hands a packed message to the server as if inside had sent it.
func exchange(t testing.TB, s *Server, m *dns.Msg, tcp bool) *dns.Msg {
	t.Helper()
	packet, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	out, q := s.answer(packet, inside, tcp)
	if q != nil {
		out = s.wait(context.Background(), q)
	}
	if out == nil {
		return nil
	}
	answer := new(dns.Msg)
	if err := answer.Unpack(out); err != nil {
		t.Fatalf("the answer %x: %v", out, err)
	}
	return answer
}
