package probe

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Carry is a datagram of WireGuard's between two hosts that a third one's agent carries,
// inside WireGuard: Host is whom it is for on the way to that one, and whom it is from
// on the way on.
type Carry struct {
	// On: it is on the way on, to whom it is for.
	On   bool
	Host uint16
	// Part is 0 for all of a datagram, or 1 or 2 for its halves, which have the same Number.
	Part     byte
	Number   uint16
	Datagram []byte
}

// carrySize is what stands before the datagram: 0 version, 1 flags, 2 host, 4 number, 6 zeros.
const (
	carrySize     = 8
	flagOn        = 1
	carryPartBits = 1 // where Part begins in the flags
)

// MaxCarry is the longest datagram that is carried, in bytes.
const MaxCarry = MaxSize - carrySize

// Append returns b with the encoded message at its end.
func (c Carry) Append(b []byte) []byte {
	flags := c.Part << carryPartBits
	if c.On {
		flags |= flagOn
	}
	b = append(b, version, flags)
	b = binary.BigEndian.AppendUint16(b, c.Host)
	b = binary.BigEndian.AppendUint16(b, c.Number)
	b = append(b, 0, 0)
	return append(b, c.Datagram...)
}

// Cut returns the messages for a datagram, none of them longer than most bytes if two can do:
// IP would cut them, but what puts fragments together has room for few, and others use it.
func (c Carry) Cut(most int) []Carry {
	if carrySize+len(c.Datagram) <= most {
		return []Carry{c}
	}
	first, second := c, c
	half := (len(c.Datagram) + 1) / 2
	first.Part, first.Datagram = 1, c.Datagram[:half]
	second.Part, second.Datagram = 2, c.Datagram[half:]
	return []Carry{first, second}
}

// ParseCarry reads a message. The datagram is a part of p. What does not begin like one of
// WireGuard's four messages (its protocol, section 5.4) is none.
func ParseCarry(p []byte) (Carry, error) {
	if len(p) < carrySize+4 || len(p) > MaxSize {
		return Carry{}, errSize
	}
	if !readable(p[0]) || p[1] > flagOn|2<<carryPartBits {
		return Carry{}, fmt.Errorf("version %d, flags %d", p[0], p[1])
	}
	c := Carry{On: p[1]&flagOn != 0, Host: binary.BigEndian.Uint16(p[2:]), Part: p[1] >> carryPartBits, Number: binary.BigEndian.Uint16(p[4:]), Datagram: p[carrySize:]}
	switch kind := binary.LittleEndian.Uint32(c.Datagram); {
	case c.Host == 0:
		return Carry{}, errors.New("no host")
	case c.Part != 2 && (kind < 1 || kind > 4):
		return Carry{}, fmt.Errorf("a datagram of type %d", kind)
	}
	return c, nil
}
