package nameserver

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// TestHandling walks through what becomes of each kind of message before
// anybody upstream is asked.
func TestHandling(t *testing.T) {
	s, _ := offline(Config{})
	a := func() *dns.Msg { return asking("alice.example.com.", dns.TypeA) }
	edit := func(f func(m *dns.Msg)) func() []byte {
		return func() []byte {
			m := a()
			m.Id = 77
			f(m)
			packet, err := m.Pack()
			if err != nil {
				panic(err)
			}
			return packet
		}
	}
	const nothing = -1
	for _, test := range []struct {
		about  string
		packet func() []byte
		want   int // rcode
	}{
		{"question", edit(func(*dns.Msg) {}), dns.RcodeSuccess},
		{"empty", func() []byte { return nil }, nothing},
		{"less than a header", func() []byte { return make([]byte, 11) }, nothing},
		{"an answer", edit(func(m *dns.Msg) { m.Response = true }), nothing},
		{"NOTIFY", edit(func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify }), dns.RcodeNotImplemented},
		{"UPDATE", edit(func(m *dns.Msg) { m.Opcode = dns.OpcodeUpdate }), dns.RcodeNotImplemented},
		{"opcode that does not exist", edit(func(m *dns.Msg) { m.Opcode = 15 }), dns.RcodeNotImplemented},
		{"no question", edit(func(m *dns.Msg) { m.Question = nil }), dns.RcodeFormatError},
		{"two questions", edit(func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) }), dns.RcodeFormatError},
		{"a record in the answer", edit(func(m *dns.Msg) { m.Answer = []dns.RR{rr("a. A 1.2.3.4")} }), dns.RcodeFormatError},
		{"a record in the authority", edit(func(m *dns.Msg) { m.Ns = []dns.RR{rr("a. A 1.2.3.4")} }), dns.RcodeFormatError},
		{"a header alone", func() []byte { p := edit(func(*dns.Msg) {})(); return p[:12] }, dns.RcodeFormatError},
		{"cut short", func() []byte { p := edit(func(*dns.Msg) {})(); return p[:len(p)-1] }, dns.RcodeFormatError},
		{"pointer to itself", func() []byte { return append(edit(func(*dns.Msg) {})()[:12], 0xc0, 12, 0, 1, 0, 1) }, dns.RcodeFormatError},
		{"two OPT", edit(func(m *dns.Msg) { m.SetEdns0(1232, false).SetEdns0(1232, false) }), dns.RcodeFormatError},
		{"OPT with a name", edit(func(m *dns.Msg) { m.SetEdns0(1232, false).Extra[0].Header().Name = "x." }), dns.RcodeFormatError},
		{"EDNS version 1", edit(func(m *dns.Msg) { m.SetEdns0(1232, false).IsEdns0().SetVersion(1) }), dns.RcodeBadVers},
		{"class CHAOS", edit(func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS }), dns.RcodeRefused},
		{"class ANY", edit(func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassANY }), dns.RcodeRefused},
		{"AXFR", edit(func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeAXFR }), dns.RcodeRefused},
		{"IXFR", edit(func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeIXFR }), dns.RcodeRefused},
		{"OPT as a type", edit(func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeOPT }), dns.RcodeRefused},
		{"type 0", edit(func(m *dns.Msg) { m.Question[0].Qtype = 0 }), dns.RcodeRefused},
		{"no recursion wanted, private", edit(func(m *dns.Msg) { m.RecursionDesired = false }), dns.RcodeSuccess},
		{"no recursion wanted", edit(func(m *dns.Msg) {
			m.RecursionDesired, m.Question[0].Name = false, "example.org."
		}), dns.RcodeRefused},
		{"no upstream resolver", edit(func(m *dns.Msg) { m.Question[0].Name = "example.org." }), dns.RcodeServerFailure},
	} {
		t.Run(test.about, func(t *testing.T) {
			out, q := s.answer(test.packet(), inside, false)
			if q != nil {
				out = s.wait(context.Background(), q)
			}
			if out == nil {
				if test.want != nothing {
					t.Fatalf("found no answer, wanted %s", dns.RcodeToString[test.want])
				}
				return
			}
			var m dns.Msg
			if err := m.Unpack(out); err != nil {
				t.Fatal(err)
			}
			if m.Rcode != test.want || !m.Response || m.Id != 77 {
				t.Errorf("found\n%v\nwanted rcode %s", &m, dns.RcodeToString[test.want])
			}
		})
	}
}

func TestPrivateAnswer(t *testing.T) {
	s, _ := offline(Config{})
	for _, edns := range []bool{false, true} {
		t.Run(fmt.Sprint("EDNS ", edns), func(t *testing.T) {
			m := asking("aLiCe.eXaMpLe.CoM.", dns.TypeA)
			m.CheckingDisabled = true
			if edns {
				m.SetEdns0(4096, true)
			}
			got := exchange(t, s, m, false)
			if !got.Authoritative || !got.RecursionAvailable || !got.RecursionDesired || !got.CheckingDisabled || got.AuthenticatedData || got.Truncated {
				t.Errorf("flags: %v", got.MsgHdr)
			}
			if got.Question[0].Name != "aLiCe.eXaMpLe.CoM." || got.Answer[0].String() != "aLiCe.eXaMpLe.CoM.\t60\tIN\tA\t10.31.128.1" {
				t.Errorf("found %v", got)
			}
			opt := got.IsEdns0()
			if (opt != nil) != edns {
				t.Fatalf("OPT: found %v", opt)
			}
			if edns && (!opt.Do() || opt.UDPSize() != ednsUDPBytes || opt.Version() != 0 || len(opt.Option) != 0) {
				t.Errorf("OPT: found %v", opt)
			}
		})
	}
	t.Run("NODATA", func(t *testing.T) {
		got := exchange(t, s, asking("Alice.example.com.", dns.TypeAAAA), false)
		want := "alice.example.com.\t60\tIN\tSOA\talice.example.com. nobody.invalid. 1700000000 3600 1200 604800 60"
		if len(got.Answer) != 0 || len(got.Ns) != 1 || !strings.EqualFold(got.Ns[0].String(), want) || !got.Authoritative {
			t.Errorf("found %v", got)
		}
	})
	t.Run("every type stays inside", func(t *testing.T) {
		for qtype := 1; qtype <= 65535; qtype++ {
			q := &query{question: question{name: "alice.example.com.", qtype: uint16(qtype)}, class: dns.ClassINET, rd: true}
			q.spelled, q.limit = []byte("\x05alice\x07example\x03com\x00"), plainUDPBytes
			if out, wait := s.answerQuery(q); out == nil || wait != nil {
				t.Fatalf("type %d would be forwarded", qtype)
			}
		}
	})
}

func TestBeforeSetZone(t *testing.T) {
	upstream := startResolver(t, answering("alice.example.com. A 192.0.2.66"))
	s := New(Config{Upstreams: []netip.AddrPort{upstream.address}}, silent)
	if got := exchange(t, s, asking("alice.example.com.", dns.TypeA), false); got.Rcode != dns.RcodeServerFailure || upstream.asked.Load() != 0 {
		t.Errorf("found %v", got)
	}
}

// TestSizes holds that no answer is larger than its client takes, and that a
// cut one says so.
func TestSizes(t *testing.T) {
	var records []string
	for i := 0; i < 100; i++ {
		records = append(records, fmt.Sprintf("large.example.org. 300 A 192.0.2.%d", i))
	}
	// 100 A records with compressed names take 1600 bytes, 40 of them 640.
	small := startResolver(t, answering(records[:40]...))
	large := startResolver(t, answering(records...))
	for _, test := range []struct {
		about     string
		upstream  *resolver
		edns      uint16
		tcp       bool
		truncated bool
		answers   int
	}{
		{"640 bytes without EDNS", small, 0, false, true, 0},
		{"640 bytes, 512 asked", small, 512, false, true, 0},
		{"640 bytes, 1 asked, 512 is the least", small, 1, false, true, 0},
		{"640 bytes, 1232 asked", small, 1232, false, false, 40},
		{"640 bytes over TCP", small, 0, true, false, 40},
		{"1600 bytes, 4096 asked, 1232 is the most", large, 4096, false, true, 0},
		{"1600 bytes over TCP", large, 0, true, false, 100},
	} {
		t.Run(test.about, func(t *testing.T) {
			s := start(t, Config{}, test.upstream)
			m := asking("large.example.org.", dns.TypeA)
			if test.edns > 0 {
				m.SetEdns0(test.edns, false)
			}
			transport := "udp"
			if test.tcp {
				transport = "tcp"
			}
			for _, from := range []string{"upstream", "cache"} {
				got := s.ask(t, transport, m)
				if got.Truncated != test.truncated || len(got.Answer) != test.answers || got.Rcode != dns.RcodeSuccess {
					t.Errorf("from %s: found TC %v and %d answers, wanted %v and %d", from, got.Truncated, len(got.Answer), test.truncated, test.answers)
				}
			}
			if hits := s.Stats().CacheHits; hits != 1 {
				t.Errorf("found %d cache hits, wanted 1", hits)
			}
		})
	}
}

func TestAge(t *testing.T) {
	q := question{name: "a.example.", qtype: dns.TypeA}
	wire, err := pack(q, 0, []dns.RR{rr("a.example. 100 CNAME b.example."), rr("b.example. 30 A 192.0.2.1")}, []dns.RR{rr("example. 60 SOA . . 1 2 3 4 5")})
	if err != nil {
		t.Fatal(err)
	}
	aged := append([]byte(nil), wire...)
	age(aged, headerBytes+len("\x01a\x07example\x00")+4, 45)
	var m dns.Msg
	if err := m.Unpack(aged); err != nil {
		t.Fatal(err)
	}
	for i, want := range []uint32{55, 0, 15} {
		if got := append(m.Answer, m.Ns...)[i].Header().Ttl; got != want {
			t.Errorf("record %d: found TTL %d, wanted %d", i, got, want)
		}
	}
	for n := headerBytes; n < len(wire); n++ { // cut anywhere: no panic
		age(append([]byte(nil), wire[:n]...), headerBytes, 1)
	}
	q.name = "." // nothing to age
	(&query{question: q, spelled: []byte{0}, limit: 512}).finish(reply{packEmpty(q, 0), time.Unix(1, 0)}, time.Unix(9, 0))
}
