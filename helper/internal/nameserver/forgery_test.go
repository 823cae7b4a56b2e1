package nameserver

import (
	"net"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

const (
	genuine = "x.example.org. 60 A 192.0.2.1"
	forged  = "x.example.org. 60 A 192.0.2.66"
)

// TestForgedAnswers sends wrong answers before the right one.
func TestForgedAnswers(t *testing.T) {
	lie := func(m *dns.Msg, edit func(out *dns.Msg)) []byte {
		out := answerWith(m, forged)
		edit(out)
		wire, err := out.Pack()
		if err != nil {
			panic(err)
		}
		return wire
	}
	for _, test := range []struct {
		about   string
		forge   func(m *dns.Msg) []byte
		skipped uint64
	}{
		{"wrong ID", func(m *dns.Msg) []byte { return lie(m, func(out *dns.Msg) { out.Id++ }) }, 1},
		{"another name", func(m *dns.Msg) []byte {
			return lie(m, func(out *dns.Msg) { out.Question[0].Name = "y.example.org." })
		}, 1},
		{"another type", func(m *dns.Msg) []byte {
			return lie(m, func(out *dns.Msg) { out.Question[0].Qtype = dns.TypeAAAA })
		}, 1},
		{"another class", func(m *dns.Msg) []byte {
			return lie(m, func(out *dns.Msg) { out.Question[0].Qclass = dns.ClassCHAOS })
		}, 1},
		{"no question", func(m *dns.Msg) []byte { return lie(m, func(out *dns.Msg) { out.Question = nil }) }, 1},
		{"two questions", func(m *dns.Msg) []byte {
			return lie(m, func(out *dns.Msg) { out.Question = append(out.Question, out.Question[0]) })
		}, 1},
		{"no answer at all", func(m *dns.Msg) []byte { return lie(m, func(out *dns.Msg) { out.Response = false }) }, 1},
		{"another opcode", func(m *dns.Msg) []byte {
			return lie(m, func(out *dns.Msg) { out.Opcode = dns.OpcodeNotify })
		}, 1},
		{"cut short", func(m *dns.Msg) []byte { w := lie(m, func(*dns.Msg) {}); return w[:len(w)-2] }, 1},
		{"a record less than promised", func(m *dns.Msg) []byte {
			w := lie(m, func(*dns.Msg) {})
			w[7]++
			return w
		}, 1},
		{"too short for a header", func(m *dns.Msg) []byte { return []byte{0, 1, 2} }, 1},
	} {
		t.Run(test.about, func(t *testing.T) {
			upstream := startResolver(t, func(w dns.ResponseWriter, m *dns.Msg) {
				w.Write(test.forge(m.Copy()))
				w.WriteMsg(answerWith(m, genuine))
			})
			s, _ := offline(Config{}, upstream)
			got := exchange(t, s, asking("x.example.org.", dns.TypeA), false)
			if len(got.Answer) != 1 || got.Answer[0].(*dns.A).A.String() != "192.0.2.1" {
				t.Errorf("found %v", got)
			}
			if n := s.Stats().Forged; n != test.skipped || upstream.asked.Load() != 1 {
				t.Errorf("skipped %d datagrams, wanted %d; asked %d times", n, test.skipped, upstream.asked.Load())
			}
		})
	}
}

// TestForgedSource has the right ID and the right question, from the wrong port.
func TestForgedSource(t *testing.T) {
	upstream := startResolver(t, func(w dns.ResponseWriter, m *dns.Msg) {
		stranger, err := net.Dial("udp", w.RemoteAddr().String())
		if err != nil {
			t.Error(err)
			return
		}
		defer stranger.Close()
		wire, _ := answerWith(m, forged).Pack()
		stranger.Write(wire)
		time.Sleep(20 * time.Millisecond)
		w.WriteMsg(answerWith(m, genuine))
	})
	s, _ := offline(Config{}, upstream)
	got := exchange(t, s, asking("x.example.org.", dns.TypeA), false)
	if len(got.Answer) != 1 || got.Answer[0].(*dns.A).A.String() != "192.0.2.1" || s.Stats().Forged != 0 {
		t.Errorf("found %v, %d datagrams seen", got, s.Stats().Forged)
	}
}

// TestFloodOfForgedAnswers moves the question to TCP.
func TestFloodOfForgedAnswers(t *testing.T) {
	upstream := startResolver(t, func(w dns.ResponseWriter, m *dns.Msg) {
		if w.LocalAddr().Network() == "tcp" {
			w.WriteMsg(answerWith(m, genuine))
			return
		}
		out := answerWith(m, forged)
		for i := 0; i < 5*maxForged; i++ {
			out.Id++
			w.WriteMsg(out)
		}
	})
	s, _ := offline(Config{}, upstream)
	got := exchange(t, s, asking("x.example.org.", dns.TypeA), false)
	if len(got.Answer) != 1 || got.Answer[0].(*dns.A).A.String() != "192.0.2.1" || upstream.overTCP.Load() != 1 {
		t.Errorf("found %v, %d questions over TCP", got, upstream.overTCP.Load())
	}
	if n := s.Stats().Forged; n != maxForged {
		t.Errorf("skipped %d datagrams, wanted %d", n, maxForged)
	}
}

// TestBailiwick tries to plant records of other names by way of one answer.
func TestBailiwick(t *testing.T) {
	upstream := startResolver(t, func(w dns.ResponseWriter, m *dns.Msg) {
		if m.Question[0].Name != "evil.example." {
			w.WriteMsg(answerWith(m, m.Question[0].Name+" 60 A 192.0.2.1"))
			return
		}
		out := answerWith(m, "evil.example. 60 CNAME alice.example.com.", "alice.example.com. 60 A 192.0.2.66", "bank.example. 60 A 192.0.2.66")
		out.Ns = []dns.RR{rr("example. 60 NS ns.bank.example.")}
		out.Extra = []dns.RR{rr("ns.bank.example. 60 A 192.0.2.66"), rr("nas.example.com. 60 A 192.0.2.66")}
		w.WriteMsg(out)
	})
	s, _ := offline(Config{}, upstream)
	got := exchange(t, s, asking("evil.example.", dns.TypeA), false)
	if owners := ownersAndTypes(got); owners != "evil.example. CNAME, alice.example.com. A" || got.Answer[1].(*dns.A).A.String() != "10.31.128.1" || len(got.Extra) != 0 {
		t.Errorf("found %v", got)
	}
	for name, want := range map[string]string{
		"alice.example.com.": "10.31.128.1", "nas.example.com.": "10.31.0.254",
		"bank.example.": "192.0.2.1", "ns.bank.example.": "192.0.2.1",
	} {
		got := exchange(t, s, asking(name, dns.TypeA), false)
		if len(got.Answer) != 1 || got.Answer[0].(*dns.A).A.String() != want {
			t.Errorf("%s: found %v, wanted %s", name, got.Answer, want)
		}
	}
}

// TestPortsAndIDs holds that both change with each question.
func TestPortsAndIDs(t *testing.T) {
	var mu sync.Mutex
	ports, ids := map[string]bool{}, map[uint16]bool{}
	upstream := startResolver(t, func(w dns.ResponseWriter, m *dns.Msg) {
		mu.Lock()
		ports[w.RemoteAddr().String()], ids[m.Id] = true, true
		mu.Unlock()
		w.WriteMsg(answerWith(m, m.Question[0].Name+" 0 A 192.0.2.1"))
	})
	s, _ := offline(Config{}, upstream)
	const n = 200
	for i := 0; i < n; i++ {
		exchange(t, s, asking("x.example.org.", dns.TypeA), false)
	}
	mu.Lock()
	defer mu.Unlock()
	// Chance repeats some: 200 of 28,000 ports, 200 of 65,536 IDs.
	if len(ports) < n-20 || len(ids) < n-10 {
		t.Errorf("found %d ports and %d IDs in %d questions", len(ports), len(ids), n)
	}
}
