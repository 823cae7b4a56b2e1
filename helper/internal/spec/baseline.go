package spec

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
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

// Original returns what the facts say of the NIC. Older helpers noted no
// attributes: what they put back is what ip-address(8) makes of the prefixes.
func (f *Facts) Original() Baseline {
	if f.Baseline != nil {
		return *f.Baseline
	}
	var b Baseline
	for _, p := range append(append([]netip.Prefix{}, f.Addresses...), f.IPv6Addresses...) {
		b.Addresses = append(b.Addresses, WithBroadcast(Address{Prefix: p}))
	}
	b.Routes = append(append(b.Routes, f.Routes...), f.IPv6Routes...)
	return b
}

// WithBroadcast gives an IPv4 address the broadcast address of its network.
func WithBroadcast(a Address) Address {
	if bits := a.Prefix.Bits(); a.Prefix.Addr().Is4() && bits < 31 {
		b := a.Prefix.Addr().As4()
		n := binary.BigEndian.Uint32(b[:]) | (1<<(32-bits) - 1)
		binary.BigEndian.PutUint32(b[:], n)
		a.Broadcast = netip.AddrFrom4(b)
	}
	return a
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
