// Package plan computes everything that a host should have from the network
// document and what was found on the host. It is pure: the same input gives the
// same plan anywhere, and nothing here touches a kernel.
package plan

import (
	"errors"
	"fmt"
	"net/netip"

	"mobula/helper/internal/network"
	"mobula/helper/internal/spec"
)

// Build returns everything that host id of the document should have.
func Build(d *network.Document, id uint16, facts spec.Facts) (*spec.Host, error) {
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
	h := &spec.Host{
		Namespaces: []string{spec.Namespace},
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
	beside(h, left(known))
	return h, nil
}

// uplink is what differs by how the gateway gets outside: over the NIC, which moves to
// it, or through the host, with which the NIC stays.
type uplink interface {
	links() []spec.Link
	addresses() []spec.Address
	routes() []spec.Route
	absent() []spec.Route
	former() []spec.Route
	rules() []spec.Rule
	settings() []spec.Setting
	firewall() *spec.Firewall
	doorway() *spec.Doorway
	opening() *spec.Opening
	names() *spec.Names
	files() []spec.File
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
func Without(facts spec.Facts) *spec.Host {
	h := withoutMoved(facts)
	if facts.IsShared() {
		h = withoutShared(facts)
	}
	h.Files = append(h.Files, dhcpcdBlock(""))
	beside(h, left(&facts))
	return h
}

func withoutMoved(facts spec.Facts) *spec.Host {
	before := facts.Original()
	h := &spec.Host{Links: []spec.Link{facts.NIC()}, Settings: nicSettings(before, facts.Uplink)}
	h.Addresses, h.Routes, h.Absent = onNIC(before, facts.Uplink)
	h.Files = []spec.File{ownResolvConf(facts)}
	return h
}

// Leaving is Without for as long as it may be rolled back: Mobula's units stay, so
// that a reboot brings Mobula back. A NIC that is gone keeps nobody from it.
func Leaving(facts spec.Facts) *spec.Host {
	h := Without(facts)
	h.Keep = spec.UnitFiles()
	for i := range h.Links {
		h.Links[i].Optional = true
	}
	return h
}

type builder struct {
	doc   *network.Document
	self  network.Host
	facts spec.Facts
	mtus  network.MTUs
}

func (b builder) links() []spec.Link {
	id := b.self.ID
	return []spec.Link{
		{Name: "lo", NS: spec.Namespace, Kind: spec.Loopback},
		{Name: spec.DirectHost, Kind: spec.Veth, Peer: spec.DirectGateway, MAC: network.MAC(network.RoleDirectHost, id), MTU: b.mtus.Wire},
		{Name: spec.DirectGateway, NS: spec.Namespace, Kind: spec.Veth, Peer: spec.DirectHost, MAC: network.MAC(network.RoleDirectGateway, id), MTU: b.mtus.Wire},
		{Name: spec.WireLink, NS: spec.Namespace, Kind: spec.WireGuardDevice, MTU: b.mtus.Wire, Underlay: b.self.SharedUplink},
		{Name: spec.AccessLink, Kind: spec.Veth, Peer: spec.AccessPort, MAC: network.MAC(network.RoleAccess, id), MTU: b.mtus.Access, Free: true},
		{Name: spec.AccessPort, NS: spec.Namespace, Kind: spec.Veth, Peer: spec.AccessLink, MAC: network.MAC(network.RoleAccessPort, id), MTU: b.mtus.Access},
		{Name: spec.SwitchBridge, NS: spec.Namespace, Kind: spec.Internal},
	}
}

func (b builder) addresses() []spec.Address {
	id := b.self.ID
	all := []spec.Address{
		{Link: spec.DirectHost, Prefix: host(b.doc.IntrawireAddress(id))},
		{NS: spec.Namespace, Link: spec.DirectGateway, Prefix: host(b.doc.DirectGateway())},
		{NS: spec.Namespace, Link: spec.SwitchBridge, Prefix: netip.PrefixFrom(b.doc.GatewayAddress(id), b.doc.Access().Bits())},
	}
	if !b.self.ManualAccess && b.doc.HasAccessAddress(id) {
		all = append(all, spec.Address{Link: spec.AccessLink, Prefix: netip.PrefixFrom(b.doc.AccessAddress(id), b.doc.Access().Bits())})
	}
	for i := range all {
		all[i] = spec.WithBroadcast(all[i])
	}
	return all
}

func (b builder) routes() []spec.Route {
	id := b.self.ID
	return []spec.Route{
		{NS: spec.Namespace, To: host(b.doc.IntrawireAddress(id)), Link: spec.DirectGateway},
		{NS: spec.Namespace, To: b.doc.Wire(), Link: spec.WireLink, Source: b.doc.DirectGateway()},
	}
}

// neighbors are the members on the access network whose Ethernet addresses follow
// from their IDs: the gateways, and hosts whose operators do not give the address
// away.
func (b builder) neighbors() (all []spec.Neighbor) {
	add := func(ns, link string, address netip.Addr, role network.Role, id uint16) {
		all = append(all, spec.Neighbor{NS: ns, Link: link, Address: address, MAC: [6]byte(network.MAC(role, id))})
	}
	speaks := func(h network.Host) bool { return !h.ManualAccess && b.doc.HasAccessAddress(h.ID) }
	for _, h := range append([]network.Host{b.self}, b.others()...) {
		own := h.ID == b.self.ID
		if !own {
			add(spec.Namespace, spec.SwitchBridge, b.doc.GatewayAddress(h.ID), network.RoleGateway, h.ID)
		}
		if speaks(h) {
			add(spec.Namespace, spec.SwitchBridge, b.doc.AccessAddress(h.ID), network.RoleAccess, h.ID)
		}
		if speaks(b.self) {
			add("", spec.AccessLink, b.doc.GatewayAddress(h.ID), network.RoleGateway, h.ID)
		}
		if speaks(b.self) && speaks(h) && !own {
			add("", spec.AccessLink, b.doc.AccessAddress(h.ID), network.RoleAccess, h.ID)
		}
	}
	return all
}

// rules lead what is inside, and what answers it, over the direct link.
func (b builder) rules() []spec.Rule {
	return []spec.Rule{
		{Priority: spec.RulePriority, From: host(b.doc.IntrawireAddress(b.self.ID)), Table: spec.RouteTable},
		{Priority: spec.RulePriority + 1, To: b.doc.Wire(), Table: spec.RouteTable},
	}
}

// direct is a route over the direct link, for what those rules lead there.
func (b builder) direct(to netip.Prefix) spec.Route {
	return spec.Route{Table: spec.RouteTable, To: to, Link: spec.DirectHost, Via: b.doc.DirectGateway(), OnLink: true, Source: b.doc.IntrawireAddress(b.self.ID)}
}

// settings are the gateway's. New interfaces inherit those of "default".
func settings() []spec.Setting {
	all := []spec.Setting{
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
			spec.Setting{Key: prefix + "arp_ignore", Value: "1"},
			spec.Setting{Key: prefix + "arp_announce", Value: "2"},
			// The firewall checks sources; the kernel's check knows nothing of
			// addresses that are rewritten before it.
			spec.Setting{Key: prefix + "rp_filter", Value: "0"},
			spec.Setting{Key: prefix + "accept_redirects", Value: "0"},
			spec.Setting{Key: prefix + "send_redirects", Value: "0"})
	}
	for i := range all {
		all[i].NS = spec.Namespace
	}
	return all
}

func (b builder) wireGuard() *spec.WireGuard {
	w := &spec.WireGuard{Link: spec.WireLink, HostID: b.self.ID, ListenPort: b.self.ListenPort(), PublicKey: b.self.PublicKey, AlsoKey: b.self.AlsoKey}
	for _, h := range b.others() {
		p := spec.Peer{
			Name: h.Hostname, HostID: h.ID, PublicKey: h.PublicKey, OtherKey: h.AlsoKey, Endpoint: b.firstOf(h),
			AllowedIPs: []netip.Prefix{host(b.doc.IntrawireAddress(h.ID))}, KeepaliveSeconds: spec.KeepaliveSeconds,
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
		w.Peers = append(w.Peers, spec.Peer{Name: "client " + c.Address.String(), PublicKey: c.PublicKey, AllowedIPs: []netip.Prefix{host(c.Address)}})
	}
	return w
}

// firstOf returns the endpoint to which this host sends first; zero: none.
func (b builder) firstOf(h network.Host) netip.AddrPort {
	if !b.self.SharedUplink {
		h = h.IPv4Only()
	}
	if all := h.Endpoints(); len(all) > 0 {
		return all[0]
	}
	return netip.AddrPort{}
}

// inside is the part of the firewall that does not depend on the uplink.
func (b builder) inside() *spec.Firewall {
	f := &spec.Firewall{
		Ranges: b.doc.Ranges, HostID: b.self.ID, Wire: spec.WireLink, Access: spec.SwitchBridge, Direct: spec.DirectGateway,
		WireGuardPort: b.self.ListenPort(), TunnelPort: spec.TunnelUDPPort,
		ProbePort: spec.ProbeUDPPort, MeshPort: spec.MeshUDPPort, CarryPort: spec.CarryUDPPort, PagePort: spec.PageTCPPort, PageForGuests: b.self.MapForGuests,
	}
	if b.self.Metrics {
		f.MetricsPort = spec.MetricsTCPPort
	}
	return f
}

func (b builder) vswitch() *spec.Switch {
	s := &spec.Switch{
		Ranges: b.doc.Ranges, HostID: b.self.ID, Bridge: spec.SwitchBridge, MAC: network.MAC(network.RoleGateway, b.self.ID), MTU: b.mtus.Access,
		LocalPorts: []string{spec.AccessPort}, TunnelPort: spec.TunnelPort, UDPPort: spec.TunnelUDPPort, VNI: spec.TunnelVNI,
	}
	for _, h := range b.others() {
		s.Remotes = append(s.Remotes, spec.Remote{HostID: h.ID, Name: h.Hostname, Address: b.doc.IntrawireAddress(h.ID)})
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
