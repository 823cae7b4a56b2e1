package firewall

import (
	"fmt"
	"sort"
)

// portRange is a range of transport ports, both ends included.
type portRange struct{ First, Last uint16 }

// String returns the range as nft(8) reads it.
func (r portRange) String() string { return fmt.Sprintf("%d-%d", r.First, r.Last) }

// firstUnprivileged is the first port that any user may bind; NAT keeps to the
// side of it that a packet came from.
const firstUnprivileged = 1024

// freePorts returns all ports but the taken ones, in ranges that do not cross
// firstUnprivileged.
func freePorts(taken []uint16) []portRange {
	taken = append([]uint16{}, taken...)
	sort.Slice(taken, func(i, j int) bool { return taken[i] < taken[j] })
	var free []portRange
	add := func(first, last int) {
		if first <= last {
			free = append(free, portRange{uint16(first), uint16(last)})
		}
	}
	for _, half := range []struct{ first, last int }{{1, firstUnprivileged - 1}, {firstUnprivileged, 65535}} {
		next := half.first
		for _, port := range taken {
			if p := int(port); half.first <= p && p <= half.last {
				add(next, p-1)
				next = p + 1
			}
		}
		add(next, half.last)
	}
	return free
}

// clientsFrom is the first port from which Linux asks by itself (ip_local_port_range). The
// relays' ports begin there, too: network.RelayPort's base.
const clientsFrom = 32768

// spare returns the largest of the free ranges between the privileged ports and
// the relays' ports.
func spare(free []portRange) portRange {
	return largest(within(free, firstUnprivileged, clientsFrom-1))
}

// clientPorts returns those of the free ranges that are clients' or above.
func clientPorts(free []portRange) []portRange { return within(free, clientsFrom, 65535) }

// within cuts ranges off at both ends, which are included.
func within(all []portRange, first, last uint16) (some []portRange) {
	for _, r := range all {
		r.First, r.Last = max(r.First, first), min(r.Last, last)
		if r.First <= r.Last {
			some = append(some, r)
		}
	}
	return some
}

// largest returns the last one of the largest ranges.
func largest(all []portRange) (best portRange) {
	for _, r := range all {
		if r.Last-r.First >= best.Last-best.First {
			best = r
		}
	}
	return best
}
