package plan

import (
	"slices"

	"mobula/helper/internal/spec"
)

// onNIC are the addresses, routes and absent routes of the NIC in the host's own
// namespace.
func onNIC(b spec.Baseline, uplink string) (addresses []spec.Address, routes, absent []spec.Route) {
	for _, a := range b.Addresses {
		a.NS, a.Link, a.Uplink = "", uplink, true
		addresses = append(addresses, a)
	}
	at := func(all []spec.Route) (there []spec.Route) {
		for _, r := range all {
			r.NS, r.Link, r.Uplink = "", uplink, true
			there = append(there, r)
		}
		return there
	}
	return addresses, at(b.Routes), at(b.Absent)
}

// onBridge are the IPv4 ones of them on the gateway's bridge to the outside.
func onBridge(b spec.Baseline) (addresses []spec.Address, routes, absent []spec.Route) {
	for _, a := range b.Addresses {
		if a.Prefix.Addr().Is4() {
			a.NS, a.Link, a.Uplink, a.Label = spec.Namespace, spec.ExternalLink, true, ""
			addresses = append(addresses, a)
		}
	}
	addresses = append(addresses, answering(addresses)...)
	at := func(all []spec.Route) (there []spec.Route) {
		for _, r := range all {
			if r.To.Addr().Is4() {
				r.NS, r.Link, r.Uplink = spec.Namespace, spec.ExternalLink, true
				there = append(there, r)
			}
		}
		return there
	}
	return addresses, at(b.Routes), at(b.Absent)
}

// answering are the addresses by which the gateway answers ARP for those whose peer is in
// another network: where arp_ignore is 1, the kernel looks for the address that was asked
// for in the network of each address, and such a one has only its peer's (inet_confirm_addr
// in net/ipv4/devinet.c).
func answering(outside []spec.Address) (all []spec.Address) {
	alone := func(a spec.Address) bool { return !a.Peer.IsValid() }
	for _, a := range outside {
		if alone(a) || a.Peer.Masked().Contains(a.Prefix.Addr()) {
			continue
		}
		same := func(other spec.Address) bool { return alone(other) && other.Prefix.Addr() == a.Prefix.Addr() }
		if !slices.ContainsFunc(append(all, outside...), same) {
			all = append(all, spec.Address{NS: a.NS, Link: a.Link, Prefix: a.Prefix, Uplink: true, Scope: a.Scope})
		}
	}
	return all
}

func nicSettings(b spec.Baseline, uplink string) (all []spec.Setting) {
	for _, s := range b.Settings {
		all = append(all, spec.Setting{Key: "net/" + s.Group + "/" + uplink + "/" + s.Name, Value: s.Value, NIC: uplink})
	}
	return all
}
