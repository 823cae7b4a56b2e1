package vswitch

import (
	"crypto/sha256"
	"encoding/binary"
)

// A cookie says whose a flow is and which one. OpenFlow leaves its 64 bits to
// the controller (OpenFlow 1.4 section 6.4), and flows can be deleted by it:
//
//	63      48 47    40 39               0
//	0x6d6f     class    hash of the flow      static
//	0x6d6f     class    pin  origin  hash     dropped: 4 + 4 + 32 bits
//	0x6d6f     class    kind  number          learned: 24 + 16 bits, by which port or host
//
// With the hash of the flow in it, comparing two sets of cookies compares two
// sets of flows, whatever form the switch prints them in.
const (
	cookieTag    = uint64(0x6d6f) << 48
	classStatic  = uint64(1) << 40
	classDropped = uint64(2) << 40
	classLearned = uint64(3) << 40
	classMask    = uint64(0xffffff) << 40
	exactCookie  = ^uint64(0)

	// Learned flows with the same cookie are bounded together.
	cookieLearnedLocal  = cookieTag | classLearned | 1<<16 // + number of the port
	cookieLearnedTunnel = cookieTag | classLearned | 2<<16 // + host ID
	cookieLearnedOwn    = cookieTag | classLearned | 3<<16
	cookieAddressLocal  = cookieTag | classLearned | 4<<16
	cookieAddressTunnel = cookieTag | classLearned | 5<<16
	// those of IPv6
	cookieAddress6Local  = cookieTag | classLearned | 6<<16
	cookieAddress6Tunnel = cookieTag | classLearned | 7<<16
)

// isLearned reports whether a cookie belongs to a flow that the switch itself
// made.
func isLearned(cookie uint64) bool { return cookie&classMask == cookieTag|classLearned }

// droppedBy returns what the cookie of a dropping flow says.
func droppedBy(cookie uint64) (Pin, Origin, bool) {
	if cookie&classMask != cookieTag|classDropped {
		return 0, 0, false
	}
	return Pin(cookie >> 36 & 0xf), Origin(cookie >> 32 & 0xf), true
}

// stamp gives every flow its cookie. In 40 bits two of 30,000 flows meet once
// in 2,000 networks; the later one then takes the next free value.
func stamp(flows []*flow) {
	taken := make(map[uint64]bool, len(flows))
	for _, f := range flows {
		kind, mask := f.cookie, uint64(1)<<40-1
		if kind == 0 {
			kind = cookieTag | classStatic
		} else {
			mask = 1<<32 - 1
		}
		f.cookie = 0
		sum := sha256.Sum256([]byte(f.text()))
		f.cookie = kind | binary.BigEndian.Uint64(sum[:])&mask
		for taken[f.cookie] {
			f.cookie = kind | (f.cookie+1)&mask
		}
		taken[f.cookie] = true
	}
}
