package nameserver

import (
	"net/netip"
	"testing"

	"github.com/miekg/dns"
)

// TestEachQuestionIsCountedOnce: the results that are counted are all there are.
func TestEachQuestionIsCountedOnce(t *testing.T) {
	upstream := startResolver(t, answering("www.example.org. 300 IN A 192.0.2.1"))
	s, _ := offline(Config{}, upstream)
	chaos := asking("version.bind.", dns.TypeTXT)
	chaos.Question[0].Qclass = dns.ClassCHAOS
	alone := asking("www.example.org.", dns.TypeA)
	alone.RecursionDesired = false
	transfer := asking("example.org.", dns.TypeAXFR)
	for _, q := range []*dns.Msg{chaos, alone, transfer, asking("www.example.org.", dns.TypeA), asking("www.example.org.", dns.TypeA)} {
		exchange(t, s, q, false)
	}
	s.answer([]byte("no question"), netip.MustParseAddr("10.30.0.1"), false)
	got := s.Stats()
	if got.Declined != 3 || got.Upstream != 1 || got.CacheHits != 1 || got.Malformed != 1 || got.Queries != 6 {
		t.Errorf("found %+v, wanted three declined, one that goes upstream, one cached, one malformed", got)
	}
}
