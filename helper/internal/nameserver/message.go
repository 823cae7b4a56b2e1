package nameserver

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/miekg/dns"
)

// Sizes of messages in bytes.
const (
	headerBytes = 12
	optBytes    = 11 // an OPT record without options
	// plainUDPBytes is what a client takes over UDP without EDNS (RFC 1035
	// section 4.2.1), and the least it takes with EDNS (RFC 6891 section 6.2.3).
	plainUDPBytes = 512
	// ednsUDPBytes is the largest message sent or asked for over UDP: it is
	// carried without fragments on every path of 1280 bytes.
	ednsUDPBytes = 1232
	// maxQueryBytes is the largest query that is read. One with a name of 255
	// bytes and the options in use takes less than 600.
	maxQueryBytes = 4096
	maxTCPBytes   = 65535
)

// Bits of the second 16-bit word of the header (RFC 1035 section 4.1.1, RFC
// 4035 section 3.2.2).
const (
	flagQR     = 1 << 15
	maskOpcode = 15 << 11
	flagAA     = 1 << 10
	flagTC     = 1 << 9
	flagRD     = 1 << 8
	flagRA     = 1 << 7
	flagCD     = 1 << 4
	maskRcode  = 15
)

// question is what is asked, and the key of the cache: answers differ by DO and
// CD. The class is IN.
type question struct {
	name   string // lower case, with the final dot
	qtype  uint16
	do, cd bool
}

// query is one client's question and what its answer must look like.
type query struct {
	question
	id    uint16
	class uint16
	rd    bool
	edns  bool
	// version is the EDNS version asked for; only 0 exists.
	version byte
	spelled []byte // the name as the client wrote it, on the wire
	limit   int    // largest answer in bytes
}

// reply is a packed answer to a question: the question's name in lower case,
// no OPT record, an ID of 0. It is shared and must not be changed.
type reply struct {
	wire []byte
	// at is when the TTLs in wire were true. Zero: they are true always.
	at time.Time
}

// parse reads a client's message. When it returns no query it returns the
// answer to the message, or nil where none is due: what is no query gets none,
// so that two servers cannot keep each other busy.
func parse(packet []byte, tcp bool) (*query, []byte) {
	if len(packet) < headerBytes || be16(packet[2:])&flagQR != 0 {
		return nil, nil
	}
	if be16(packet[2:])&maskOpcode != dns.OpcodeQuery<<11 {
		return nil, bare(packet, dns.RcodeNotImplemented)
	}
	// One question and no records but an OPT and a TSIG.
	if be16(packet[4:]) != 1 || be16(packet[6:]) != 0 || be16(packet[8:]) != 0 || be16(packet[10:]) > 2 {
		return nil, bare(packet, dns.RcodeFormatError)
	}
	var m dns.Msg
	if !unpackWhole(&m, packet) {
		return nil, bare(packet, dns.RcodeFormatError)
	}
	q, err := newQuery(&m, tcp)
	if err != nil {
		return nil, bare(packet, dns.RcodeFormatError)
	}
	return q, nil
}

// unpackWhole unpacks a message and reports that it is well-formed and holds
// all that its header promises: dns.Msg takes one that ends early for whole.
func unpackWhole(m *dns.Msg, packet []byte) bool {
	if err := m.Unpack(packet); err != nil {
		return false
	}
	if len(m.Question) == 1 && skipName(packet, headerBytes)+4 > len(packet) {
		return false
	}
	return len(m.Question) == int(be16(packet[4:])) && len(m.Answer) == int(be16(packet[6:])) &&
		len(m.Ns) == int(be16(packet[8:])) && len(m.Extra) == int(be16(packet[10:]))
}

func newQuery(m *dns.Msg, tcp bool) (*query, error) {
	asked := m.Question[0]
	q := &query{id: m.Id, rd: m.RecursionDesired, class: asked.Qclass, limit: plainUDPBytes}
	q.question = question{name: dns.CanonicalName(asked.Name), qtype: asked.Qtype, cd: m.CheckingDisabled}
	wire := make([]byte, 256)
	n, err := dns.PackDomainName(asked.Name, wire, 0, nil, false)
	if err != nil {
		return nil, err
	}
	q.spelled = wire[:n]
	for _, rr := range m.Extra {
		opt, ok := rr.(*dns.OPT)
		if !ok {
			continue
		}
		if q.edns || opt.Hdr.Name != "." { // RFC 6891 section 6.1.1
			return nil, errors.New("more than one OPT record, or one with a name")
		}
		q.edns, q.do, q.version = true, opt.Do(), opt.Version()
		q.limit = min(max(int(opt.UDPSize()), plainUDPBytes), ednsUDPBytes)
	}
	if tcp {
		q.limit = maxTCPBytes
	}
	return q, nil
}

// authoritative returns the zone's answer. One that cannot be packed is too
// large for any message; the client gets SERVFAIL.
func (q *query) authoritative(a answer) []byte {
	var authority []dns.RR
	if a.soa != nil {
		authority = []dns.RR{a.soa}
	}
	wire, err := pack(q.question, uint16(flagAA|a.rcode), a.records, authority)
	if err != nil {
		return q.refuse(dns.RcodeServerFailure)
	}
	return q.finish(reply{wire: wire}, time.Time{})
}

// bare returns a header that refuses a message of which no more is known than
// its header.
func bare(packet []byte, rcode uint16) []byte {
	out := make([]byte, headerBytes)
	copy(out, packet[:2])
	binary.BigEndian.PutUint16(out[2:], flagQR|be16(packet[2:])&(maskOpcode|flagRD)|flagRA|rcode)
	return out
}

// finish turns a shared reply into this client's answer: its ID, its spelling
// of the name, TTLs as of now, an OPT if it sent one, cut to its size.
func (q *query) finish(r reply, now time.Time) []byte {
	return q.assemble(r, now, 0)
}

// refuse returns an answer without records. The rcode may have the 12 bits
// that EDNS gives it.
func (q *query) refuse(rcode int) []byte {
	return q.assemble(reply{wire: packEmpty(q.question, rcode&maskRcode)}, time.Time{}, byte(rcode>>4))
}

func (q *query) assemble(r reply, now time.Time, extendedRcode byte) []byte {
	optRoom := 0
	if q.edns {
		optRoom = optBytes
	}
	questionEnd := headerBytes + len(q.spelled) + 4
	cut := len(r.wire)+optRoom > q.limit
	wire := r.wire
	if cut {
		wire = wire[:questionEnd]
	}
	out := make([]byte, len(wire), len(wire)+optRoom)
	copy(out, wire)
	copy(out[headerBytes:], q.spelled)
	flags := be16(out[2:])&^(flagRD|flagCD) | flagRA
	if q.rd {
		flags |= flagRD
	}
	if q.cd {
		flags |= flagCD
	}
	if cut {
		flags |= flagTC
		clear(out[6:headerBytes])
	} else if !r.at.IsZero() {
		age(out, questionEnd, uint32(max(now.Sub(r.at), 0)/time.Second))
	}
	binary.BigEndian.PutUint16(out, q.id)
	binary.BigEndian.PutUint16(out[2:], flags)
	if !q.edns {
		return out
	}
	binary.BigEndian.PutUint16(out[10:], be16(out[10:])+1)
	return appendOPT(out, q.do, extendedRcode)
}

// appendOPT appends an OPT record without options (RFC 6891 section 6.1.2).
func appendOPT(b []byte, do bool, extendedRcode byte) []byte {
	b = append(b, 0, 0, byte(dns.TypeOPT), ednsUDPBytes>>8, ednsUDPBytes&0xff, extendedRcode, 0)
	if do {
		b = append(b, 0x80)
	} else {
		b = append(b, 0)
	}
	return append(b, 0, 0, 0)
}

// pack packs the answer to a question the way reply wants it.
func pack(q question, flags uint16, answer, authority []dns.RR) ([]byte, error) {
	m := dns.Msg{Compress: true, Answer: answer, Ns: authority}
	m.Question = []dns.Question{{Name: q.name, Qtype: q.qtype, Qclass: dns.ClassINET}}
	wire, err := m.Pack()
	if err != nil {
		return nil, err
	}
	if len(wire)+optBytes > maxTCPBytes {
		return nil, errors.New("larger than a message can be")
	}
	binary.BigEndian.PutUint16(wire, 0)
	binary.BigEndian.PutUint16(wire[2:], flags|flagQR)
	return wire, nil
}

// packEmpty packs an answer without records. The name has been unpacked from a
// message, so it can be packed into one.
func packEmpty(q question, rcode int) []byte {
	wire, err := pack(q, uint16(rcode), nil, nil)
	if err != nil {
		panic(err)
	}
	return wire
}

// age takes seconds off the TTLs of the records from offset on. It stops where
// the message is not well-formed.
func age(wire []byte, offset int, seconds uint32) {
	records := int(be16(wire[6:])) + int(be16(wire[8:])) + int(be16(wire[10:]))
	for ; records > 0; records-- {
		offset = skipName(wire, offset)
		if offset+10 > len(wire) {
			return
		}
		ttl := wire[offset+4 : offset+8]
		left := binary.BigEndian.Uint32(ttl)
		binary.BigEndian.PutUint32(ttl, left-min(left, seconds))
		offset += 10 + int(be16(wire[offset+8:]))
	}
}

// skipName returns the offset behind the name at offset, at least len(wire) if
// the name does not end.
func skipName(wire []byte, offset int) int {
	for offset < len(wire) {
		switch n := int(wire[offset]); {
		case n == 0:
			return offset + 1
		case n >= 0xc0: // a pointer ends a name
			return offset + 2
		default:
			offset += 1 + n
		}
	}
	return offset
}

func be16(b []byte) uint16 { return binary.BigEndian.Uint16(b) }
