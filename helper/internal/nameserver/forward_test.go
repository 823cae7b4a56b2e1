package nameserver

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

func TestForwardAndCache(t *testing.T) {
	upstream := startResolver(t, answering("www.example.org. 300 A 192.0.2.1"))
	s, clock := offline(Config{}, upstream)
	for _, step := range []struct {
		about   string
		name    string
		advance time.Duration
		ttl     uint32
		asked   int64
	}{
		{"first", "WWW.example.org.", 0, 300, 1},
		{"again, spelled otherwise", "www.EXAMPLE.org.", 0, 300, 1},
		{"100 s later", "www.example.org.", 100 * time.Second, 200, 1},
		{"in its last second", "www.example.org.", 199 * time.Second, 1, 1},
		{"after its time", "www.example.org.", time.Second, 300, 2},
	} {
		clock.advance(step.advance)
		got := exchange(t, s, asking(step.name, dns.TypeA), false)
		want := fmt.Sprintf("%s\t%d\tIN\tA\t192.0.2.1", step.name, step.ttl)
		if len(got.Answer) != 1 || got.Answer[0].String() != want || got.Authoritative {
			t.Errorf("%s: found\n%v\nwanted %s", step.about, got, want)
		}
		if n := upstream.asked.Load(); n != step.asked {
			t.Errorf("%s: upstream was asked %d times, wanted %d", step.about, n, step.asked)
		}
	}
	if got := s.Stats(); got.Queries != 5 || got.CacheHits != 3 || got.Upstream != 2 || got.Forwarded != 2 || got.Unanswered != 0 || got.Entries != 1 || got.CacheBytes == 0 {
		t.Errorf("found %+v", got)
	}
}

func TestNegativeCache(t *testing.T) {
	for _, test := range []struct {
		rcode int
		kept  time.Duration
	}{{dns.RcodeNameError, 20 * time.Second}, {dns.RcodeSuccess, 20 * time.Second}, {dns.RcodeServerFailure, failureTTL}} {
		t.Run(dns.RcodeToString[test.rcode], func(t *testing.T) {
			upstream := startResolver(t, func(w dns.ResponseWriter, m *dns.Msg) {
				out := new(dns.Msg).SetRcode(m, test.rcode)
				out.Ns = []dns.RR{rr("example.org. 300 SOA . . 1 2 3 4 20")}
				w.WriteMsg(out)
			})
			s, clock := offline(Config{}, upstream)
			for i, advance := range []time.Duration{0, test.kept - 1, 1} {
				clock.advance(advance)
				got := exchange(t, s, asking("no.example.org.", dns.TypeAAAA), false)
				if want := int64(1 + i/2); got.Rcode != test.rcode || upstream.asked.Load() != want {
					t.Errorf("step %d: found %s, upstream asked %d times, wanted %d", i, dns.RcodeToString[got.Rcode], upstream.asked.Load(), want)
				}
			}
		})
	}
}

// TestDOAndCD holds that clients with and without DNSSEC do not get each
// other's answers.
func TestDOAndCD(t *testing.T) {
	upstream := startResolver(t, func(w dns.ResponseWriter, m *dns.Msg) {
		out := answerWith(m, "x.example.org. 60 A 192.0.2.1")
		out.AuthenticatedData, out.CheckingDisabled = true, m.CheckingDisabled
		if opt := m.IsEdns0(); opt == nil || opt.UDPSize() != ednsUDPBytes {
			out.Rcode = dns.RcodeRefused
		} else if opt.Do() {
			out.Answer = append(out.Answer, rr("x.example.org. 60 RRSIG A 8 3 60 20300101000000 20200101000000 1 example.org. AAAA"))
		}
		w.WriteMsg(out)
	})
	s, _ := offline(Config{}, upstream)
	asked := int64(0)
	for _, do := range []bool{false, true} {
		for _, cd := range []bool{false, true} {
			asked++
			for i := 0; i < 2; i++ {
				m := asking("x.example.org.", dns.TypeA).SetEdns0(1232, do)
				m.CheckingDisabled, m.AuthenticatedData = cd, true
				got := exchange(t, s, m, false)
				if signed := len(got.Answer) == 2; signed != do || got.IsEdns0().Do() != do || got.CheckingDisabled != cd || got.AuthenticatedData {
					t.Errorf("DO %v CD %v: found %v", do, cd, got)
				}
				if n := upstream.asked.Load(); n != asked {
					t.Errorf("DO %v CD %v: upstream was asked %d times, wanted %d", do, cd, n, asked)
				}
			}
		}
	}
}

func TestFailover(t *testing.T) {
	good := "x.example.org. 60 A 192.0.2.1"
	rcode := func(code int) dns.HandlerFunc {
		return func(w dns.ResponseWriter, m *dns.Msg) { w.WriteMsg(new(dns.Msg).SetRcode(m, code)) }
	}
	bare := func(w dns.ResponseWriter, m *dns.Msg) {
		out := new(dns.Msg).SetRcode(m, dns.RcodeServerFailure)
		out.Question = nil
		w.WriteMsg(out)
	}
	for _, test := range []struct {
		about string
		first dns.HandlerFunc
		atOne int64 // messages that reach the first resolver in three questions
	}{
		{"silent", func(dns.ResponseWriter, *dns.Msg) {}, 1},
		{"SERVFAIL", rcode(dns.RcodeServerFailure), 3},
		{"SERVFAIL without the question", bare, 3},
		{"REFUSED", rcode(dns.RcodeRefused), 3},
		{"FORMERR, with and without EDNS", rcode(dns.RcodeFormatError), 6},
		{"referral", func(w dns.ResponseWriter, m *dns.Msg) {
			out := new(dns.Msg).SetReply(m)
			out.Ns = []dns.RR{rr("org. NS ns.org.")}
			w.WriteMsg(out)
		}, 3},
	} {
		t.Run(test.about, func(t *testing.T) {
			one, two := startResolver(t, test.first), startResolver(t, func(w dns.ResponseWriter, m *dns.Msg) {
				w.WriteMsg(answerWith(m, m.Question[0].Name+" 60 A 192.0.2.1"))
			})
			s, _ := offline(Config{AttemptTimeout: 300 * time.Millisecond}, one, two)
			for i := 0; i < 3; i++ {
				got := exchange(t, s, asking(fmt.Sprint(i, ".example.org."), dns.TypeA), false)
				if got.Rcode != dns.RcodeSuccess || len(got.Answer) != 1 {
					t.Errorf("found %v", got)
				}
			}
			if n := one.asked.Load(); n != test.atOne {
				t.Errorf("the first resolver was asked %d times, wanted %d", n, test.atOne)
			}
		})
	}
	t.Run("a silent resolver is asked first again after a while", func(t *testing.T) {
		one, two := startResolver(t, func(dns.ResponseWriter, *dns.Msg) {}), startResolver(t, answering(good))
		s, clock := offline(Config{AttemptTimeout: 300 * time.Millisecond}, one, two)
		for i, want := range []int64{1, 1, 2} {
			exchange(t, s, asking("x.example.org.", dns.TypeA), false)
			if n := one.asked.Load(); n != want {
				t.Errorf("question %d: asked %d times, wanted %d", i, n, want)
			}
			clock.advance([]time.Duration{0, penalty + 61*time.Second, 0}[i])
		}
	})
	t.Run("nobody listens", func(t *testing.T) {
		s, _ := offline(Config{Upstreams: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:1"), netip.MustParseAddrPort("127.0.0.2:1")}})
		if got := exchange(t, s, asking("x.example.org.", dns.TypeA), false); got.Rcode != dns.RcodeServerFailure {
			t.Errorf("found %v", got)
		}
	})
	t.Run("all silent", func(t *testing.T) {
		one := startResolver(t, func(dns.ResponseWriter, *dns.Msg) {})
		s, _ := offline(Config{Deadline: 300 * time.Millisecond, AttemptTimeout: 100 * time.Millisecond}, one)
		began := time.Now()
		got := exchange(t, s, asking("x.example.org.", dns.TypeA), false)
		if took := time.Since(began); got.Rcode != dns.RcodeServerFailure || took < 250*time.Millisecond {
			t.Errorf("found %s after %v", dns.RcodeToString[got.Rcode], took)
		}
		if got := s.Stats(); got.Failed != 1 || got.Unanswered == 0 || got.Outstanding != 0 {
			t.Errorf("found %+v", got)
		}
	})
	t.Run("slow, but in time", func(t *testing.T) {
		one := startResolver(t, func(w dns.ResponseWriter, m *dns.Msg) {
			time.Sleep(150 * time.Millisecond)
			w.WriteMsg(answerWith(m, good))
		})
		s, _ := offline(Config{AttemptTimeout: 100 * time.Millisecond}, one)
		if got := exchange(t, s, asking("x.example.org.", dns.TypeA), false); len(got.Answer) != 1 {
			t.Errorf("found %v", got)
		}
	})
	t.Run("knows no EDNS", func(t *testing.T) {
		one := startResolver(t, func(w dns.ResponseWriter, m *dns.Msg) {
			if m.IsEdns0() != nil {
				w.WriteMsg(new(dns.Msg).SetRcodeFormatError(m))
				return
			}
			w.WriteMsg(answerWith(m, good))
		})
		s, _ := offline(Config{}, one)
		if got := exchange(t, s, asking("x.example.org.", dns.TypeA), false); len(got.Answer) != 1 || one.asked.Load() != 2 {
			t.Errorf("found %v", got)
		}
	})
}

func TestTruncatedUpstream(t *testing.T) {
	var records []string
	for i := 0; i < 60; i++ {
		records = append(records, fmt.Sprintf("x.example.org. 60 A 192.0.2.%d", i))
	}
	upstream := startResolver(t, func(w dns.ResponseWriter, m *dns.Msg) {
		if w.LocalAddr().Network() == "tcp" {
			w.WriteMsg(answerWith(m, records...))
			return
		}
		out := answerWith(m, records[:3]...)
		out.Truncated = true
		wire, _ := out.Pack()
		w.Write(wire[:len(wire)-5]) // cut inside a record
	})
	s, _ := offline(Config{}, upstream)
	got := exchange(t, s, asking("x.example.org.", dns.TypeA), true)
	if len(got.Answer) != 60 || got.Truncated || upstream.overTCP.Load() != 1 || s.Stats().Forged != 0 {
		t.Errorf("found %d answers, TC %v, %d questions over TCP", len(got.Answer), got.Truncated, upstream.overTCP.Load())
	}
}

// TestEqualQuestionsOnce asks one thing a hundred times at once.
func TestEqualQuestionsOnce(t *testing.T) {
	release := make(chan struct{})
	upstream := startResolver(t, func(w dns.ResponseWriter, m *dns.Msg) {
		<-release
		w.WriteMsg(answerWith(m, "x.example.org. 60 A 192.0.2.1"))
	})
	s, _ := offline(Config{}, upstream)
	var all sync.WaitGroup
	for i := 0; i < 100; i++ {
		all.Add(1)
		go func(i int) {
			defer all.Done()
			name := []string{"x.example.org.", "X.Example.Org."}[i%2]
			if got := exchange(t, s, asking(name, dns.TypeA), false); len(got.Answer) != 1 || got.Answer[0].Header().Name != name {
				t.Errorf("found %v", got)
			}
		}(i)
	}
	time.Sleep(50 * time.Millisecond)
	close(release)
	all.Wait()
	if n := upstream.asked.Load(); n != 1 {
		t.Errorf("upstream was asked %d times, wanted once", n)
	}
}

func TestOutstandingBound(t *testing.T) {
	release := make(chan struct{})
	upstream := startResolver(t, func(w dns.ResponseWriter, m *dns.Msg) {
		<-release
		w.WriteMsg(answerWith(m, m.Question[0].Name+" 60 A 192.0.2.1"))
	})
	s, _ := offline(Config{MaxOutstanding: 4}, upstream)
	rcodes := make(chan int, 20)
	for i := 0; i < cap(rcodes); i++ {
		go func(i int) {
			rcodes <- exchange(t, s, asking(fmt.Sprint(i, ".example.org."), dns.TypeA), false).Rcode
		}(i)
	}
	for i := 0; i < 16; i++ { // those beyond the bound do not wait
		if rcode := <-rcodes; rcode != dns.RcodeServerFailure {
			t.Fatalf("found %s while four were on their way", dns.RcodeToString[rcode])
		}
	}
	if got := s.Stats(); got.Outstanding != 4 || got.Overloaded != 16 || got.Entries != 0 {
		t.Errorf("found %+v", got)
	}
	close(release)
	for i := 0; i < 4; i++ {
		if rcode := <-rcodes; rcode != dns.RcodeSuccess {
			t.Errorf("found %s", dns.RcodeToString[rcode])
		}
	}
}

func TestSetUpstreams(t *testing.T) {
	one, two := startResolver(t, answering("x.example.org. 60 A 192.0.2.1")), startResolver(t, answering("x.example.org. 60 A 192.0.2.2"))
	s, _ := offline(Config{}, one)
	ask := func() string {
		return exchange(t, s, asking("x.example.org.", dns.TypeA), false).Answer[0].(*dns.A).A.String()
	}
	ask()
	s.SetUpstreams([]netip.AddrPort{one.address})
	if got := ask(); got != "192.0.2.1" || one.asked.Load() != 1 {
		t.Errorf("the same resolvers: found %s, asked %d times", got, one.asked.Load())
	}
	s.SetUpstreams([]netip.AddrPort{two.address})
	if got := ask(); got != "192.0.2.2" {
		t.Errorf("another resolver: found %s, the first one's answer", got)
	}
}

func TestDialIsInjected(t *testing.T) {
	upstream := startResolver(t, answering("x.example.org. 60 A 192.0.2.1"))
	var dialed []string
	s, _ := offline(Config{
		Upstreams: Port53([]netip.Addr{netip.MustParseAddr("192.0.2.53")}),
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			dialed = append(dialed, network+" "+address)
			return new(net.Dialer).DialContext(ctx, network, upstream.address.String())
		},
	})
	got := exchange(t, s, asking("x.example.org.", dns.TypeA), false)
	if len(got.Answer) != 1 || len(dialed) != 1 || dialed[0] != "udp 192.0.2.53:53" {
		t.Errorf("found %v, dialed %q", got, dialed)
	}
}
