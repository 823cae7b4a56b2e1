package nameserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

func TestServe(t *testing.T) {
	upstream := startResolver(t, answering("x.example.org. 60 A 192.0.2.1"))
	s := start(t, Config{}, upstream)
	for _, transport := range []string{"udp", "tcp"} {
		for name, want := range map[string]string{"alice.example.com.": "10.31.128.1", "x.example.org.": "192.0.2.1"} {
			t.Run(transport+" "+name, func(t *testing.T) {
				got := s.ask(t, transport, asking(name, dns.TypeA))
				if len(got.Answer) != 1 || got.Answer[0].(*dns.A).A.String() != want {
					t.Errorf("found %v, wanted %s", got, want)
				}
			})
		}
	}
	if got := s.Stats(); got.Queries != 4 || got.Private != 2 || got.Forwarded != 1 || got.CacheHits != 1 || got.Names != 6 {
		t.Errorf("found %+v", got)
	}
}

// TestStrangers holds that sources that are not allowed hear nothing, whatever
// they send.
func TestStrangers(t *testing.T) {
	s := start(t, Config{Allowed: []netip.Prefix{netip.MustParsePrefix("10.31.0.0/16")}})
	question, _ := asking("alice.example.com.", dns.TypeA).Pack()
	t.Run("udp", func(t *testing.T) {
		conn, err := net.Dial("udp", s.address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.Write(question)
		conn.Write(question[:12])
		conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		if n, err := conn.Read(make([]byte, 100)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("found %d bytes, %v", n, err)
		}
	})
	t.Run("tcp", func(t *testing.T) {
		conn, err := net.Dial("tcp", s.address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if n, _ := conn.Read(make([]byte, 100)); n > 0 {
			t.Errorf("found %d bytes", n)
		}
	})
	eventually(t, func() bool { return s.Stats().Refused == 3 })
	if got := s.Stats(); got.Queries != 0 {
		t.Errorf("found %+v", got)
	}
	t.Run("the default", func(t *testing.T) {
		s := New(Config{}, silent)
		for source, want := range map[string]bool{
			"10.30.0.1": true, "10.30.128.9": true, "10.31.255.254": true, "10.29.255.255": false, "10.32.0.0": false,
			"127.0.0.1": false, "192.0.2.1": false, "::ffff:10.31.0.1": true, "fe80::1": false,
		} {
			address := sourceOf(net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(source), 4000)))
			if got := s.allows(address); got != want {
				t.Errorf("%s: found %v, wanted %v", source, got, want)
			}
		}
		if s.allows(sourceOf(&net.UDPAddr{IP: net.IPv4(10, 31, 0, 1), Port: 0})) {
			t.Error("port 0 would be answered")
		}
	})
}

func TestTCPConnections(t *testing.T) {
	closed := func(conn net.Conn, within time.Duration) bool {
		conn.SetReadDeadline(time.Now().Add(within))
		_, err := conn.Read(make([]byte, 1))
		return errors.Is(err, io.EOF) || err != nil && !errors.Is(err, os.ErrDeadlineExceeded)
	}
	dial := func(t *testing.T, s *running) net.Conn {
		conn, err := net.Dial("tcp", s.address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	t.Run("their number is bounded", func(t *testing.T) {
		s := start(t, Config{MaxConns: 6, MaxConnsPerSource: 3})
		var open []*dns.Conn
		for i := 0; i < 3; i++ {
			conn := &dns.Conn{Conn: dial(t, s)}
			conn.WriteMsg(asking("alice.example.com.", dns.TypeA))
			if _, err := conn.ReadMsg(); err != nil {
				t.Fatal(err)
			}
			open = append(open, conn)
		}
		if !closed(dial(t, s), 5*time.Second) {
			t.Error("one more than the bound was served")
		}
		open[0].Close()
		eventually(t, func() bool {
			s.conns.mu.Lock()
			defer s.conns.mu.Unlock()
			return s.conns.all < 3
		})
		s.ask(t, "tcp", asking("alice.example.com.", dns.TypeA))
	})
	t.Run("idle ones are closed", func(t *testing.T) {
		s := start(t, Config{IdleTimeout: 50 * time.Millisecond})
		if !closed(dial(t, s), 5*time.Second) {
			t.Error("a silent one stays open")
		}
		conn := dial(t, s)
		conn.Write([]byte{0, 40, 1, 2})
		if !closed(conn, 5*time.Second) {
			t.Error("one that stops inside a message stays open")
		}
	})
	t.Run("many questions at once", func(t *testing.T) {
		s := start(t, Config{})
		conn := dial(t, s)
		for i := 0; i < 50; i++ {
			m := asking("alice.example.com.", dns.TypeA)
			m.Id = uint16(i)
			wire, _ := m.Pack()
			writeFrame(conn, wire)
		}
		for i := 0; i < 50; i++ {
			packet, err := readFrame(conn, maxTCPBytes)
			if err != nil || int(be16(packet)) != i {
				t.Fatalf("answer %d: found %x, %v", i, packet, err)
			}
		}
	})
	for about, bytes := range map[string][]byte{"no question": {0, 2, 1, 2}, "an answer": append([]byte{0, 12, 0, 1, 0x80}, make([]byte, 9)...), "too large": {0xff, 0xff}} {
		t.Run(about, func(t *testing.T) {
			s := start(t, Config{})
			conn := dial(t, s)
			conn.Write(bytes)
			if !closed(conn, 5*time.Second) {
				t.Error("the connection stays open")
			}
		})
	}
}

// TestPendingBound holds that waiting clients keep nobody from the private
// names, and that one source cannot wait for everything.
func TestPendingBound(t *testing.T) {
	upstream := startResolver(t, func(dns.ResponseWriter, *dns.Msg) {})
	s := start(t, Config{MaxPendingPerSource: 4}, upstream)
	conn, err := dns.Dial("udp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for i := 0; i < 10; i++ {
		conn.WriteMsg(asking(fmt.Sprint(i, ".example.org."), dns.TypeA))
	}
	conn.SetReadDeadline(time.Now().Add(4 * time.Second))
	for i := 0; i < 6; i++ {
		if m, err := conn.ReadMsg(); err != nil || m.Rcode != dns.RcodeServerFailure {
			t.Fatalf("answer %d: found %v, %v", i, m, err)
		}
	}
	if got := s.ask(t, "udp", asking("alice.example.com.", dns.TypeA)); len(got.Answer) != 1 {
		t.Errorf("found %v", got)
	}
	eventually(t, func() bool { return s.Stats().Outstanding == 4 })
	if got := s.Stats(); got.Overloaded != 6 {
		t.Errorf("found %+v", got)
	}
}

// TestServeEnds holds that Serve ends while questions are on their way.
func TestServeEnds(t *testing.T) {
	upstream := startResolver(t, func(dns.ResponseWriter, *dns.Msg) {})
	packets, listener := listen(t)
	s := New(Config{
		PacketConns: []net.PacketConn{packets}, Listeners: []net.Listener{listener},
		Upstreams: []netip.AddrPort{upstream.address}, Allowed: loopback,
	}, silent)
	s.SetZone(testDocument())
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Serve(ctx) }()
	for _, transport := range []string{"udp", "tcp"} {
		conn, err := dns.Dial(transport, packets.LocalAddr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.WriteMsg(asking(transport+".example.org.", dns.TypeA))
	}
	eventually(t, func() bool { return s.Stats().Outstanding == 2 })
	cancel()
	if err := <-done; err != nil {
		t.Errorf("found %v", err)
	}
	if got := s.Stats(); got.Outstanding != 0 {
		t.Errorf("found %+v", got)
	}
	if _, err := net.Dial("tcp", listener.Addr().String()); err == nil {
		t.Error("the listener is still open")
	}
}

func TestServeFails(t *testing.T) {
	packets, listener := listen(t)
	s := New(Config{PacketConns: []net.PacketConn{packets}, Listeners: []net.Listener{listener}}, silent)
	packets.Close()
	if err := s.Serve(context.Background()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("found %v, wanted %v", err, net.ErrClosed)
	}
}

// flaky fails to read a few times, as a socket does while memory is short.
type flaky struct {
	net.PacketConn
	failures int
}

func (f *flaky) ReadFrom(b []byte) (int, net.Addr, error) {
	if f.failures > 0 {
		f.failures--
		return 0, nil, errors.New("no buffer space available")
	}
	return f.PacketConn.ReadFrom(b)
}

func TestServeOutlastsFailures(t *testing.T) {
	packets, listener := listen(t)
	defer listener.Close()
	s := New(Config{PacketConns: []net.PacketConn{&flaky{packets, 5}}, Allowed: loopback}, silent)
	s.SetZone(testDocument())
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Serve(ctx) }()
	(&running{s, packets.LocalAddr().String()}).ask(t, "udp", asking("alice.example.com.", dns.TypeA))
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestChangesUnderLoad swaps zone and resolvers while clients ask; for the race
// detector.
func TestChangesUnderLoad(t *testing.T) {
	answerAll := func(w dns.ResponseWriter, m *dns.Msg) {
		w.WriteMsg(answerWith(m, m.Question[0].Name+" 1 A 192.0.2.1"))
	}
	one, two := startResolver(t, answerAll), startResolver(t, answerAll)
	s := start(t, Config{CacheEntries: 8}, one)
	var clients sync.WaitGroup
	for c := 0; c < 8; c++ {
		clients.Add(1)
		go func(c int) {
			defer clients.Done()
			transport := []string{"udp", "tcp"}[c%2]
			for i := 0; i < 60; i++ {
				name := []string{"alice.example.com.", fmt.Sprint(i%16, ".example.org.")}[i%2]
				if got := s.ask(t, transport, asking(name, dns.TypeA)); len(got.Answer) != 1 {
					t.Errorf("%s: found %v", name, got)
				}
			}
		}(c)
	}
	for i := 0; i < 50; i++ {
		s.SetZone(testDocument())
		s.SetUpstreams([]netip.AddrPort{[]*resolver{one, two}[i%2].address})
		if got := s.Stats(); got.Entries > 8 {
			t.Errorf("found %d entries", got.Entries)
		}
	}
	clients.Wait()
}
