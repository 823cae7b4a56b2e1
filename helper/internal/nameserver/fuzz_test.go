package nameserver

import (
	"errors"
	"testing"
	"time"

	"github.com/miekg/dns"
)

func seeds(f *testing.F) {
	for _, m := range []*dns.Msg{
		asking("alice.example.com.", dns.TypeA), asking("1.128.31.10.in-addr.arpa.", dns.TypePTR),
		asking("x.example.org.", dns.TypeANY).SetEdns0(4096, true),
		answerWith(asking("x.example.org.", dns.TypeA), "x.example.org. 60 CNAME y.example.org.", "y.example.org. 9 A 192.0.2.1"),
	} {
		m.Id = 1
		wire, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(wire, false)
	}
}

// FuzzMessage hands arbitrary bytes to the server. No answer may be larger than
// the client takes, have another ID, or answer what is no query.
func FuzzMessage(f *testing.F) {
	seeds(f)
	s, _ := offline(Config{})
	f.Fuzz(func(t *testing.T, packet []byte, tcp bool) {
		if len(packet) > maxQueryBytes {
			return
		}
		out, q := s.answer(packet, inside, tcp)
		limit := plainUDPBytes
		if q != nil {
			limit = q.limit
			out = q.finish(reply{packEmpty(q.question, dns.RcodeSuccess), time.Unix(0, 0)}, s.now())
		} else if parsed, _ := parse(packet, tcp); parsed != nil {
			limit = parsed.limit
		}
		checkAnswer(t, packet, out, limit)
	})
}

func checkAnswer(t *testing.T, packet, out []byte, limit int) {
	if out == nil {
		if len(packet) >= headerBytes && be16(packet[2:])&flagQR == 0 {
			t.Fatal("a message that is no answer got none")
		}
		return
	}
	if be16(packet[2:])&flagQR != 0 || be16(out) != be16(packet) || len(out) > limit {
		t.Fatalf("found the answer %x", out)
	}
	var m dns.Msg
	if !unpackWhole(&m, out) || !m.Response {
		t.Fatalf("found an answer that is not well-formed: %x", out)
	}
}

// FuzzUpstream takes arbitrary bytes for an upstream resolver's answer. What
// comes out of them must be well-formed, say nothing about others, and let its
// TTLs be counted down.
func FuzzUpstream(f *testing.F) {
	seeds(f)
	d := distiller{newZone(testDocument()), time.Hour, time.Minute}
	f.Fuzz(func(t *testing.T, packet []byte, do bool) {
		var asked dns.Msg
		if asked.Unpack(packet) != nil || len(asked.Question) != 1 {
			return
		}
		asked.Extra = nil
		client, err := newQuery(&asked, true)
		if err != nil || isMeta(client.qtype) && client.qtype != dns.TypeANY {
			return
		}
		client.do, client.edns = do, do
		r, whole := match(packet, be16(packet), client.question)
		if r == nil || !whole {
			return
		}
		got, err := d.distill(r, client.question)
		if err != nil {
			if !errors.Is(err, errUnhelpful) {
				t.Fatal(err)
			}
			return
		}
		checkDistilled(t, client, got)
	})
}

func checkDistilled(t *testing.T, client *query, got distilled) {
	out := client.finish(reply{got.wire, time.Unix(0, 0)}, time.Unix(0, 0).Add(got.ttl))
	var before, after dns.Msg
	if !unpackWhole(&before, got.wire) || !unpackWhole(&after, out) {
		t.Fatalf("found an answer that is not well-formed: %x, %x", got.wire, out)
	}
	if got.ttl < 0 || got.ttl > time.Hour || len(before.Answer) != len(after.Answer) {
		t.Fatalf("found %v for %v", &after, got.ttl)
	}
	for i, record := range before.Answer {
		left, want := after.Answer[i].Header().Ttl, record.Header().Ttl-uint32(got.ttl/time.Second)
		if left != want || left > 3600 {
			t.Fatalf("found TTL %d, wanted %d", left, want)
		}
	}
}
