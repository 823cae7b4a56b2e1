package nameserver

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

func TestDistill(t *testing.T) {
	const (
		soa  = "example.org. 900 SOA ns.example.org. x.example.org. 1 2 3 4 120"
		sigA = "www.example.org. 100 RRSIG A 8 3 100 20300101000000 20200101000000 1 example.org. AAAA"
		nsec = "example.org. 100 NSEC a.example.org. A"
	)
	for _, test := range []struct {
		about     string
		qtype     uint16
		do        bool
		rcode     int
		answer    []string
		authority []string
		want      string // the rcode if it is an error, the records as "owner type", "|" before the authority
		ttl       time.Duration
		err       error
	}{
		{about: "address", qtype: dns.TypeA, answer: []string{"www.example.org. 100 A 192.0.2.1"}, want: "www.example.org. A", ttl: 100 * time.Second},
		{about: "the shortest TTL counts", qtype: dns.TypeA, answer: []string{"www.example.org. 100 A 192.0.2.1", "www.example.org. 7 A 192.0.2.2"},
			want: "www.example.org. A, www.example.org. A", ttl: 7 * time.Second},
		{about: "TTL 0", qtype: dns.TypeA, answer: []string{"www.example.org. 0 A 192.0.2.1"}, want: "www.example.org. A"},
		{about: "TTL too long", qtype: dns.TypeA, answer: []string{"www.example.org. 604800 A 192.0.2.1"}, want: "www.example.org. A", ttl: time.Hour},
		{about: "TTL with the highest bit", qtype: dns.TypeA, answer: []string{"www.example.org. 4294967295 A 192.0.2.1"}, want: "www.example.org. A"},
		{about: "another spelling", qtype: dns.TypeA, answer: []string{"WWW.example.ORG. 100 A 192.0.2.1"}, want: "www.example.org. A", ttl: 100 * time.Second},
		{about: "chain, out of order", qtype: dns.TypeA, answer: []string{"c.example. 9 A 192.0.2.1", "b.example. 8 CNAME C.example.", "www.example.org. 100 CNAME b.example."},
			want: "c.example. A, b.example. CNAME, www.example.org. CNAME", ttl: 8 * time.Second},
		{about: "chain in a circle", qtype: dns.TypeA, answer: []string{"b.example. 8 CNAME www.example.org.", "www.example.org. 100 CNAME b.example."},
			want: "b.example. CNAME, www.example.org. CNAME"},
		{about: "CNAME asked for", qtype: dns.TypeCNAME, answer: []string{"www.example.org. 100 CNAME b.example.", "b.example. 1 CNAME c.example."},
			want: "www.example.org. CNAME", ttl: 100 * time.Second},
		{about: "ANY", qtype: dns.TypeANY, answer: []string{"www.example.org. 100 A 192.0.2.1", "www.example.org. 50 TXT x"}, want: "www.example.org. A, www.example.org. TXT", ttl: 50 * time.Second},
		{about: "DNAME", qtype: dns.TypeA, answer: []string{"example.org. 9 DNAME example.net.", "www.example.org. 9 CNAME www.example.net.", "www.example.net. 9 A 192.0.2.1", "com. 9 DNAME evil."},
			want: "example.org. DNAME, www.example.org. CNAME, www.example.net. A", ttl: 9 * time.Second},
		{about: "records of others are left out", qtype: dns.TypeA,
			answer:    []string{"www.example.org. 100 A 192.0.2.1", "bank.example. 100 A 192.0.2.66", "www.example.org. 100 TXT x", "www.example.org. 100 CH A 192.0.2.3"},
			authority: []string{"example.org. 100 NS ns.evil.", soa}, want: "www.example.org. A", ttl: 100 * time.Second},
		{about: "nothing but records of others", qtype: dns.TypeA, answer: []string{"bank.example. 100 A 192.0.2.66"}, err: errUnhelpful},
		{about: "referral", qtype: dns.TypeA, authority: []string{"org. 100 NS ns.org."}, err: errUnhelpful},
		{about: "SERVFAIL", qtype: dns.TypeA, rcode: dns.RcodeServerFailure, err: errUnhelpful},
		{about: "REFUSED", qtype: dns.TypeA, rcode: dns.RcodeRefused, err: errUnhelpful},
		{about: "NXDOMAIN", qtype: dns.TypeA, rcode: dns.RcodeNameError, authority: []string{soa}, want: "NXDOMAIN | example.org. SOA", ttl: 120 * time.Second},
		{about: "NXDOMAIN, minimum too long", qtype: dns.TypeA, rcode: dns.RcodeNameError, authority: []string{strings.Replace(soa, " 120", " 900", 1)}, want: "NXDOMAIN | example.org. SOA", ttl: 5 * time.Minute},
		{about: "NXDOMAIN without SOA", qtype: dns.TypeA, rcode: dns.RcodeNameError, want: "NXDOMAIN"},
		{about: "NXDOMAIN with an SOA of others", qtype: dns.TypeA, rcode: dns.RcodeNameError, authority: []string{"example.com. 900 SOA . . 1 2 3 4 120"}, want: "NXDOMAIN"},
		{about: "NXDOMAIN at the end of a chain", qtype: dns.TypeA, rcode: dns.RcodeNameError, answer: []string{"www.example.org. 100 CNAME b.example."},
			authority: []string{"example. 60 SOA . . 1 2 3 4 120"}, want: "NXDOMAIN www.example.org. CNAME | example. SOA", ttl: 60 * time.Second},
		{about: "NODATA", qtype: dns.TypeAAAA, authority: []string{soa}, want: "| example.org. SOA", ttl: 120 * time.Second},
		{about: "NODATA without SOA", qtype: dns.TypeAAAA},
		{about: "chain to a private name", qtype: dns.TypeA, rcode: dns.RcodeNameError, answer: []string{"www.example.org. 100 CNAME Alice.example.com.", "alice.example.com. 9 A 192.0.2.66"},
			authority: []string{"example.com. 60 SOA . . 1 2 3 4 120"}, want: "www.example.org. CNAME, alice.example.com. A", ttl: 60 * time.Second},
		{about: "chain to a private name without such a record", qtype: dns.TypeMX, answer: []string{"www.example.org. 100 CNAME alice.example.com.", "alice.example.com. 9 MX 1 evil.example."},
			want: "www.example.org. CNAME | alice.example.com. SOA", ttl: 60 * time.Second},
		{about: "chain into a private reverse zone", qtype: dns.TypePTR, answer: []string{"www.example.org. 100 CNAME 9.9.31.10.in-addr.arpa.", "9.9.31.10.in-addr.arpa. 9 PTR evil.example."},
			want: "NXDOMAIN www.example.org. CNAME | 31.10.in-addr.arpa. SOA", ttl: 60 * time.Second},
		{about: "signed, wanted", qtype: dns.TypeA, do: true, answer: []string{"www.example.org. 100 A 192.0.2.1", sigA}, authority: []string{nsec, "example.org. 9 NS ns."},
			want: "www.example.org. A, www.example.org. RRSIG | example.org. NSEC", ttl: 100 * time.Second},
		{about: "signed, not wanted", qtype: dns.TypeA, answer: []string{"www.example.org. 100 A 192.0.2.1", sigA}, authority: []string{nsec},
			want: "www.example.org. A", ttl: 100 * time.Second},
	} {
		t.Run(test.about, func(t *testing.T) {
			q := question{name: "www.example.org.", qtype: test.qtype, do: test.do}
			m := &dns.Msg{MsgHdr: dns.MsgHdr{Rcode: test.rcode}}
			for _, text := range test.answer {
				m.Answer = append(m.Answer, rr(text))
			}
			for _, text := range test.authority {
				m.Ns = append(m.Ns, rr(text))
			}
			d, err := distiller{newZone(testDocument()), time.Hour, 5 * time.Minute}.distill(m, q)
			if !errors.Is(err, test.err) {
				t.Fatalf("found error %v, wanted %v", err, test.err)
			}
			if err != nil {
				return
			}
			var got dns.Msg
			if err := got.Unpack(d.wire); err != nil {
				t.Fatal(err)
			}
			owners := ownersAndTypes(&got)
			if got.Rcode != dns.RcodeSuccess {
				owners = strings.TrimSpace(dns.RcodeToString[got.Rcode] + " " + owners)
			}
			if owners != test.want || d.ttl != test.ttl || strings.Contains(got.String(), "evil") || strings.Contains(got.String(), ".66") {
				t.Errorf("found %q for %v, wanted %q for %v", owners, d.ttl, test.want, test.ttl)
			}
		})
	}
}

func ownersAndTypes(m *dns.Msg) string {
	list := func(records []dns.RR) string {
		var all []string
		for _, record := range records {
			all = append(all, record.Header().Name+" "+dns.TypeToString[record.Header().Rrtype])
		}
		return strings.Join(all, ", ")
	}
	out := list(m.Answer)
	if len(m.Ns) > 0 {
		out = strings.TrimSpace(out + " | " + list(m.Ns))
	}
	return out
}
