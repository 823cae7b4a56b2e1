package spec

import (
	"fmt"
	"hash/crc32"
	"net/netip"
)

// The names of what stands on a host. Users rely on them.
const (
	Namespace     = "mobula"
	AccessLink    = "veth_fac0"    // host ↔ access network
	AccessPort    = "mo-fac-ovs"   // its end on the switch
	DirectHost    = "mo-dir-hs"    // host ↔ gateway
	DirectGateway = "mo-dir-gw"    //
	WireLink      = "mo-wg-gw"     // WireGuard
	ExternalLink  = "mo-ext-gw"    // bridge with the public addresses
	UplinkPort    = "mo-mid-gw"    // veth_<uplink>'s end on that bridge
	SwitchBridge  = "ovsbr-mobula" // the gateway on the access network
	TunnelPort    = "mo-tunnel"    // Geneve

	// SourcePortTable is the agent's table of nftables, there while its host's packets leave
	// with another port than WireGuard's.
	SourcePortTable = "mobula_source_port"
)

const (
	// TunnelUDPPort is Geneve's port inside WireGuard.
	TunnelUDPPort = 6254
	// TunnelVNI is the Geneve network identifier (RFC 8926, 24 bits).
	TunnelVNI = 1
	// ProbeUDPPort is the agent's port inside WireGuard.
	ProbeUDPPort = 6255
	// MeshUDPPort is where agents ask each other how the network is, inside WireGuard.
	MeshUDPPort = 6256
	// CarryUDPPort is where agents carry WireGuard's packets for each other, inside WireGuard.
	CarryUDPPort = 6257
	// MetricsTCPPort is where the agent answers Prometheus, inside WireGuard.
	MetricsTCPPort = 6257
	// PageTCPPort is where the agent shows the page of the network.
	PageTCPPort = 6256
	// RouteTable is the host's routing table for what takes the direct link, and
	// RulePriority the first of the rules that lead to it. MaxRulePriority ends
	// the priorities that are ours.
	RouteTable      = 1030
	RulePriority    = 1030
	MaxRulePriority = 1039
	// KeepaliveSeconds holds NAT mappings between hosts open.
	KeepaliveSeconds = 25
)

// Everywhere are all IPv4 addresses, Everywhere6 those of IPv6: where a default route leads.
var (
	Everywhere  = netip.MustParsePrefix("0.0.0.0/0")
	Everywhere6 = netip.MustParsePrefix("::/0")
)

// UplinkVeth returns the name of the host's veth to the outside bridge. Names
// of interfaces have at most 15 bytes, so a long NIC name is shortened and kept
// unique by a checksum.
func UplinkVeth(uplink string) string {
	const most = 15
	if name := "veth_" + uplink; len(name) <= most {
		return name
	}
	return fmt.Sprintf("veth_%s%04x", uplink[:most-len("veth_")-4], crc32.ChecksumIEEE([]byte(uplink))&0xffff)
}

// OfVersionBefore returns the plan without what the version before does not know, and
// so would leave on the host.
func (h *Host) OfVersionBefore() *Host {
	before := *h
	before.Routes, before.Former, before.Neighbors, before.Doorway, before.Opening, before.Names = append([]Route{}, h.Former...), nil, nil, nil, nil, nil
	for _, r := range h.Routes {
		if !(len(h.Former) > 0 && r.NS == "" && r.Table == 0 && r.Link == DirectHost) {
			before.Routes = append(before.Routes, r)
		}
	}
	return &before
}
