package nameserver

import (
	"errors"
	"time"

	"github.com/miekg/dns"
)

// maxChain is how many CNAMEs are followed inside one answer.
const maxChain = 16

// errUnhelpful says that an upstream resolver answered, but not the question:
// another one may do better.
var errUnhelpful = errors.New("the upstream resolver has no answer")

// distilled is what is left of an upstream resolver's answer.
type distilled struct {
	wire []byte
	ttl  time.Duration // how long it may be kept; 0: not at all
}

// distiller knows what goes into an answer besides what upstream says.
type distiller struct {
	zone                   *zone
	maxTTL, maxNegativeTTL time.Duration
}

// distill reduces an upstream resolver's answer to what it says about the
// question: the chain of CNAMEs from its name, the records at those names, the
// SOA of a negative answer, with DO also signatures and denials. Where the
// chain reaches a name that is answered here, the zone has the word, so that no
// cache behind us learns a private name's address from upstream; nor does it learn
// that a name above a private one does not exist. No TTL in the
// result is longer than maxTTL, nor than maxNegativeTTL in a negative answer.
// An answer that is none is errUnhelpful.
func (d distiller) distill(r *dns.Msg, q question) (distilled, error) {
	if r.Rcode != dns.RcodeSuccess && r.Rcode != dns.RcodeNameError {
		return distilled{}, errUnhelpful
	}
	names, last := chain(r.Answer, q, d.zone)
	records := relevant(r.Answer, q, names)
	rcode, authority := r.Rcode, r.Ns
	if ours, ok := d.zone.lookup(last, q.qtype); ok {
		rcode, authority, records = ours.rcode, nil, append(records, ours.records...)
		if ours.soa != nil {
			authority = []dns.RR{ours.soa}
		}
	}
	proven := q // by the records that the authority section may have
	if rcode == dns.RcodeNameError && d.zone.parents[last] {
		rcode, proven.do = dns.RcodeSuccess, false
	}
	negative := rcode == dns.RcodeNameError || !answers(records, q)
	authority, soa := denial(authority, proven, last, negative)
	if rcode == dns.RcodeSuccess && len(records) == 0 && soa == nil && (len(r.Answer) > 0 || refers(r.Ns)) {
		return distilled{}, errUnhelpful // a referral, or records nobody asked for
	}
	ttl := capTTLs(d.limit(negative, soa), records, authority)
	if negative && soa == nil {
		ttl = 0
	}
	wire, err := pack(q, uint16(rcode), records, authority)
	// A record without data can be unpacked and packed again, but not read.
	if err != nil || !unpackWhole(new(dns.Msg), wire) {
		return distilled{}, errUnhelpful
	}
	return distilled{wire, ttl}, nil
}

// limit returns the longest TTL in an answer (for a negative one: RFC 2308
// section 5).
func (d distiller) limit(negative bool, soa *dns.SOA) time.Duration {
	limit := d.maxTTL
	if negative {
		limit = min(limit, d.maxNegativeTTL)
	}
	if soa != nil {
		limit = min(limit, time.Duration(soa.Minttl)*time.Second)
	}
	return limit
}

// chain returns the names that the CNAMEs lead to from the question's name,
// itself among them, and the last of them. It ends at a name that is answered
// here; that one is only last.
func chain(records []dns.RR, q question, z *zone) (names map[string]bool, last string) {
	names, last = map[string]bool{q.name: true}, q.name
	if q.qtype == dns.TypeCNAME || q.qtype == dns.TypeANY {
		return names, last
	}
	targets := map[string]string{}
	for _, rr := range records {
		if c, ok := rr.(*dns.CNAME); ok && c.Hdr.Class == dns.ClassINET {
			targets[dns.CanonicalName(c.Hdr.Name)] = dns.CanonicalName(c.Target)
		}
	}
	for len(names) <= maxChain {
		next, ok := targets[last]
		if !ok || names[next] {
			break
		}
		last = next
		if _, ours := z.lookup(next, dns.TypeSOA); ours {
			break
		}
		names[next] = true
	}
	return names, last
}

// relevant returns the records of the answer section that belong to the
// question. The question's own name is spelled as in the question, so that
// packing makes it a pointer there.
func relevant(records []dns.RR, q question, names map[string]bool) []dns.RR {
	var kept []dns.RR
	for _, rr := range records {
		h := rr.Header()
		owner := dns.CanonicalName(h.Name)
		t := h.Rrtype
		if sig, ok := rr.(*dns.RRSIG); ok && q.do {
			t = sig.TypeCovered
		}
		wanted := t == q.qtype || h.Rrtype == q.qtype || t == dns.TypeCNAME || q.qtype == dns.TypeANY && !isMeta(t)
		belongs := names[owner] && wanted || t == dns.TypeDNAME && aboveAny(owner, names)
		if h.Class != dns.ClassINET || !belongs {
			continue
		}
		if owner == q.name {
			h.Name = q.name
		}
		kept = append(kept, rr)
	}
	return kept
}

// aboveAny reports that a DNAME at owner redirects one of the names.
func aboveAny(owner string, names map[string]bool) bool {
	for name := range names {
		if name != owner && dns.IsSubDomain(owner, name) {
			return true
		}
	}
	return false
}

// answers reports that there is a record of the type asked for.
func answers(records []dns.RR, q question) bool {
	for _, rr := range records {
		if t := rr.Header().Rrtype; t == q.qtype || q.qtype == dns.TypeANY {
			return true
		}
	}
	return false
}

// denial returns what of the authority section goes to the client: the SOA of
// a negative answer, which must stand at or above the last name of the chain,
// and with DO the proof of what does not exist.
func denial(records []dns.RR, q question, last string, negative bool) (kept []dns.RR, soa *dns.SOA) {
	for _, rr := range records {
		h := rr.Header()
		if h.Class != dns.ClassINET {
			continue
		}
		switch rr := rr.(type) {
		case *dns.SOA:
			if negative && soa == nil && dns.IsSubDomain(h.Name, last) {
				soa = rr
				kept = append(kept, rr)
			}
		case *dns.NSEC, *dns.NSEC3:
			if q.do {
				kept = append(kept, rr)
			}
		case *dns.RRSIG:
			t := rr.TypeCovered
			if q.do && (t == dns.TypeNSEC || t == dns.TypeNSEC3 || t == dns.TypeSOA && negative) {
				kept = append(kept, rr)
			}
		}
	}
	return kept, soa
}

// refers reports that the authority section sends us elsewhere.
func refers(records []dns.RR) bool {
	for _, rr := range records {
		if rr.Header().Rrtype == dns.TypeNS {
			return true
		}
	}
	return false
}

// capTTLs shortens each TTL to the limit and returns the shortest one, 0 if
// there are no records.
func capTTLs(limit time.Duration, sections ...[]dns.RR) time.Duration {
	shortest := uint32(limit / time.Second)
	limitSeconds, found := shortest, false
	for _, records := range sections {
		for _, rr := range records {
			h := rr.Header()
			if h.Ttl > 1<<31-1 { // RFC 2181 section 8
				h.Ttl = 0
			}
			h.Ttl = min(h.Ttl, limitSeconds)
			shortest, found = min(shortest, h.Ttl), true
		}
	}
	if !found {
		return 0
	}
	return time.Duration(shortest) * time.Second
}

// isMeta reports a type that stands for no data: OPT, those that only a
// question may have and those that manage a message (RFC 6895 section 3.1).
func isMeta(t uint16) bool {
	return t == dns.TypeNone || t == dns.TypeOPT || t >= 128 && t <= 255
}
