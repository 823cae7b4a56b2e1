// Package probe holds the wire formats of the agents' messages: those inside
// WireGuard, which authenticates them, and those beside it, which carry a MAC.
// It is pure: it knows no sockets and no clock. All numbers are big-endian.
package probe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
)

// version is the version of both formats that is sent, and oldest the oldest that is
// read: the one before, as soon as there is one. What this version calls zero or
// reserved it ignores, so that a later one can use it without another format.
const (
	version = 1
	oldest  = 1
)

func readable(v byte) bool { return v >= oldest && v <= version }

// Type says what a message inside WireGuard is.
type Type byte

// The types of messages.
const (
	Request Type = 1 // to be echoed
	Echo    Type = 2 // the same sequence number, session and length
	Query   Type = 3 // "can you relay to Target?"
	Answer  Type = 4
	// Goodbye is the last message of an agent.
	Goodbye Type = 5
	// Sighting says where the sender sees Target: At.
	Sighting Type = 6
	// OwnAddresses says which addresses the sender has, see Addresses. The version before
	// does not read it.
	OwnAddresses Type = 7
)

// TrafficSize is the length in bytes of a message without padding, and
// MaxSize the longest message that is read.
const (
	TrafficSize = 36
	MaxSize     = 9216
)

// Generation identifies the network document of a host: the first bytes of its
// hash. Zero: none.
type Generation [8]byte

// Verdict is a relay's answer.
type Verdict struct {
	// Reachable: the relay reaches the target directly, and forwards to it.
	Reachable bool
	// FullSize: packets of full size are not known to get lost.
	FullSize bool
	// Carries: the relay does not forward to the target, but its agent carries to it.
	Carries bool
	// RTTMicroseconds between relay and target.
	RTTMicroseconds uint32
	// LossPermille is the share of lost probes, 0..1000.
	LossPermille uint16
}

// Traffic is a message inside WireGuard. Its sender is known by its source
// address, which WireGuard checks. There is no time in it: who sent a request
// remembers when.
type Traffic struct {
	Type     Type
	Target   uint16 // host ID, in Query, Answer and Sighting
	Sequence uint32
	// Session changes when the asking agent starts anew: its start in
	// nanoseconds since 1970. Echo and Answer return it.
	Session    uint64
	Generation Generation     // of the sender
	Verdict    Verdict        // in Answer
	At         netip.AddrPort // in Sighting
	// Lists: the sender takes questions and answers with many targets, see More.
	Lists bool
	// Carrier: the sender carries, see Carry.
	Carrier bool
	Aside   Aside
	// Size is the whole length in bytes; more than TrafficSize is padding.
	Size int
}

// The layout of a message:
//
//	0 version, 1 type, 2 target, 4 sequence, 8 session, 16 generation,
//	24 flags, 25 further targets, 26 loss, 28 RTT, 32 a dead host, 34 busy, 36 zeros up to the end,
//	in a sighting 36 an address of IPv6, or one of IPv4 mapped to it, 52 port,
//	with own addresses 25 how many, 36 each as in a sighting
//
// A field that a type does not have is zero. What is zero is sent so and not read.
//
// The version before sends zeros for Aside, which say nothing, and does not read it.
const (
	flagReachable = 1
	flagFullSize  = 2
	flagLists     = 4
	flagCarries   = 8
	flagCarrier   = 16
)

// addressSize is the length of an address, and sightingSize that of a sighting.
const (
	addressSize  = 16
	sightingSize = TrafficSize + addressSize + 2
)

// Append returns b with the encoded message at its end.
func (m Traffic) Append(b []byte) []byte {
	start, size := len(b), max(m.Size, TrafficSize)
	if m.Type == Sighting {
		size = max(size, sightingSize)
	}
	b = append(b, make([]byte, size)...)
	p := b[start:]
	p[0], p[1] = version, byte(m.Type)
	binary.BigEndian.PutUint16(p[2:], m.Target)
	binary.BigEndian.PutUint32(p[4:], m.Sequence)
	binary.BigEndian.PutUint64(p[8:], m.Session)
	copy(p[16:], m.Generation[:])
	if m.Lists {
		p[24] |= flagLists
	}
	if m.Carrier {
		p[24] |= flagCarrier
	}
	m.Verdict.put(p[24:])
	binary.BigEndian.PutUint16(p[32:], m.Aside.Dead)
	binary.BigEndian.PutUint16(p[34:], m.Aside.Busy)
	if m.Type == Sighting {
		at := m.At.Addr().As16()
		copy(p[TrafficSize:], at[:])
		binary.BigEndian.PutUint16(p[TrafficSize+len(at):], m.At.Port())
	}
	return b
}

// Aside is what every message says besides, of its sender.
type Aside struct {
	// Dead is the ID of a host that it has just found dead; 0: none.
	Dead uint16
	// Busy is with how many hosts it has traffic.
	Busy uint16
}

// put writes a verdict as eight bytes: flags, one that stays, loss, RTT.
func (v Verdict) put(p []byte) {
	if v.Reachable {
		p[0] |= flagReachable
	}
	if v.FullSize {
		p[0] |= flagFullSize
	}
	if v.Carries {
		p[0] |= flagCarries
	}
	binary.BigEndian.PutUint16(p[2:], v.LossPermille)
	binary.BigEndian.PutUint32(p[4:], v.RTTMicroseconds)
}

func readVerdict(p []byte) (Verdict, error) {
	v := Verdict{
		Reachable: p[0]&flagReachable != 0, FullSize: p[0]&flagFullSize != 0, Carries: p[0]&flagCarries != 0,
		LossPermille: binary.BigEndian.Uint16(p[2:]), RTTMicroseconds: binary.BigEndian.Uint32(p[4:]),
	}
	if v.LossPermille > 1000 {
		return Verdict{}, fmt.Errorf("a loss of %d ‰", v.LossPermille)
	}
	return v, nil
}

// Entry is a further target of a Query or an Answer.
type Entry struct {
	Target  uint16
	Verdict Verdict // in Answer
}

// entrySize is the length of an Entry: the target, two zeros, the verdict. They follow
// on the message of one target, and MaxMore of them at most are read. The version before
// reads the one target.
const (
	entrySize = 12
	MaxMore   = 31
)

// AppendMore is Append of a Query or an Answer with further targets.
func (m Traffic) AppendMore(b []byte, more []Entry) []byte {
	start := len(b)
	m.Size = TrafficSize + len(more)*entrySize
	b = m.Append(b)
	b[start+25] = byte(len(more))
	for i, e := range more {
		p := b[start+TrafficSize+i*entrySize:]
		binary.BigEndian.PutUint16(p, e.Target)
		e.Verdict.put(p[4:])
	}
	return b
}

// More reads the further targets of a message that ParseTraffic has read.
func More(p []byte) []Entry {
	n := min(int(p[25]), MaxMore, (len(p)-TrafficSize)/entrySize)
	var more []Entry
	for i := 0; i < n; i++ {
		e := p[TrafficSize+i*entrySize:]
		target := binary.BigEndian.Uint16(e)
		if v, err := readVerdict(e[4:entrySize]); err == nil && target != 0 {
			more = append(more, Entry{target, v})
		}
	}
	return more
}

var errSize = errors.New("a message of this size")

// ParseTraffic reads one message.
func ParseTraffic(p []byte) (Traffic, error) {
	if len(p) < TrafficSize || len(p) > MaxSize {
		return Traffic{}, errSize
	}
	if !readable(p[0]) {
		return Traffic{}, fmt.Errorf("version %d", p[0])
	}
	m := Traffic{Type: Type(p[1]), Session: binary.BigEndian.Uint64(p[8:]), Generation: Generation(p[16:24]), Lists: p[24]&flagLists != 0, Carrier: p[24]&flagCarrier != 0, Size: len(p),
		Aside: Aside{Dead: binary.BigEndian.Uint16(p[32:]), Busy: binary.BigEndian.Uint16(p[34:])}}
	switch m.Type {
	case Request, Echo:
		m.Sequence = binary.BigEndian.Uint32(p[4:])
	case Query, Answer:
		m.Sequence, m.Target = binary.BigEndian.Uint32(p[4:]), binary.BigEndian.Uint16(p[2:])
		if m.Target == 0 {
			return Traffic{}, errors.New("no target")
		}
	case Sighting:
		if m.Target = binary.BigEndian.Uint16(p[2:]); m.Target == 0 || len(p) < sightingSize {
			return Traffic{}, errors.New("no target, or no address")
		}
		m.At = netip.AddrPortFrom(netip.AddrFrom16([16]byte(p[TrafficSize:])).Unmap(), binary.BigEndian.Uint16(p[TrafficSize+16:]))
	case Goodbye, OwnAddresses:
	default:
		return Traffic{}, fmt.Errorf("type %d", m.Type)
	}
	if m.Type == Answer {
		v, err := readVerdict(p[24:32])
		if err != nil {
			return Traffic{}, err
		}
		m.Verdict = v
	}
	return m, nil
}
