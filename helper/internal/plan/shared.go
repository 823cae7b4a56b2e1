package plan

import "mobula/helper/internal/spec"

// shared is the way outside through the host, with which the NIC stays.
type shared struct{ builder }

func (b shared) links() []spec.Link        { return nil }
func (b shared) addresses() []spec.Address { return nil }
func (b shared) absent() []spec.Route      { return nil }
func (b shared) former() []spec.Route      { return nil }

// routes: whatever is not inside goes to the host, which knows the way.
func (b shared) routes() []spec.Route {
	return []spec.Route{b.direct(b.doc.Wire()), b.direct(b.doc.Access()),
		{NS: spec.Namespace, To: spec.Everywhere, Link: spec.DirectGateway, Via: b.doc.IntrawireAddress(b.self.ID), OnLink: true, Source: b.doc.DirectGateway()}}
}

func (b shared) rules() []spec.Rule { return nil }

// settings let the host forward between the gateway and the outside, and nobody else:
// "forwarding" counts for the interface by which a packet comes in, and the stricter
// "rp_filter" of all and the link (ip-sysctl.rst in the kernel's documentation).
func (b shared) settings() []spec.Setting {
	all := onLinks()
	for _, name := range b.facts.Shared.Opened {
		all = append(all, spec.Setting{Key: conf(name, "forwarding"), Value: "1", NIC: name})
	}
	return all
}

// onLinks are the settings of the gateway's links to the host.
func onLinks() []spec.Setting {
	return []spec.Setting{
		{Key: conf(spec.DirectHost, "forwarding"), Value: "1"},
		{Key: conf(spec.DirectHost, "rp_filter"), Value: "2"},
		{Key: conf(spec.AccessLink, "rp_filter"), Value: "2"},
	}
}

func conf(link, name string) string { return "net/ipv4/conf/" + link + "/" + name }

func (b shared) firewall() *spec.Firewall { return b.inside() }

func (b shared) doorway() *spec.Doorway {
	d := &spec.Doorway{Ranges: b.doc.Ranges, HostID: b.self.ID, Direct: spec.DirectHost, Access: spec.AccessLink, WireGuardPort: b.self.ListenPort(), Manual: b.self.ManualAccess,
		Outside: b.facts.Shared.Outside, Opened: b.facts.Shared.Opened, Bridges: b.facts.Shared.Bridges,
		Endpoint: b.self.Endpoint.Addr(), Relays: Relays(b.doc, b.self.ID)}
	if b.facts.Shared.Router {
		d.Opened, d.Bridges = nil, nil // what else is forwarded is the host's business
	}
	return d
}

func (b shared) opening() *spec.Opening {
	if !b.self.OpenFirewall {
		return nil
	}
	return &spec.Opening{Ranges: b.doc.Ranges, Port: b.self.ListenPort(), Outside: b.facts.Shared.Outside}
}

// files lead the host's own lookups to the gateway only where the operator wants it.
func (b shared) files() []spec.File {
	if b.self.GatewayResolver {
		return []spec.File{b.resolvConf(b.doc.DirectGateway())}
	}
	return ownResolvConfs(b.facts)
}

// ownResolvConfs is ownResolvConf; facts may have none.
func ownResolvConfs(facts spec.Facts) []spec.File {
	if facts.ResolvConf.Path == "" {
		return nil
	}
	return []spec.File{ownResolvConf(facts)}
}

// withoutShared is the host as it was. What forwards by itself meanwhile goes on.
func withoutShared(facts spec.Facts) *spec.Host {
	h := &spec.Host{Files: ownResolvConfs(facts)}
	for _, name := range facts.Shared.Opened {
		h.Settings = append(h.Settings, spec.Setting{Key: conf(name, "forwarding"), Like: "net/ipv4/ip_forward", NIC: name})
	}
	return h
}
