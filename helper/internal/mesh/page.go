// Package mesh asks the agents of all hosts what they say of themselves, and answers that
// question. Questions and answers are single datagrams inside WireGuard, which vouches for
// the sender's address: a long answer comes in pages, each of which is asked for.
package mesh

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"slices"
	"sort"
	"time"
	"unicode/utf8"

	"mobula/helper/internal/report"
)

// version is the version of the format. What it calls zero is sent so and not read, texts
// and entries may grow at their ends, and what follows on a message is not read, so that a
// later version can say more without another one.
const version = 1

const (
	typeQuestion = 1
	typeAnswer   = 2

	flagExceptions = 1 // in a question: only the ways that are exceptions
	flagMore       = 1 // in an answer: there is another page
	flagClients    = 2 // in both: clients as well. A version before does not read it, and has it 0

	// MaxPage bounds an answer, in bytes: it fits into one packet of any network
	// (underlay_mtu is at least 1,394 bytes, of which WireGuard, IP and UDP take 88).
	MaxPage = 1200

	questionSize = 16
	headerSize   = 24
	headSize     = 36
	waySize      = 20

	maxProblems = 4
	maxText     = 160 // bytes
	maxVersion  = 64  // bytes
)

// A question:
//
//	0 version, 1 type, 2 flags, 3 zero, 4 the host ID after which the page begins, 6 the
//	client after which it does, 8 nonce
//
// An answer:
//
//	0 version, 1 type, 2 flags, 3 size of a way, 4 after, as asked, 6 number of ways,
//	8 nonce, as asked, 16 length of the head, 18 number of clients, 20 the client after which
//	they begin, as asked, 22 size of a client, 23 zero, 24 the head, then the ways, and when
//	there are no more of them the clients
//
// The head, on the first page alone:
//
//	0 generation, 8 seconds for which it has run, 12 ways that are direct, 14 relayed,
//	16 down, 18 unknown, 20 median and 24 longest round trip, 28 ways that are exceptions,
//	30 problems that do not follow, 31 zero, 32 length of the version, 33 number of problems,
//	34 clients that were heard, 36 the version, then the problems, each a byte for its length and the text
//
// A way:
//
//	0 host ID, 2 state and flags, 3 kind, 4 relay, 6 loss, 8 loss over five minutes, 10
//	seconds since the last handshake, 12 round trip, 16 seconds since the way is so
//
// A kind is its place in report.Kinds, from 1; 0: not known. A version before does not read it,
// and has it 0.
//
// A client: see heardSize.
//
// All numbers are big-endian, round trips in microseconds, losses in permille.

// question is what one host asks another one.
type question struct {
	exceptions, clients bool
	after, afterClient  uint16
	nonce               uint64
}

func (q question) append(b []byte) []byte {
	p := [questionSize]byte{version, typeQuestion}
	if q.exceptions {
		p[2] = flagExceptions
	}
	if q.clients {
		p[2] |= flagClients
	}
	binary.BigEndian.PutUint16(p[4:], q.after)
	binary.BigEndian.PutUint16(p[6:], q.afterClient)
	binary.BigEndian.PutUint64(p[8:], q.nonce)
	return append(b, p[:]...)
}

var errSize = errors.New("a message of this size")

// typeOf returns what a message is; 0: nothing that this version reads.
func typeOf(b []byte) byte {
	if len(b) < 2 || b[0] != version {
		return 0
	}
	return b[1]
}

func parseQuestion(b []byte) (question, error) {
	if len(b) < questionSize {
		return question{}, errSize
	}
	return question{exceptions: b[2]&flagExceptions != 0, clients: b[2]&flagClients != 0, after: binary.BigEndian.Uint16(b[4:]),
		afterClient: binary.BigEndian.Uint16(b[6:]), nonce: binary.BigEndian.Uint64(b[8:])}, nil
}

// Snapshot is what a host says of itself at one moment, ready to be sent.
type Snapshot struct {
	head    []byte
	ways    [2][]report.Way // all, and the exceptions, by their IDs
	clients []Heard         // by their numbers
}

// NewSnapshot takes what a host says: its Generation, Version, SinceSeconds and Problems, all
// its ways, and the clients that it has heard.
func NewSnapshot(h report.Host, ways []report.Way, heard []Heard) *Snapshot {
	h.Count(ways)
	s := &Snapshot{clients: lastHeard(heard)}
	s.ways[0] = append([]report.Way{}, ways...)
	sort.Slice(s.ways[0], func(a, b int) bool { return s.ways[0][a].To < s.ways[0][b].To })
	for _, w := range s.ways[0] {
		if w.Exception() {
			s.ways[1] = append(s.ways[1], w)
		}
	}
	s.head = appendHead(nil, h, len(s.ways[1]), len(heard))
	return s
}

func appendHead(b []byte, h report.Host, exceptions, heard int) []byte {
	var p [headSize]byte
	if g, err := hex.DecodeString(h.Generation); err == nil {
		copy(p[:8], g)
	}
	binary.BigEndian.PutUint32(p[8:], h.SinceSeconds)
	for i, n := range []int{h.Direct, h.Relayed, h.Down, h.Unknown} {
		binary.BigEndian.PutUint16(p[12+2*i:], uint16(n))
	}
	binary.BigEndian.PutUint32(p[20:], microseconds(h.MedianRTT))
	binary.BigEndian.PutUint32(p[24:], microseconds(h.MaxRTT))
	binary.BigEndian.PutUint16(p[28:], uint16(exceptions))
	problems := h.Problems
	if n := len(problems) - maxProblems; n > 0 {
		p[30] = byte(min(n, 255))
		problems = problems[:maxProblems]
	}
	text := cut(h.Version, maxVersion)
	p[32], p[33] = byte(len(text)), byte(len(problems))
	binary.BigEndian.PutUint16(p[34:], uint16(min(heard, math.MaxUint16)))
	b = append(append(b, p[:]...), text...)
	for _, text := range problems {
		text = cut(text, maxText)
		b = append(append(b, byte(len(text))), text...)
	}
	return b
}

// cut returns the beginning of a text that has that many bytes at most.
func cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	for most -= len("…"); !utf8.RuneStart(text[most]); most-- {
	}
	return text[:most] + "…"
}

func microseconds(ms float64) uint32 {
	return uint32(min(max(math.Round(ms*1000), 0), math.MaxUint32))
}

// page returns the answer to a question.
func (s *Snapshot) page(q question) []byte {
	ways := s.ways[0]
	if q.exceptions {
		ways = s.ways[1]
	}
	p := [headerSize]byte{version, typeAnswer, 0, waySize}
	binary.BigEndian.PutUint16(p[4:], q.after)
	binary.BigEndian.PutUint64(p[8:], q.nonce)
	b := append(make([]byte, 0, MaxPage), p[:]...)
	if q.first() {
		binary.BigEndian.PutUint16(b[16:], uint16(len(s.head)))
		b = append(b, s.head...)
	}
	ways = ways[sort.Search(len(ways), func(i int) bool { return ways[i].To > q.after }):]
	n := min(len(ways), (MaxPage-len(b))/waySize)
	binary.BigEndian.PutUint16(b[6:], uint16(n))
	if n < len(ways) {
		b[2] |= flagMore
	}
	for _, w := range ways[:n] {
		b = appendWay(b, w)
	}
	if q.clients {
		b = s.appendClients(b, q.afterClient, n == len(ways))
	}
	return b
}

// The bits of a way's flags: two for the state, and one.
const flagLargeLost = 4

var states = []string{report.Unknown, report.Up, report.Down}

// neverShaken says that there was no handshake; what is longer ago than can be said is cut.
const neverShaken = math.MaxUint16

func appendWay(b []byte, w report.Way) []byte {
	var p [waySize]byte
	binary.BigEndian.PutUint16(p[0:], w.To)
	for i, state := range states {
		if state == w.State {
			p[2] = byte(i)
		}
	}
	if w.LargeLost {
		p[2] |= flagLargeLost
	}
	p[3] = byte(1 + slices.Index(report.Kinds, w.Kind))
	binary.BigEndian.PutUint16(p[4:], w.Via)
	binary.BigEndian.PutUint16(p[6:], permille(w.Loss))
	binary.BigEndian.PutUint16(p[8:], permille(w.LossMinutes))
	shaken := uint16(neverShaken)
	if w.HandshakeSeconds >= 0 {
		shaken = uint16(min(w.HandshakeSeconds, neverShaken-1))
	}
	binary.BigEndian.PutUint16(p[10:], shaken)
	binary.BigEndian.PutUint32(p[12:], microseconds(w.RTT))
	binary.BigEndian.PutUint32(p[16:], w.SinceSeconds)
	return append(b, p[:]...)
}

func permille(share float64) uint16 { return uint16(min(max(math.Round(share*1000), 0), 1000)) }

// page is an answer that was read.
type page struct {
	after, afterClient uint16
	nonce              uint64
	more               bool
	head               *report.Host // without its ID, name and ways; nil: not the first page
	// exceptions is the number of ways that are, heard that of clients that were, in the head.
	exceptions, heard int
	ways              []report.Way
	// tells: the host is of a version that tells of clients, which are these.
	tells   bool
	clients []Heard
}

func parsePage(b []byte) (*page, error) {
	if len(b) < headerSize || len(b) > 2*MaxPage {
		return nil, errSize
	}
	p := &page{after: binary.BigEndian.Uint16(b[4:]), nonce: binary.BigEndian.Uint64(b[8:]), more: b[2]&flagMore != 0}
	size, count, head := int(b[3]), int(binary.BigEndian.Uint16(b[6:])), int(binary.BigEndian.Uint16(b[16:]))
	if size < waySize || headerSize+head+count*size > len(b) {
		return nil, errSize
	}
	rest := b[headerSize+head+count*size:]
	if err := p.readClients(b, rest); err != nil {
		return nil, err
	}
	if (head > 0) != (p.after == 0 && p.afterClient == 0) {
		return nil, errors.New("a head that belongs to another page")
	}
	if head > 0 {
		if err := p.readHead(b[headerSize : headerSize+head]); err != nil {
			return nil, err
		}
	}
	last := p.after
	for i := 0; i < count; i++ {
		w, err := readWay(b[headerSize+head+i*size:])
		if err != nil {
			return nil, err
		}
		if w.To <= last {
			return nil, fmt.Errorf("a way to %d after that to %d", w.To, last)
		}
		last = w.To
		p.ways = append(p.ways, w)
	}
	if p.more && count == 0 && len(p.clients) == 0 {
		return nil, errors.New("a page with nothing in it before another one")
	}
	return p, nil
}

func (p *page) readHead(b []byte) error {
	if len(b) < headSize {
		return errSize
	}
	short := func(at int) int { return int(binary.BigEndian.Uint16(b[at:])) }
	h := &report.Host{Answer: report.Answered, Generation: hex.EncodeToString(b[:8]), SinceSeconds: binary.BigEndian.Uint32(b[8:]),
		Direct: short(12), Relayed: short(14), Down: short(16), Unknown: short(18),
		MedianRTT: float64(binary.BigEndian.Uint32(b[20:])) / 1000, MaxRTT: float64(binary.BigEndian.Uint32(b[24:])) / 1000,
		MoreProblems: int(b[30])}
	p.exceptions, p.heard = short(28), short(34)
	length, problems := int(b[32]), int(b[33])
	rest := b[headSize:]
	if len(rest) < length || problems > maxProblems {
		return errSize
	}
	h.Version, rest = string(rest[:length]), rest[length:]
	for i := 0; i < problems; i++ {
		if len(rest) < 1 || len(rest) < 1+int(rest[0]) {
			return errSize
		}
		h.Problems, rest = append(h.Problems, string(rest[1:1+rest[0]])), rest[1+rest[0]:]
	}
	p.head = h
	return h.Validate()
}

func readWay(b []byte) (report.Way, error) {
	short := func(at int) uint16 { return binary.BigEndian.Uint16(b[at:]) }
	state := int(b[2] & 3)
	if state >= len(states) || short(6) > 1000 || short(8) > 1000 {
		return report.Way{}, fmt.Errorf("a way of state %d that loses %d and %d ‰", state, short(6), short(8))
	}
	w := report.Way{To: short(0), State: states[state], Via: short(4), LargeLost: b[2]&flagLargeLost != 0,
		Loss: float64(short(6)) / 1000, LossMinutes: float64(short(8)) / 1000, HandshakeSeconds: -1,
		RTT: float64(binary.BigEndian.Uint32(b[12:])) / 1000, SinceSeconds: binary.BigEndian.Uint32(b[16:])}
	if shaken := short(10); shaken != neverShaken {
		w.HandshakeSeconds = int32(shaken)
	}
	if kind := int(b[3]); kind > 0 && kind <= len(report.Kinds) { // beyond: a later version's
		w.Kind = report.Kinds[kind-1]
	}
	if w.Contradictory() {
		return w, fmt.Errorf("a way of state %s by %d that is %s", w.State, w.Via, w.Kind)
	}
	return w, nil
}

// Seconds is a duration in whole seconds, as a report tells it.
func Seconds(d time.Duration) uint32 {
	return uint32(min(max(d/time.Second, 0), math.MaxUint32))
}
