package plan

import (
	"net/netip"
	"slices"
	"strings"
)

// Shared are the facts of a host with which the NIC stays: nothing of it changes but
// what is noted here.
type Shared struct {
	// Outside are the interfaces with a default route, and Opened those of them that did
	// not forward IPv4; Bridges are those of Opened that are bridges.
	Outside []string `json:"outside"`
	Opened  []string `json:"opened"`
	Bridges []string `json:"bridges,omitempty"`
	// Router: the host forwards for others now, whatever Mobula needs.
	Router bool `json:"-"`
	// NewForward: new interfaces of the host forward IPv4.
	NewForward bool `json:"-"`
}

// WithWays returns the facts with the ways outside that the host has now. Those that it
// had stay: they may come back.
func (f *Facts) WithWays(now Shared) (next *Facts, changed bool) {
	add := func(some, more []string) []string {
		for _, name := range more {
			if !slices.Contains(some, name) {
				some, changed = append(some[:len(some):len(some)], name), true
			}
		}
		return some
	}
	with, s := *f, *f.Shared
	s.Outside, s.Opened, s.Bridges, s.Router = add(s.Outside, now.Outside), add(s.Opened, now.Opened), add(s.Bridges, now.Bridges), now.Router
	with.Shared = &s
	return &with, changed
}

// WithResolver returns the facts with the /etc/resolv.conf that the host has now and the
// resolvers in it, if that is its own: whoever writes it, as for a new lease, wants it
// there when Mobula's is gone. One that is away or without a resolver is on its way.
func (f *Facts) WithResolver(now File, resolvers []netip.Addr) (next *Facts, changed bool) {
	if now.IsOurs() || now == f.ResolvConf || now.Target == "" && !strings.Contains(now.Content, "nameserver") {
		return f, false
	}
	with := *f
	if with.ResolvConf = now; len(resolvers) > 0 {
		with.Resolvers = resolvers
	}
	return &with, true
}

// IsShared reports that the NIC stays with the host.
func (f *Facts) IsShared() bool { return f.Shared != nil }

// shared is the way outside through the host, with which the NIC stays.
type shared struct{ builder }

func (b shared) links() []Link        { return nil }
func (b shared) addresses() []Address { return nil }
func (b shared) absent() []Route      { return nil }
func (b shared) former() []Route      { return nil }

// routes: whatever is not inside goes to the host, which knows the way.
func (b shared) routes() []Route {
	return []Route{b.direct(b.doc.Wire()), b.direct(b.doc.Access()),
		{NS: Namespace, To: everywhere, Link: DirectGateway, Via: b.doc.IntrawireAddress(b.self.ID), OnLink: true, Source: b.doc.DirectGateway()}}
}

func (b shared) rules() []Rule { return nil }

// settings let the host forward between the gateway and the outside, and nobody else:
// "forwarding" counts for the interface by which a packet comes in, and the stricter
// "rp_filter" of all and the link (ip-sysctl.rst in the kernel's documentation).
func (b shared) settings() []Setting {
	all := onLinks()
	for _, name := range b.facts.Shared.Opened {
		all = append(all, Setting{Key: conf(name, "forwarding"), Value: "1", NIC: name})
	}
	return all
}

// onLinks are the settings of the gateway's links to the host.
func onLinks() []Setting {
	return []Setting{
		{Key: conf(DirectHost, "forwarding"), Value: "1"},
		{Key: conf(DirectHost, "rp_filter"), Value: "2"},
		{Key: conf(AccessLink, "rp_filter"), Value: "2"},
	}
}

func conf(link, name string) string { return "net/ipv4/conf/" + link + "/" + name }

func (b shared) firewall() *Firewall { return b.inside() }

func (b shared) doorway() *Doorway {
	d := &Doorway{Ranges: b.doc.Ranges, HostID: b.self.ID, Direct: DirectHost, Access: AccessLink, WireGuardPort: b.self.ListenPort(), Manual: b.self.ManualAccess,
		Outside: b.facts.Shared.Outside, Opened: b.facts.Shared.Opened, Bridges: b.facts.Shared.Bridges,
		Endpoint: b.self.Endpoint.Addr(), Relays: Relays(b.doc, b.self.ID)}
	if b.facts.Shared.Router {
		d.Opened, d.Bridges = nil, nil // what else is forwarded is the host's business
	}
	return d
}

func (b shared) opening() *Opening {
	if !b.self.OpenFirewall {
		return nil
	}
	return &Opening{Ranges: b.doc.Ranges, Port: b.self.ListenPort(), Outside: b.facts.Shared.Outside}
}

// files lead the host's own lookups to the gateway only where the operator wants it.
func (b shared) files() []File {
	if b.self.GatewayResolver {
		return []File{b.resolvConf(b.doc.DirectGateway())}
	}
	return ownResolvConfs(b.facts)
}

// ownResolvConfs is ownResolvConf; facts may have none.
func ownResolvConfs(facts Facts) []File {
	if facts.ResolvConf.Path == "" {
		return nil
	}
	return []File{ownResolvConf(facts)}
}

// withoutShared is the host as it was. What forwards by itself meanwhile goes on.
func withoutShared(facts Facts) *Host {
	h := &Host{Files: ownResolvConfs(facts)}
	for _, name := range facts.Shared.Opened {
		h.Settings = append(h.Settings, Setting{Key: conf(name, "forwarding"), Like: "net/ipv4/ip_forward", NIC: name})
	}
	return h
}
