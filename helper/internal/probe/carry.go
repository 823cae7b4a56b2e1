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
	On       bool
	Host     uint16
	Datagram []byte
}

// carrySize is what stands before the datagram: 0 version, 1 on its way on, 2 host.
const carrySize = 4

// MaxCarry is the longest datagram that is carried, in bytes.
const MaxCarry = MaxSize - carrySize

// Append returns b with the encoded message at its end.
func (c Carry) Append(b []byte) []byte {
	on := byte(0)
	if c.On {
		on = 1
	}
	b = append(b, version, on)
	b = binary.BigEndian.AppendUint16(b, c.Host)
	return append(b, c.Datagram...)
}

// ParseCarry reads a message. The datagram is a part of p. What does not begin like one of
// WireGuard's four messages (its protocol, section 5.4) is none.
func ParseCarry(p []byte) (Carry, error) {
	if len(p) < carrySize+4 || len(p) > MaxSize {
		return Carry{}, errSize
	}
	if !readable(p[0]) || p[1] > 1 {
		return Carry{}, fmt.Errorf("version %d, direction %d", p[0], p[1])
	}
	c := Carry{On: p[1] == 1, Host: binary.BigEndian.Uint16(p[2:]), Datagram: p[carrySize:]}
	switch kind := binary.LittleEndian.Uint32(c.Datagram); {
	case c.Host == 0:
		return Carry{}, errors.New("no host")
	case kind < 1 || kind > 4:
		return Carry{}, fmt.Errorf("a datagram of type %d", kind)
	}
	return c, nil
}
