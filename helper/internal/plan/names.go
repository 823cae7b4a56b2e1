package plan

import (
	"fmt"
	"slices"
	"strings"

	"mobula/helper/internal/block"
	"mobula/helper/internal/network"
	"mobula/helper/internal/spec"
)

// maxDomains is how many domains a link gets. systemd-resolved takes 256 at once up to
// version 252, and has the old and the new ones while they change
// (LINK_SEARCH_DOMAINS_MAX in resolved-link.h, bus_link_method_set_domains).
const maxDomains = 128

// notRouted are the domains about which systemd-resolved asks nobody
// (dns_scope_good_domain in resolved-dns-scope.c).
var notRouted = []string{"localhost", "localhost.localdomain", "invalid", "resolver.arpa"}

// names are those that the document has, each by itself: what is around a name belongs
// to somebody else. The link is the one whose address every host has.
func (b shared) names() *spec.Names {
	if b.self.GatewayResolver {
		return nil
	}
	all := b.doc.PrivateNames()
	n := &spec.Names{Link: spec.DirectHost, Server: b.doc.DirectGateway(), All: b.hostsLines(all),
		Domains: []string{network.ReverseZone(b.doc.Wire()), network.ReverseZone(b.doc.Access())}}
	routed, others := routes(all)
	if len(n.Domains)+len(routed) > maxDomains {
		routed, others = nil, all
	}
	n.Domains, n.Beside = append(n.Domains, routed...), b.hostsLines(others)
	return n
}

// routes returns the domains with all names that can be looked up so, and the others.
func routes(all []network.NameAddress) (domains []string, others []network.NameAddress) {
	private := map[string]bool{}
	for _, n := range all {
		private[n.Name] = true
	}
	for _, n := range all {
		switch {
		case slices.ContainsFunc(notRouted, func(zone string) bool { return strings.HasSuffix("."+n.Name, "."+zone) }):
			others = append(others, n)
		case !isBelow(n.Name, private):
			domains = append(domains, n.Name)
		}
	}
	return domains, others
}

// isBelow reports that a name is below another one, whose domain it is in.
func isBelow(name string, names map[string]bool) bool {
	for _, above, _ := strings.Cut(name, "."); above != ""; _, above, _ = strings.Cut(above, ".") {
		if names[above] {
			return true
		}
	}
	return false
}

// hostsLines are names as in hosts(5).
func (b shared) hostsLines(all []network.NameAddress) string {
	var s strings.Builder
	for _, n := range all {
		fmt.Fprintf(&s, "%s\t%s\n", n.Address, n.Name)
	}
	return block.Names(b.doc.Wire(), b.doc.Access(), s.String())
}
