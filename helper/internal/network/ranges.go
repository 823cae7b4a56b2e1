package network

import (
	"fmt"
	"net/netip"
	"slices"
)

// Ranges are the two /16 from which all addresses of a network follow. The zero Ranges
// are those of a network that names none, and those that name them are equal to it.
type Ranges struct {
	WireNetwork   Slash16 `json:"wire_network,omitempty"`
	AccessNetwork Slash16 `json:"access_network,omitempty"`
}

// The networks of a network that names none.
const (
	defaultWire   Slash16 = 10<<8 | 30
	defaultAccess Slash16 = 10<<8 | 31
)

// NewRanges returns the ranges with these networks; 0: the default.
func NewRanges(wire, access Slash16) Ranges {
	if wire == defaultWire {
		wire = 0
	}
	if access == defaultAccess {
		access = 0
	}
	return Ranges{wire, access}
}

// Wire is Intrawire and Extrawire together.
func (r Ranges) Wire() netip.Prefix {
	if r.WireNetwork == 0 {
		return defaultWire.Prefix()
	}
	return r.WireNetwork.Prefix()
}

// Access is the layer 2 network that spans all hosts.
func (r Ranges) Access() netip.Prefix {
	if r.AccessNetwork == 0 {
		return defaultAccess.Prefix()
	}
	return r.AccessNetwork.Prefix()
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
func (r Ranges) Contains(a netip.Addr) bool { _, inside := r.In(a); return inside }

// Named is one of the networks, and the variable that says which.
type Named struct {
	Prefix   netip.Prefix
	Variable string
}

// Wanted says of a network that something else has what is wanted, and what to do.
func (n Named) Wanted() string {
	return fmt.Sprintf("wanted %s to be free (the variable %s names another network for all hosts; uninstall those first that are deployed already)", n.Prefix, n.Variable)
}

// In returns the network that an address is in.
func (r Ranges) In(a netip.Addr) (Named, bool) {
	for _, n := range []Named{{r.Wire(), "wire_network"}, {r.Access(), "access_network"}} {
		if n.Prefix.Contains(a) {
			return n, true
		}
	}
	return Named{}, false
}

// String names both.
func (r Ranges) String() string { return r.Wire().String() + " and " + r.Access().String() }

// in returns an address of a /16 by its last two bytes.
func in(p netip.Prefix, hi, lo byte) netip.Addr {
	b := p.Addr().As4()
	return netip.AddrFrom4([4]byte{b[0], b[1], hi, lo})
}

// Slash16 is an IPv4 network of 65,536 addresses: its first two bytes. 0 stands for none.
type Slash16 uint16

// ParseSlash16 reads one such as 10.98.0.0/16.
func ParseSlash16(s string) (Slash16, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil || !p.Addr().Is4() || p.Bits() != 16 || p != p.Masked() || p.Addr().IsUnspecified() {
		return 0, fmt.Errorf("found %q, wanted %s", s, WantSlash16)
	}
	b := p.Addr().As4()
	return Slash16(b[0])<<8 | Slash16(b[1]), nil
}

// WantSlash16 is what ParseSlash16 reads.
const WantSlash16 = "an IPv4 network of 16 bits such as 10.98.0.0/16"

// Prefix returns it as a prefix.
func (n Slash16) Prefix() netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(n >> 8), byte(n), 0, 0}), 16)
}

// MarshalText implements encoding.TextMarshaler.
func (n Slash16) MarshalText() ([]byte, error) { return n.Prefix().MarshalText() }

// UnmarshalText implements encoding.TextUnmarshaler.
func (n *Slash16) UnmarshalText(b []byte) (err error) {
	*n, err = ParseSlash16(string(b))
	return err
}

// ofOurOwn are the addresses that anybody may use inside: RFC 1918, and RFC 6598, which
// providers use so.
var ofOurOwn = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("100.64.0.0/10"),
}

// IsPrivate reports that an address leads somewhere in some networks alone: those of IPv4 that
// anybody may use inside, and RFC 4193.
func IsPrivate(a netip.Addr) bool {
	return a.IsPrivate() || slices.ContainsFunc(ofOurOwn, func(p netip.Prefix) bool { return p.Contains(a) })
}

// internet6 are the IPv6 addresses that lead anywhere (IANA, IPv6 Global Unicast Address Assignments).
var internet6 = netip.MustParsePrefix("2000::/3")

// IsGlobal6 reports that an address is one of IPv6 that may be reached from everywhere.
func IsGlobal6(a netip.Addr) bool { return internet6.Contains(a) }

// Check returns what is wanted instead of a network that cannot be wire_network or
// access_network, "" if it can.
func (n Slash16) Check() (want string) {
	private := false
	for _, p := range ofOurOwn {
		private = private || p.Overlaps(n.Prefix())
	}
	if !private {
		return "a private network, in 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16 or 100.64.0.0/10: any other would hide a part of the Internet"
	}
	for _, p := range HostOnly {
		if p.Overlaps(n.Prefix()) {
			return "a network without " + p.String() + ", at which clouds answer the host itself"
		}
	}
	return ""
}
