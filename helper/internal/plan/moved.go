package plan

import (
	"path"

	"mobula/helper/internal/network"
)

// moved is the NIC in the gateway's namespace, where its addresses are those of a
// bridge to the outside.
type moved struct{ builder }

func (b moved) links() []Link {
	id, veth, nic := b.self.ID, UplinkVeth(b.facts.Uplink), b.facts.NIC()
	nic.NS, nic.Master, nic.Index = Namespace, ExternalLink, 0
	return []Link{
		{Name: ExternalLink, NS: Namespace, Kind: Bridge, MAC: b.facts.MAC, MTU: b.facts.MTU},
		// Left down: set up, it would carry frames from outside to the host past
		// the gateway's firewall.
		{Name: veth, Kind: Veth, Peer: UplinkPort, MAC: network.MAC(network.RoleUplinkHost, id), MTU: b.facts.MTU, Down: true, Free: true},
		{Name: UplinkPort, NS: Namespace, Kind: Veth, Peer: veth, Master: ExternalLink, MAC: network.MAC(network.RoleUplinkGateway, id), MTU: b.facts.MTU},
		nic,
	}
}

func (b moved) addresses() []Address {
	public, _, _ := b.facts.baseline().outside()
	return public
}

func (b moved) routes() []Route {
	_, outside, _ := b.facts.baseline().outside()
	all := append([]Route{b.direct(everywhere)}, outside...)
	if !b.self.ManualAccess {
		all = append(all, b.wayOutside())
	}
	return all
}

func (b moved) absent() []Route {
	_, _, absent := b.facts.baseline().outside()
	return absent
}

// wayOutside is the way by which published ports come in: what answers may stand
// behind the host, as a container does, and is routed before it has the host's address.
func (b moved) wayOutside() Route {
	return Route{To: everywhere, Metric: b.facts.baseline().DefaultMetric, Link: DirectHost, Via: b.doc.DirectGateway(), OnLink: true,
		Source: b.doc.IntrawireAddress(b.self.ID), Uplink: true}
}

// former is the way outside of the version before.
func (b moved) former() []Route {
	id := b.self.ID
	if b.self.ManualAccess || !b.doc.HasAccessAddress(id) {
		return nil
	}
	return []Route{{To: everywhere, Metric: b.facts.baseline().DefaultMetric, Link: AccessLink, Via: b.doc.GatewayAddress(id), Source: b.doc.AccessAddress(id), Uplink: true}}
}

// rules: what answers the host alone is asked over the direct link, where nobody else
// speaks. Routes of the host's own, of another link say, come first.
func (b moved) rules() (all []Rule) {
	for _, to := range network.HostOnly {
		all = append(all,
			Rule{Priority: RulePriority + 2, To: to, Specific: true},
			Rule{Priority: RulePriority + 3, To: to, Table: RouteTable})
	}
	return all
}

// settings of the links that both ways outside have are those of new ones again where they
// were others until now.
func (b moved) settings() (all []Setting) {
	if b.facts.Other == nil {
		return nil
	}
	for _, s := range onLinks() {
		s.Value, s.Like = "", "net/ipv4/conf/default/"+path.Base(s.Key)
		all = append(all, s)
	}
	return all
}

func (b moved) firewall() *Firewall {
	f := b.inside()
	f.External, f.Published, f.Relays = ExternalLink, b.published(), Relays(b.doc, b.self.ID)
	for _, a := range b.facts.Addresses {
		f.Public = append(f.Public, a.Addr())
	}
	for _, h := range b.others() {
		f.Members = append(f.Members, h.Endpoint)
	}
	return f
}

func (b moved) doorway() *Doorway { return nil }
func (b moved) opening() *Opening { return nil }
func (b moved) names() *Names     { return nil }

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

func (b moved) files() []File {
	files := []File{{Path: UnitDir + "network-online.target.wants/" + UnitBoot, Target: UnitDir + UnitBoot}}
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
func (b moved) managerFiles(m Manager) []File {
	late := func(f File) File { f.Late = true; return f }
	switch m {
	case Ifupdown:
		return []File{
			b.render(IfupdownDropIn, "ifupdown.conf"),
			b.render(hotplugDropIn(b.facts.Uplink), "ifup-hotplug.conf"),
		}
	case Networkd:
		return []File{
			b.render(networkdWait, "wait-online.conf"),
			late(b.render(networkdUplink, "networkd-uplink.network")),
		}
	case NetworkManager:
		return []File{
			b.render(networkManagerWait, "wait-online.conf"),
			late(b.render(networkManagerUplink, "networkmanager-uplink.conf")),
		}
	}
	return nil
}
