package nameserver

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/miekg/dns"

	"mobula/helper/internal/network"
)

// zoneTTLSeconds is the TTL of everything that is answered here, also of
// NODATA and NXDOMAIN: how long a changed document may go unnoticed.
const zoneTTLSeconds = 60

// zone holds the names that are answered here. It is immutable. All names are
// in lower case and end in a dot.
type zone struct {
	serial    uint32
	addresses map[string]netip.Addr
	pointers  map[string][]string // reverse name → private names
	// nonTerminals are the reverse names without records of their own above
	// those that have some: they exist (RFC 8020).
	nonTerminals map[string]bool
	// parents are the names above private ones. They exist, whatever an upstream
	// resolver knows: where a parent does not, nothing below it does (RFC 8020).
	parents map[string]bool
	// reverseApexes are the reverse zones that are answered here.
	reverseApexes []string
}

// newZone computes the zone of a valid document.
//
// The reverse of an address names everything that has this address, a host's
// own name first. The gateway and intrawire addresses of a host have no name
// of their own; their reverse is the host's name, so that traces and logs can
// be read, unless extra_hosts gives the gateway's address names.
func newZone(d *network.Document) *zone {
	z := &zone{
		serial:       uint32(d.Serial),
		addresses:    map[string]netip.Addr{},
		pointers:     map[string][]string{},
		nonTerminals: map[string]bool{},
		parents:      map[string]bool{},

		reverseApexes: []string{network.ReverseZone(d.Wire()) + ".", network.ReverseZone(d.Access()) + "."},
	}
	for _, apex := range z.reverseApexes {
		z.nonTerminals[apex] = true
	}
	for _, h := range d.Hosts {
		if d.HasAccessAddress(h.ID) {
			z.point(d.AccessAddress(h.ID), h.Hostname)
		}
		z.point(d.IntrawireAddress(h.ID), h.Hostname)
	}
	for _, p := range d.PrivateNames() {
		z.addresses[p.Name+"."] = p.Address
		z.own(p.Name + ".")
		z.point(p.Address, p.Name)
	}
	for _, h := range d.Hosts {
		if gateway := d.GatewayAddress(h.ID); z.pointers[reverseName(gateway)] == nil {
			z.point(gateway, h.Hostname)
		}
	}
	return z
}

// own notes the names above a private one.
func (z *zone) own(name string) {
	for _, above, _ := strings.Cut(name, "."); above != "" && !z.parents[above]; _, above, _ = strings.Cut(above, ".") {
		z.parents[above] = true
	}
}

// point makes name one of the reverse names of a.
func (z *zone) point(a netip.Addr, name string) {
	reverse, target := reverseName(a), strings.ToLower(name)+"."
	for _, known := range z.pointers[reverse] {
		if known == target {
			return
		}
	}
	z.pointers[reverse] = append(z.pointers[reverse], target)
	_, parent, _ := strings.Cut(reverse, ".")
	z.nonTerminals[parent] = true
}

// reverseName returns the name of an IPv4 address's PTR records (RFC 1035
// section 3.5).
func reverseName(a netip.Addr) string {
	b := a.As4()
	return fmt.Sprintf("%d.%d.%d.%d.in-addr.arpa.", b[3], b[2], b[1], b[0])
}

// answer is what a zone says to a question.
type answer struct {
	rcode   int
	records []dns.RR
	soa     dns.RR // for the authority section of NODATA and NXDOMAIN
}

// lookup answers a question of class IN. The name is in lower case and ends in
// a dot. It returns false for a name that others have to answer.
//
// Each private name stands as a zone of its own, so that the SOA in a negative
// answer claims nothing of the domain around it.
func (z *zone) lookup(name string, qtype uint16) (answer, bool) {
	if a, ok := z.addresses[name]; ok {
		record := &dns.A{Hdr: header(name, dns.TypeA), A: a.AsSlice()}
		return z.choose(name, name, qtype, record), true
	}
	for _, apex := range z.reverseApexes {
		// The cheap test first; it takes an escaped dot for a label's end.
		if strings.HasSuffix(name, apex) && dns.IsSubDomain(apex, name) {
			return z.reverse(apex, name, qtype), true
		}
	}
	return answer{}, false
}

func (z *zone) reverse(apex, name string, qtype uint16) answer {
	names := z.pointers[name]
	if names == nil && !z.nonTerminals[name] {
		return answer{rcode: dns.RcodeNameError, soa: z.soa(apex)}
	}
	records := make([]dns.RR, len(names))
	for i, target := range names {
		records[i] = &dns.PTR{Hdr: header(name, dns.TypePTR), Ptr: target}
	}
	return z.choose(apex, name, qtype, records...)
}

// choose picks what qtype asks for from the one RRset that name has and the
// SOA that the apex has. ANY gets one RRset (RFC 8482 section 4.1).
func (z *zone) choose(apex, name string, qtype uint16, records ...dns.RR) answer {
	switch {
	case len(records) > 0 && (qtype == dns.TypeANY || qtype == records[0].Header().Rrtype):
		return answer{records: records}
	case name == apex && (qtype == dns.TypeANY || qtype == dns.TypeSOA):
		return answer{records: []dns.RR{z.soa(apex)}}
	default:
		return answer{soa: z.soa(apex)}
	}
}

// soa returns the SOA of a zone that has no servers to transfer it from, with
// the values that RFC 6303 section 3 gives such zones, but for the TTL.
func (z *zone) soa(apex string) dns.RR {
	return &dns.SOA{
		Hdr: header(apex, dns.TypeSOA), Ns: apex, Mbox: "nobody.invalid.", Serial: z.serial,
		Refresh: 3600, Retry: 1200, Expire: 604800, Minttl: zoneTTLSeconds,
	}
}

func header(name string, rrtype uint16) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: rrtype, Class: dns.ClassINET, Ttl: zoneTTLSeconds}
}
