package probe

import "net/netip"

// MaxAddresses is how many addresses a message says at most.
const MaxAddresses = 8

// AppendAddresses is Append of OwnAddresses: the first MaxAddresses.
func (m Traffic) AppendAddresses(b []byte, addresses []netip.Addr) []byte {
	addresses = addresses[:min(len(addresses), MaxAddresses)]
	start := len(b)
	m.Type, m.Size = OwnAddresses, TrafficSize+len(addresses)*addressSize
	b = m.Append(b)
	b[start+25] = byte(len(addresses))
	for i, a := range addresses {
		as16 := a.As16()
		copy(b[start+TrafficSize+i*addressSize:], as16[:])
	}
	return b
}

// Addresses reads those of a message of OwnAddresses that ParseTraffic has read.
func Addresses(p []byte) (all []netip.Addr) {
	n := min(int(p[25]), MaxAddresses, (len(p)-TrafficSize)/addressSize)
	for at := p[TrafficSize:]; n > 0; at, n = at[addressSize:], n-1 {
		all = append(all, netip.AddrFrom16([16]byte(at)).Unmap())
	}
	return all
}
