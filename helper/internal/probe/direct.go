package probe

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"mobula/helper/internal/network"
)

// Magic begins every direct message: "MOBU". WireGuard's messages begin with a
// byte from 1 to 4 and three zeros, so the two can share a port.
const Magic = 0x4d4f4255

const (
	directHeader = 24
	macSize      = 16
	// DirectSize is the length in bytes of a direct message without padding.
	DirectSize = directHeader + macSize
)

// Direct is a message between the underlay addresses of two hosts.
type Direct struct {
	Type     Type // Request or Echo
	From, To uint16
	Sequence uint32
	// Session of the asking agent, as in Traffic.
	Session uint64
	// Size is the whole length in bytes; more than DirectSize is padding.
	Size int
}

// The layout of a direct message:
//
//	0 magic, 4 version, 5 type, 6 from, 8 to, 10 length, 12 sequence,
//	16 session, 24 MAC of everything else, 40 zeros up to the end
//
// What later versions may send at the end is ignored, but it has to verify.

// Secret is what two hosts share that nobody else has.
type Secret [sha256.Size]byte

// NewSecret derives the secret of two hosts, see network.SharedSecret. It costs
// some 100 µs, so keep it.
func NewSecret(private, public network.Key) (Secret, error) {
	return network.SharedSecret(private, public, "mobula direct probe 1")
}

func authenticate(key []byte, parts ...[]byte) []byte {
	mac := hmac.New(sha256.New, key)
	for _, p := range parts {
		mac.Write(p)
	}
	return mac.Sum(nil)
}

func (s *Secret) mac(p []byte) []byte {
	return authenticate(s[:], p[:directHeader], p[DirectSize:])[:macSize]
}

func verified(p []byte, secrets []Secret) bool {
	for i := range secrets {
		if hmac.Equal(secrets[i].mac(p), p[directHeader:DirectSize]) {
			return true
		}
	}
	return false
}

// Append returns b with the encoded message at its end.
func (m Direct) Append(b []byte, s *Secret) []byte {
	start, size := len(b), m.Size
	if size < DirectSize {
		size = DirectSize
	}
	b = append(b, make([]byte, size)...)
	p := b[start:]
	binary.BigEndian.PutUint32(p, Magic)
	p[4], p[5] = version, byte(m.Type)
	binary.BigEndian.PutUint16(p[6:], m.From)
	binary.BigEndian.PutUint16(p[8:], m.To)
	binary.BigEndian.PutUint16(p[10:], uint16(size))
	binary.BigEndian.PutUint32(p[12:], m.Sequence)
	binary.BigEndian.PutUint64(p[16:], m.Session)
	copy(p[directHeader:], s.mac(p))
	return b
}

var errMAC = errors.New("a wrong MAC")

// ParseDirect reads one message and verifies it. secretsOf returns the
// secrets shared with a host, of which the message may carry any; none for a
// stranger. It is asked before anything is computed.
func ParseDirect(p []byte, self uint16, secretsOf func(from uint16) []Secret) (Direct, error) {
	if len(p) < DirectSize || len(p) > MaxSize {
		return Direct{}, errSize
	}
	if binary.BigEndian.Uint32(p) != Magic || !readable(p[4]) {
		return Direct{}, errors.New("another format")
	}
	m := Direct{
		Type: Type(p[5]), From: binary.BigEndian.Uint16(p[6:]), To: binary.BigEndian.Uint16(p[8:]),
		Sequence: binary.BigEndian.Uint32(p[12:]), Session: binary.BigEndian.Uint64(p[16:]), Size: len(p),
	}
	if int(binary.BigEndian.Uint16(p[10:])) != len(p) {
		return Direct{}, errSize
	}
	if m.Type != Request && m.Type != Echo {
		return Direct{}, fmt.Errorf("type %d", m.Type)
	}
	if m.To != self || m.From == self {
		return Direct{}, fmt.Errorf("a message from %d to %d", m.From, m.To)
	}
	secrets := secretsOf(m.From)
	if len(secrets) == 0 {
		return Direct{}, fmt.Errorf("a message from %d", m.From)
	}
	if !verified(p, secrets) {
		return Direct{}, errMAC
	}
	return m, nil
}

// Window refuses requests that were seen before. The zero Window has seen none.
// Sessions of a host only rise, unless its clock was set back; Adopt takes the
// session that the host names inside WireGuard, where nobody can replay it.
// Small requests and padded ones are numbered apart.
type Window struct {
	session       uint64
	small, padded seen
}

// seen are the numbers that came.
type seen struct {
	highest uint32
	bits    uint64 // bit n: highest - n came
}

// Adopt starts another session, even one that is lower.
func (w *Window) Adopt(session uint64) {
	if session != w.session {
		*w = Window{session: session}
	}
}

// Accept reports whether the message is new, and notes it.
func (w *Window) Accept(m Direct) bool {
	if m.Session < w.session {
		return false
	}
	w.Adopt(m.Session)
	if m.Size > DirectSize {
		return w.padded.note(m.Sequence)
	}
	return w.small.note(m.Sequence)
}

// note reports whether the number is new and not too old to tell.
func (s *seen) note(sequence uint32) bool {
	switch ahead := int64(sequence) - int64(s.highest); {
	case ahead > 0:
		s.bits = s.bits<<uint64(ahead) | 1 // a shift by 64 and more gives 0
		s.highest = sequence
		return true
	case ahead <= -64:
		return false
	default:
		bit := uint64(1) << uint64(-ahead)
		fresh := s.bits&bit == 0
		s.bits |= bit
		return fresh
	}
}
