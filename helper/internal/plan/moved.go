package plan

import (
	"path"

	"mobula/helper/internal/network"
	"mobula/helper/internal/spec"
)

// moved is the NIC in the gateway's namespace, where its addresses are those of a
// bridge to the outside.
type moved struct{ builder }

func (b moved) links() []spec.Link {
	id, veth, nic := b.self.ID, spec.UplinkVeth(b.facts.Uplink), b.facts.NIC()
	nic.NS, nic.Master, nic.Index = spec.Namespace, spec.ExternalLink, 0
	return []spec.Link{
		{Name: spec.ExternalLink, NS: spec.Namespace, Kind: spec.Bridge, MAC: b.facts.MAC, MTU: b.facts.MTU},
		// Left down: set up, it would carry frames from outside to the host past
		// the gateway's firewall.
		{Name: veth, Kind: spec.Veth, Peer: spec.UplinkPort, MAC: network.MAC(network.RoleUplinkHost, id), MTU: b.facts.MTU, Down: true, Free: true},
		{Name: spec.UplinkPort, NS: spec.Namespace, Kind: spec.Veth, Peer: veth, Master: spec.ExternalLink, MAC: network.MAC(network.RoleUplinkGateway, id), MTU: b.facts.MTU},
		nic,
	}
}

func (b moved) addresses() []spec.Address {
	public, _, _ := onBridge(b.facts.Original())
	return public
}

func (b moved) routes() []spec.Route {
	_, outside, _ := onBridge(b.facts.Original())
	all := append([]spec.Route{b.direct(spec.Everywhere)}, outside...)
	if !b.self.ManualAccess {
		all = append(all, b.wayOutside())
	}
	return all
}

func (b moved) absent() []spec.Route {
	_, _, absent := onBridge(b.facts.Original())
	return absent
}

// wayOutside is the way by which published ports come in: what answers may stand
// behind the host, as a container does, and is routed before it has the host's address.
func (b moved) wayOutside() spec.Route {
	return spec.Route{To: spec.Everywhere, Metric: b.facts.Original().DefaultMetric, Link: spec.DirectHost, Via: b.doc.DirectGateway(), OnLink: true,
		Source: b.doc.IntrawireAddress(b.self.ID), Uplink: true}
}

// former is the way outside of the version before.
func (b moved) former() []spec.Route {
	id := b.self.ID
	if b.self.ManualAccess || !b.doc.HasAccessAddress(id) {
		return nil
	}
	return []spec.Route{{To: spec.Everywhere, Metric: b.facts.Original().DefaultMetric, Link: spec.AccessLink, Via: b.doc.GatewayAddress(id), Source: b.doc.AccessAddress(id), Uplink: true}}
}

// rules: what answers the host alone is asked over the direct link, where nobody else
// speaks. Routes of the host's own, of another link say, come first.
func (b moved) rules() (all []spec.Rule) {
	for _, to := range network.HostOnly {
		all = append(all,
			spec.Rule{Priority: spec.RulePriority + 2, To: to, Specific: true},
			spec.Rule{Priority: spec.RulePriority + 3, To: to, Table: spec.RouteTable})
	}
	return all
}

// settings of the links that both ways outside have are those of new ones again where they
// were others until now.
func (b moved) settings() (all []spec.Setting) {
	if b.facts.Other == nil {
		return nil
	}
	for _, s := range onLinks() {
		s.Value, s.Like = "", "net/ipv4/conf/default/"+path.Base(s.Key)
		all = append(all, s)
	}
	return all
}

func (b moved) firewall() *spec.Firewall {
	f := b.inside()
	f.External, f.Published, f.Relays = spec.ExternalLink, b.published(), Relays(b.doc, b.self.ID)
	for _, a := range b.facts.Addresses {
		f.Public = append(f.Public, a.Addr())
	}
	for _, h := range b.others() {
		f.Members = append(f.Members, h.IPv4Only().Endpoints()...)
	}
	return f
}

func (b moved) doorway() *spec.Doorway { return nil }
func (b moved) opening() *spec.Opening { return nil }
func (b moved) names() *spec.Names     { return nil }

// published returns the host's ports open to the outside: SSH, so that the
// operator still gets in, and what the document lists.
func (b moved) published() []network.Port {
	var all []network.Port
	seen := map[network.Port]bool{}
	add := func(p network.Port) {
		if !seen[p] {
			seen[p] = true
			all = append(all, p)
		}
	}
	for _, port := range b.facts.SSHPorts {
		add(network.Port{Protocol: "tcp", Number: port})
	}
	for _, p := range b.self.Publish {
		add(p)
	}
	return all
}

func (b moved) files() []spec.File {
	files := []spec.File{{Path: spec.UnitDir + "network-online.target.wants/" + spec.UnitBoot, Target: spec.UnitDir + spec.UnitBoot}}
	for _, m := range b.facts.Managers {
		files = append(files, b.managerFiles(m)...)
	}
	if b.self.ManualAccess {
		return append(files, ownResolvConf(b.facts))
	}
	return append(files, b.resolvConf(b.doc.GatewayAddress(b.self.ID)))
}

// managerFiles keeps a network manager from configuring the uplink, and from waiting
// for it. Files about the uplink itself are late: before the NIC has moved they would
// take its addresses away.
func (b moved) managerFiles(m spec.Manager) []spec.File {
	late := func(f spec.File) spec.File { f.Late = true; return f }
	switch m {
	case spec.Ifupdown:
		return []spec.File{
			b.render(spec.IfupdownDropIn, "ifupdown.conf"),
			b.render(spec.HotplugDropIn(b.facts.Uplink), "ifup-hotplug.conf"),
			b.render(spec.IfupdownWait, "wait-online.conf"),
		}
	case spec.Networkd:
		return []spec.File{
			b.render(spec.NetworkdWait, "wait-online.conf"),
			b.render(spec.NetworkdWaitFor(b.facts.Uplink), "wait-online.conf"),
			late(b.render(spec.NetworkdUplink, "networkd-uplink.network")),
		}
	case spec.NetworkManager:
		return []spec.File{
			b.render(spec.NetworkManagerWait, "wait-online.conf"),
			late(b.render(spec.NetworkManagerUplink, "networkmanager-uplink.conf")),
		}
	}
	return nil
}
