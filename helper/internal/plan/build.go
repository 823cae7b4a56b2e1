package plan

import (
	"errors"
	"fmt"
	"hash/crc32"
	"net/netip"

	"mobula/helper/internal/network"
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
)

const (
	// TunnelUDPPort is Geneve's port inside WireGuard.
	TunnelUDPPort = 6254
	// TunnelVNI is the Geneve network identifier (RFC 8926, 24 bits).
	TunnelVNI = 1
	// ProbeUDPPort is the agent's port inside WireGuard.
	ProbeUDPPort = 6255
	// RouteTable is the host's routing table for what takes the direct link, and
	// RulePriority the first of the rules that lead to it. MaxRulePriority ends
	// the priorities that are ours.
	RouteTable      = 1030
	RulePriority    = 1030
	MaxRulePriority = 1039
	// KeepaliveSeconds holds NAT mappings between hosts open.
	KeepaliveSeconds = 25
)

var everywhere = netip.MustParsePrefix("0.0.0.0/0")

// Build returns everything that host id of the document should have.
func Build(d *network.Document, id uint16, facts Facts) (*Host, error) {
	self, ok := d.Host(id)
	if !ok {
		return nil, fmt.Errorf("host_id %d: not in the network document", id)
	}
	if self.PublicKey.IsZero() {
		return nil, fmt.Errorf("host_id %d: no public key in the network document", id)
	}
	known := facts.In(self.SharedUplink)
	if known == nil || !known.IsShared() && (known.Uplink == "" || len(known.Addresses) == 0) {
		return nil, errors.New("the uplink and its addresses are not known")
	}
	b := builder{doc: d, self: self, facts: *known, mtus: d.MTUs()}
	out := b.uplink()
	h := &Host{
		Namespaces: []string{Namespace},
		Links:      last(append(b.links(), out.links()...)),
		Addresses:  append(b.addresses(), out.addresses()...),
		Routes:     append(b.routes(), out.routes()...),
		Absent:     out.absent(),
		Former:     out.former(),
		Neighbors:  b.neighbors(),
		Rules:      append(b.rules(), out.rules()...),
		Settings:   append(settings(), out.settings()...),
		WireGuard:  b.wireGuard(),
		Firewall:   out.firewall(),
		Doorway:    out.doorway(),
		Opening:    out.opening(),
		Names:      out.names(),
		Switch:     b.vswitch(),
		Files:      append(b.files(), out.files()...),
		Services:   b.services(),
	}
	h.beside(known.left())
	return h, nil
}

// uplink is what differs by how the gateway gets outside: over the NIC, which moves to
// it, or through the host, with which the NIC stays.
type uplink interface {
	links() []Link
	addresses() []Address
	routes() []Route
	absent() []Route
	former() []Route
	rules() []Rule
	settings() []Setting
	firewall() *Firewall
	doorway() *Doorway
	opening() *Opening
	names() *Names
	files() []File
}

func (b builder) uplink() uplink {
	if b.self.SharedUplink {
		return shared{b}
	}
	return moved{b}
}

// Without returns what a host has after Mobula left: its NIC with settings,
// addresses and routes, and its resolvers as they were; of a NIC that stayed with it
// nothing but what it had not before.
func Without(facts Facts) *Host {
	h := withoutMoved(facts)
	if facts.IsShared() {
		h = withoutShared(facts)
	}
	h.Files = append(h.Files, dhcpcdBlock(""))
	h.beside(facts.left())
	return h
}

func withoutMoved(facts Facts) *Host {
	before := facts.baseline()
	h := &Host{Links: []Link{facts.NIC()}, Settings: before.nicSettings(facts.Uplink)}
	h.Addresses, h.Routes, h.Absent = before.onNIC(facts.Uplink)
	h.Files = []File{ownResolvConf(facts)}
	return h
}

// Leaving is Without for as long as it may be taken back: Mobula's units stay, so
// that a reboot brings Mobula back. A NIC that is gone keeps nobody from it.
func Leaving(facts Facts) *Host {
	h := Without(facts)
	h.Keep = unitFiles()
	for i := range h.Links {
		h.Links[i].Optional = true
	}
	return h
}

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

type builder struct {
	doc   *network.Document
	self  network.Host
	facts Facts
	mtus  network.MTUs
}

func (b builder) links() []Link {
	id := b.self.ID
	return []Link{
		{Name: "lo", NS: Namespace, Kind: Loopback},
		{Name: DirectHost, Kind: Veth, Peer: DirectGateway, MAC: network.MAC(network.RoleDirectHost, id), MTU: b.mtus.Wire},
		{Name: DirectGateway, NS: Namespace, Kind: Veth, Peer: DirectHost, MAC: network.MAC(network.RoleDirectGateway, id), MTU: b.mtus.Wire},
		{Name: WireLink, NS: Namespace, Kind: WireGuardDevice, MTU: b.mtus.Wire, Underlay: b.self.SharedUplink},
		{Name: AccessLink, Kind: Veth, Peer: AccessPort, MAC: network.MAC(network.RoleAccess, id), MTU: b.mtus.Access, Free: true},
		{Name: AccessPort, NS: Namespace, Kind: Veth, Peer: AccessLink, MAC: network.MAC(network.RoleAccessPort, id), MTU: b.mtus.Access},
		{Name: SwitchBridge, NS: Namespace, Kind: Internal},
	}
}

func (b builder) addresses() []Address {
	id := b.self.ID
	all := []Address{
		{Link: DirectHost, Prefix: host(b.doc.IntrawireAddress(id))},
		{NS: Namespace, Link: DirectGateway, Prefix: host(b.doc.DirectGateway())},
		{NS: Namespace, Link: SwitchBridge, Prefix: netip.PrefixFrom(b.doc.GatewayAddress(id), b.doc.Access().Bits())},
	}
	if !b.self.ManualAccess && b.doc.HasAccessAddress(id) {
		all = append(all, Address{Link: AccessLink, Prefix: netip.PrefixFrom(b.doc.AccessAddress(id), b.doc.Access().Bits())})
	}
	for i := range all {
		all[i] = withBroadcast(all[i])
	}
	return all
}

func (b builder) routes() []Route {
	id := b.self.ID
	return []Route{
		{NS: Namespace, To: host(b.doc.IntrawireAddress(id)), Link: DirectGateway},
		{NS: Namespace, To: b.doc.Wire(), Link: WireLink, Source: b.doc.DirectGateway()},
	}
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

// neighbors are the members on the access network whose Ethernet addresses follow
// from their IDs: the gateways, and hosts whose operators do not give the address
// away.
func (b builder) neighbors() (all []Neighbor) {
	add := func(ns, link string, address netip.Addr, role network.Role, id uint16) {
		all = append(all, Neighbor{NS: ns, Link: link, Address: address, MAC: [6]byte(network.MAC(role, id))})
	}
	speaks := func(h network.Host) bool { return !h.ManualAccess && b.doc.HasAccessAddress(h.ID) }
	for _, h := range append([]network.Host{b.self}, b.others()...) {
		own := h.ID == b.self.ID
		if !own {
			add(Namespace, SwitchBridge, b.doc.GatewayAddress(h.ID), network.RoleGateway, h.ID)
		}
		if speaks(h) {
			add(Namespace, SwitchBridge, b.doc.AccessAddress(h.ID), network.RoleAccess, h.ID)
		}
		if speaks(b.self) {
			add("", AccessLink, b.doc.GatewayAddress(h.ID), network.RoleGateway, h.ID)
		}
		if speaks(b.self) && speaks(h) && !own {
			add("", AccessLink, b.doc.AccessAddress(h.ID), network.RoleAccess, h.ID)
		}
	}
	return all
}

// rules lead what is inside, and what answers it, over the direct link.
func (b builder) rules() []Rule {
	return []Rule{
		{Priority: RulePriority, From: host(b.doc.IntrawireAddress(b.self.ID)), Table: RouteTable},
		{Priority: RulePriority + 1, To: b.doc.Wire(), Table: RouteTable},
	}
}

// direct is a route over the direct link, for what those rules lead there.
func (b builder) direct(to netip.Prefix) Route {
	return Route{Table: RouteTable, To: to, Link: DirectHost, Via: b.doc.DirectGateway(), OnLink: true, Source: b.doc.IntrawireAddress(b.self.ID)}
}

// settings are the gateway's. New interfaces inherit those of "default".
func settings() []Setting {
	all := []Setting{
		{Key: "net/ipv4/ip_forward", Value: "1"},
		// The gateway speaks IPv4 only, until IPv6 is carried on purpose.
		{Key: "net/ipv6/conf/all/disable_ipv6", Value: "1"},
		{Key: "net/ipv6/conf/default/disable_ipv6", Value: "1"},
	}
	for _, conf := range []string{"all", "default"} {
		prefix := "net/ipv4/conf/" + conf + "/"
		all = append(all,
			// Answer ARP only for addresses of the interface that was asked:
			// otherwise the outside could reach inside addresses.
			Setting{Key: prefix + "arp_ignore", Value: "1"},
			Setting{Key: prefix + "arp_announce", Value: "2"},
			// The firewall checks sources; the kernel's check knows nothing of
			// addresses that are rewritten before it.
			Setting{Key: prefix + "rp_filter", Value: "0"},
			Setting{Key: prefix + "accept_redirects", Value: "0"},
			Setting{Key: prefix + "send_redirects", Value: "0"})
	}
	for i := range all {
		all[i].NS = Namespace
	}
	return all
}

func (b builder) wireGuard() *WireGuard {
	w := &WireGuard{Link: WireLink, HostID: b.self.ID, ListenPort: b.self.ListenPort(), PublicKey: b.self.PublicKey, AlsoKey: b.self.AlsoKey}
	for _, h := range b.others() {
		p := Peer{
			Name: h.Hostname, HostID: h.ID, PublicKey: h.PublicKey, OtherKey: h.AlsoKey, Endpoint: h.Endpoint,
			AllowedIPs: []netip.Prefix{host(b.doc.IntrawireAddress(h.ID))}, KeepaliveSeconds: KeepaliveSeconds,
			Preshared: b.self.PresharedKeys && h.PresharedKeys,
		}
		w.Peers = append(w.Peers, p)
		if !h.AlsoKey.IsZero() {
			p.Name += " (other key)"
			p.PublicKey, p.OtherKey, p.AllowedIPs = h.AlsoKey, h.PublicKey, nil
			w.Peers = append(w.Peers, p)
		}
	}
	for _, c := range b.doc.Clients {
		w.Peers = append(w.Peers, Peer{Name: "client " + c.Address.String(), PublicKey: c.PublicKey, AllowedIPs: []netip.Prefix{host(c.Address)}})
	}
	return w
}

// inside is the part of the firewall that does not depend on the uplink.
func (b builder) inside() *Firewall {
	return &Firewall{
		Ranges: b.doc.Ranges, HostID: b.self.ID, Wire: WireLink, Access: SwitchBridge, Direct: DirectGateway,
		WireGuardPort: b.self.ListenPort(), TunnelPort: TunnelUDPPort,
		ProbePort: ProbeUDPPort,
	}
}

func (b builder) vswitch() *Switch {
	s := &Switch{
		Ranges: b.doc.Ranges, HostID: b.self.ID, Bridge: SwitchBridge, MAC: network.MAC(network.RoleGateway, b.self.ID), MTU: b.mtus.Access,
		LocalPorts: []string{AccessPort}, TunnelPort: TunnelPort, UDPPort: TunnelUDPPort, VNI: TunnelVNI,
	}
	for _, h := range b.others() {
		s.Remotes = append(s.Remotes, Remote{HostID: h.ID, Name: h.Hostname, Address: b.doc.IntrawireAddress(h.ID)})
	}
	return s
}

// others returns the other hosts that have a key, which are those that were
// deployed at least once.
func (b builder) others() []network.Host {
	var all []network.Host
	for _, h := range b.doc.Hosts {
		if h.ID != b.self.ID && !h.PublicKey.IsZero() {
			all = append(all, h)
		}
	}
	return all
}

func host(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }
