package network

import "net/netip"

// Ranges are the two /16 from which all addresses of a network follow. The zero Ranges
// are those of a network that names none: 10.30.0.0/16 and 10.31.0.0/16.
type Ranges struct {
	wire, access netip.Prefix // zero: the default
}

var (
	defaultWire   = netip.MustParsePrefix("10.30.0.0/16")
	defaultAccess = netip.MustParsePrefix("10.31.0.0/16")
)

// Wire is Intrawire and Extrawire together.
func (r Ranges) Wire() netip.Prefix {
	if r.wire.IsValid() {
		return r.wire
	}
	return defaultWire
}

// Access is the layer 2 network that spans all hosts.
func (r Ranges) Access() netip.Prefix {
	if r.access.IsValid() {
		return r.access
	}
	return defaultAccess
}

// Intrawire holds one /32 of each host: the first half of Wire.
func (r Ranges) Intrawire() netip.Prefix { return netip.PrefixFrom(r.Wire().Addr(), 17) }

// Extrawire holds one /32 of each administrator's WireGuard client: the second half of Wire.
func (r Ranges) Extrawire() netip.Prefix { return netip.PrefixFrom(in(r.Wire(), 128, 0), 17) }

// Gateways is the half of Access that holds the hosts' gateways.
func (r Ranges) Gateways() netip.Prefix { return netip.PrefixFrom(r.Access().Addr(), 17) }

// DirectGateway is the gateway's side of the direct link, on every host: the first
// address of Wire.
func (r Ranges) DirectGateway() netip.Addr { return r.Wire().Addr() }

// AccessBroadcast is the broadcast address of Access (RFC 919), and what would be
// the access address of host ID MaxHostID.
func (r Ranges) AccessBroadcast() netip.Addr { return in(r.Access(), 255, 255) }

// HasAccessAddress reports whether a host with this ID can have its access
// address.
func (r Ranges) HasAccessAddress(id uint16) bool { return r.AccessAddress(id) != r.AccessBroadcast() }

// NamedAddress is the address that a host's private name stands for: its access
// address, or its intrawire address where it has none.
func (r Ranges) NamedAddress(id uint16) netip.Addr {
	if r.HasAccessAddress(id) {
		return r.AccessAddress(id)
	}
	return r.IntrawireAddress(id)
}

// IntrawireAddress returns WIRE.hi.lo, the address by which every other host
// reaches this one.
func (r Ranges) IntrawireAddress(id uint16) netip.Addr { return in(r.Wire(), byte(id>>8), byte(id)) }

// GatewayAddress returns ACCESS.hi.lo, the address of the host's gateway on the
// access network.
func (r Ranges) GatewayAddress(id uint16) netip.Addr { return in(r.Access(), byte(id>>8), byte(id)) }

// AccessAddress returns ACCESS.(hi+128).lo, the host's own address on the access
// network.
func (r Ranges) AccessAddress(id uint16) netip.Addr {
	return in(r.Access(), byte(id>>8)+128, byte(id))
}

// HostID returns whose intrawire address it is; 0: nobody's.
func (r Ranges) HostID(a netip.Addr) uint16 {
	if !r.Intrawire().Contains(a) {
		return 0
	}
	b := a.As4()
	return uint16(b[2])<<8 | uint16(b[3])
}

// Contains reports that an address is of either network.
func (r Ranges) Contains(a netip.Addr) bool { return r.Wire().Contains(a) || r.Access().Contains(a) }

// String names both.
func (r Ranges) String() string { return r.Wire().String() + " and " + r.Access().String() }

// in returns an address of a /16 by its last two bytes.
func in(p netip.Prefix, hi, lo byte) netip.Addr {
	b := p.Addr().As4()
	return netip.AddrFrom4([4]byte{b[0], b[1], hi, lo})
}
