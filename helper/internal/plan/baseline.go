package plan

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Baseline is what the NIC was given before Mobula, with every attribute, so that
// it can be given back exactly. What does not fit in here keeps a NIC from moving.
type Baseline struct {
	// Addresses are the permanent ones of both families that the kernel does not
	// make by itself, in the kernel's order.
	Addresses []Address `json:"addresses"`
	// Routes are those of both families' main tables that the kernel does not make
	// by itself, each after those that it needs.
	Routes []Route `json:"routes"`
	// Absent are routes that the kernel makes for the addresses and that were not
	// there.
	Absent []Route `json:"absent,omitempty"`
	// Settings are the NIC's own sysctl settings, as far as they differ from what
	// a new interface gets.
	Settings []NICSetting `json:"settings,omitempty"`
	// DefaultMetric is the metric with which a default route stands between those
	// of other interfaces where the NIC's best one stood.
	DefaultMetric int `json:"default_metric,omitempty"`
}

// NICSetting is a sysctl(8) setting of an interface: net/<Group>/<interface>/<Name>.
type NICSetting struct {
	Group string `json:"group"` // one of NICSettingGroups
	Name  string `json:"name"`
	Value string `json:"value"`
}

// NICSettingGroups are the folders below /proc/sys/net with one for each interface.
var NICSettingGroups = []string{"ipv4/conf", "ipv4/neigh", "ipv6/conf", "ipv6/neigh"}

// baseline returns what the facts say of the NIC. Older helpers noted no
// attributes: what they put back is what ip-address(8) makes of the prefixes.
func (f *Facts) baseline() Baseline {
	if f.Baseline != nil {
		return *f.Baseline
	}
	var b Baseline
	for _, p := range append(append([]netip.Prefix{}, f.Addresses...), f.IPv6Addresses...) {
		b.Addresses = append(b.Addresses, withBroadcast(Address{Prefix: p}))
	}
	b.Routes = append(append(b.Routes, f.Routes...), f.IPv6Routes...)
	return b
}

// withBroadcast gives an IPv4 address the broadcast address of its network.
func withBroadcast(a Address) Address {
	if bits := a.Prefix.Bits(); a.Prefix.Addr().Is4() && bits < 31 {
		b := a.Prefix.Addr().As4()
		n := binary.BigEndian.Uint32(b[:]) | (1<<(32-bits) - 1)
		binary.BigEndian.PutUint32(b[:], n)
		a.Broadcast = netip.AddrFrom4(b)
	}
	return a
}

// onNIC are the addresses, routes and absent routes of the NIC in the host's own
// namespace.
func (b Baseline) onNIC(uplink string) (addresses []Address, routes, absent []Route) {
	for _, a := range b.Addresses {
		a.NS, a.Link, a.Uplink = "", uplink, true
		addresses = append(addresses, a)
	}
	at := func(all []Route) (there []Route) {
		for _, r := range all {
			r.NS, r.Link, r.Uplink = "", uplink, true
			there = append(there, r)
		}
		return there
	}
	return addresses, at(b.Routes), at(b.Absent)
}

// outside are the IPv4 ones of them on the gateway's bridge to the outside.
func (b Baseline) outside() (addresses []Address, routes, absent []Route) {
	for _, a := range b.Addresses {
		if a.Prefix.Addr().Is4() {
			a.NS, a.Link, a.Uplink, a.Label = Namespace, ExternalLink, true, ""
			addresses = append(addresses, a)
		}
	}
	addresses = append(addresses, answering(addresses)...)
	at := func(all []Route) (there []Route) {
		for _, r := range all {
			if r.To.Addr().Is4() {
				r.NS, r.Link, r.Uplink = Namespace, ExternalLink, true
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
func answering(outside []Address) (all []Address) {
	alone := func(a Address) bool { return !a.Peer.IsValid() }
	for _, a := range outside {
		if alone(a) || a.Peer.Masked().Contains(a.Prefix.Addr()) {
			continue
		}
		same := func(other Address) bool { return alone(other) && other.Prefix.Addr() == a.Prefix.Addr() }
		if !slices.ContainsFunc(append(all, outside...), same) {
			all = append(all, Address{NS: a.NS, Link: a.Link, Prefix: a.Prefix, Uplink: true, Scope: a.Scope})
		}
	}
	return all
}

func (b Baseline) nicSettings(uplink string) (all []Setting) {
	for _, s := range b.Settings {
		all = append(all, Setting{Key: "net/" + s.Group + "/" + uplink + "/" + s.Name, Value: s.Value, NIC: uplink})
	}
	return all
}

// validate refuses what no survey finds; see Facts.Validate.
func (b *Baseline) validate() error {
	var problems []error
	wrong := func(field string, found any, want string) {
		problems = append(problems, fmt.Errorf("baseline: %s: found %q, wanted %s", field, fmt.Sprint(found), want))
	}
	for _, a := range b.Addresses {
		same := func(other netip.Addr) bool { return !other.IsValid() || other.BitLen() == a.Prefix.Addr().BitLen() }
		if !isPlain(a.Prefix.Addr()) || !a.Prefix.IsValid() || !same(a.Peer.Addr()) || !same(a.Broadcast) || len(a.Label) > 15 || !a.Scope.valid() {
			wrong("addresses", a.Prefix, "addresses with their attributes")
		}
	}
	for _, r := range append(append([]Route{}, b.Routes...), b.Absent...) {
		same := func(other netip.Addr) bool { return !other.IsValid() || other.BitLen() == r.To.Addr().BitLen() }
		if !isPlain(r.To.Addr()) || !r.To.IsValid() || r.Table != 0 || !same(r.Via) || !same(r.Source) || !r.Scope.valid() {
			wrong("routes", r.To, "routes of the main table with their attributes")
		}
	}
	for _, s := range b.Settings {
		known := false
		for _, group := range NICSettingGroups {
			known = known || s.Group == group
		}
		odd := func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '_' }
		if !known || s.Name == "" || strings.ContainsFunc(s.Name, odd) {
			wrong("settings", s.Group+"/"+s.Name, "settings of an interface")
		}
	}
	if b.DefaultMetric < 0 {
		wrong("default_metric", b.DefaultMetric, "0 or more")
	}
	return errors.Join(problems...)
}

// isPlain leaves out what the kernel takes for IPv4 and what names an interface.
func isPlain(a netip.Addr) bool { return a.Is4() || isIPv6(a) }
