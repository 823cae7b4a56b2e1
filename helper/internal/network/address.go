package network

import (
	"fmt"
	"net"
	"net/netip"
)

// Bounds of a host ID. 0 would give the gateway side of the direct link, and
// 15 bits are what fits below the second half of each /16.
const (
	MinHostID = 1
	MaxHostID = 32767
)

// HostOnly are the addresses at which clouds answer the host itself, with its
// credentials among what they say: link-local (RFC 3927; most clouds have
// 169.254.169.254), Azure's 168.63.129.16 and Alibaba's 100.100.100.200. Guests
// and clients never reach them through a gateway.
var HostOnly = []netip.Prefix{
	netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("168.63.129.16/32"),
	netip.MustParsePrefix("100.100.100.200/32"),
}

// ReverseZone returns the DNS zone with the names of a /16's addresses, without the final
// dot (RFC 1035, section 3.5).
func ReverseZone(p netip.Prefix) string {
	b := p.Addr().As4()
	return fmt.Sprintf("%d.%d.in-addr.arpa", b[1], b[0])
}

// Role is what an Ethernet address stands for.
type Role byte

// The roles of interfaces whose addresses follow from the host ID.
const (
	RoleGateway       Role = 1 // ovsbr-mobula
	RoleAccess        Role = 2 // veth_fac0
	RoleAccessPort    Role = 3 // mo-fac-ovs
	RoleDirectHost    Role = 4 // mo-dir-hs
	RoleDirectGateway Role = 5 // mo-dir-gw
	RoleUplinkHost    Role = 6 // veth_<uplink>
	RoleUplinkGateway Role = 7 // mo-mid-gw
)

// MAC returns the locally administered unicast address of the interface that
// plays role on host id: 02:6d:6f:role:hi:lo. Neither udev nor systemd may
// choose it, because hosts cloned from one image would get the same one.
func MAC(role Role, id uint16) net.HardwareAddr {
	return net.HardwareAddr{0x02, 0x6d, 0x6f, byte(role), byte(id >> 8), byte(id)}
}

// Bytes that a tunnel adds to each packet.
const (
	// WireGuardOverheadBytes is IPv4 (20), UDP (8), the data message header
	// (16) and its authentication tag (16).
	WireGuardOverheadBytes = 60
	// WireGuardMessageBytes are those of them that are no headers of IP and UDP.
	WireGuardMessageBytes = 32
	// IPv6MoreBytes is how much longer the header of IPv6 is (RFC 8200).
	IPv6MoreBytes = 20
	// GeneveOverheadBytes is IPv4 (20), UDP (8), Geneve without options (8,
	// RFC 8926) and the inner Ethernet header (14).
	GeneveOverheadBytes = 50
	// VLANTagBytes is an IEEE 802.1Q tag inside the tunnel.
	VLANTagBytes = 4
)

// Bounds of the uplink MTU in bytes. Below the lower one an IPv6 packet of
// 1280 bytes would not fit the access network; see also LeastUnderlayMTU.
const (
	MinUnderlayMTU = 1280 + WireGuardOverheadBytes + GeneveOverheadBytes + VLANTagBytes
	MaxUnderlayMTU = 9216
)

// MTUs are the sizes in bytes of the largest IP packets that pass unfragmented.
type MTUs struct {
	Underlay int // between the uplinks
	Wire     int // inside WireGuard
	Access   int // on the access network, also inside a VLAN
}

// LeastUnderlayMTU returns MinUnderlayMTU in bytes, as much more as IPv6 takes where some of
// the underlay is.
func LeastUnderlayMTU(ipv6 bool) int {
	if ipv6 {
		return MinUnderlayMTU + IPv6MoreBytes
	}
	return MinUnderlayMTU
}

// MTUsOver returns the MTUs of everything that rides on the given underlay MTU, where some
// of the underlay is IPv6 or none is.
func MTUsOver(underlayBytes int, ipv6 bool) MTUs {
	wire := underlayBytes - WireGuardOverheadBytes
	if ipv6 {
		wire -= IPv6MoreBytes
	}
	return MTUs{Underlay: underlayBytes, Wire: wire, Access: wire - GeneveOverheadBytes - VLANTagBytes}
}
