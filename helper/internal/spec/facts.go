package spec

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"slices"
	"strings"

	"mobula/helper/internal/network"
)

// Facts are what a host was before Mobula changed it for the first time, as far
// as the plan needs it. They are found once and kept, because afterwards the
// NIC is no longer where it was.
type Facts struct {
	// Uplink is the NIC to the outside.
	Uplink string           `json:"uplink"`
	MAC    net.HardwareAddr `json:"mac"`
	MTU    int              `json:"mtu"` // bytes
	// Index is the NIC's number (ifindex), by which other programs may know it; 0 in
	// the facts of an older helper.
	Index int `json:"index,omitempty"`
	// CardMAC is the address that the NIC was made with, AltNames are its other names
	// and Device is its place on the bus; none in the facts of an older helper.
	CardMAC  net.HardwareAddr `json:"card_mac,omitempty"`
	AltNames []string         `json:"altnames,omitempty"`
	Device   string           `json:"device,omitempty"`
	// Addresses are the NIC's permanent IPv4 addresses.
	Addresses []netip.Prefix `json:"addresses"`
	// Routes are those of the main table through the NIC that are not the
	// kernel's own.
	Routes []Route `json:"routes"`
	// IPv6Addresses and IPv6Routes are the permanent global ones that the NIC had.
	// Mobula does not carry IPv6; they come back when it leaves.
	IPv6Addresses []netip.Prefix `json:"ipv6_addresses,omitempty"`
	IPv6Routes    []Route        `json:"ipv6_routes,omitempty"`
	// Baseline has the attributes of all of these; nil in the facts of an older
	// helper.
	Baseline *Baseline `json:"baseline,omitempty"`
	// Shared: the NIC stays with the host, and the facts of it are none of Mobula's
	// business; nil: it moves.
	Shared *Shared `json:"shared,omitempty"`
	// Other are the facts of the host's other way outside while it changes from one to
	// the other: what Mobula made for that one has to go, too. nil: there is none.
	Other *Facts `json:"other,omitempty"`
	// Booted: what the NIC has is for the host's network manager to give, which has
	// just begun or is about to. It matters to what is left of another way outside.
	Booted bool `json:"-"`
	// Resolvers are the host's DNS resolvers.
	Resolvers []netip.Addr `json:"resolvers"`
	// ResolvConf is /etc/resolv.conf as it was.
	ResolvConf File `json:"resolv_conf"`
	// SSHPorts are the TCP ports that sshd listens on.
	SSHPorts []uint16 `json:"ssh_ports"`
	// Managers are the network managers installed on the host.
	Managers []Manager `json:"managers"`
	// Program is the path of the program that the host is to have: of the change,
	// not of the host before, so it is not kept.
	Program string `json:"-"`
}

// Manager is a program that configures a host's network.
type Manager string

// The managers that must neither fail at boot nor take the NIC back. netplan
// writes its configuration for one of the others.
const (
	Ifupdown       Manager = "ifupdown"
	Networkd       Manager = "systemd-networkd"
	NetworkManager Manager = "NetworkManager"
)

// IsUplink reports that the NIC has or had the name when it was found.
func (f *Facts) IsUplink(name string) bool {
	return name == f.Uplink || slices.Contains(f.AltNames, name)
}

// Suit refuses a document that wants another uplink of this host than the one of these
// facts.
func (f *Facts) Suit(self network.Host) error {
	if !f.IsShared() && !self.SharedUplink && self.Uplink != "" && !f.IsUplink(self.Uplink) {
		return fmt.Errorf("uplink: found %s in use, wanted %s; uninstall the host before it gets another one", f.Uplink, self.Uplink)
	}
	return nil
}

// NIC is the link that holds the addresses before Mobula and after it.
func (f *Facts) NIC() Link {
	return Link{Name: f.Uplink, Kind: Physical, MTU: f.MTU, Index: f.Index, NIC: NIC{MAC: f.card(), AltNames: f.AltNames, Device: f.Device}}
}

func (f *Facts) card() net.HardwareAddr {
	if f.CardMAC != nil {
		return f.CardMAC
	}
	return f.MAC
}

// Recognized returns the facts with what a later boot found the NIC to be: known by
// one more name, or another card in the place of the old one. An address that an
// operator gave the NIC stays.
func (f *Facts) Recognized(name string, card net.HardwareAddr) (now *Facts, changed bool) {
	c := *f
	if !c.IsUplink(name) {
		c.AltNames, changed = append(slices.Clone(c.AltNames), name), true
	}
	if old := c.card(); card != nil && !bytes.Equal(card, old) {
		if bytes.Equal(c.MAC, old) {
			c.MAC = card
		}
		c.CardMAC, changed = card, true
	}
	return &c, changed
}

// Validate refuses what no survey finds. Names and paths of files, units and
// links follow from the facts, so nothing else may come back from the disk. A
// manager that only a later version knows is none of this one's business.
func (f *Facts) Validate() error {
	var problems []error
	wrong := func(field string, found any, want string) {
		problems = append(problems, fmt.Errorf("%s: found %q, wanted %s", field, fmt.Sprint(found), want))
	}
	if f.Other != nil {
		if f.Other.Other != nil || f.Other.IsShared() == f.IsShared() {
			wrong("other", f.Other.Uplink, "the one other way outside")
		}
		problems = append(problems, f.Other.Alone().Validate())
	}
	if f.IsShared() {
		if len(f.Shared.Outside) == 0 {
			wrong("outside", "", "at least one interface")
		}
		for _, name := range append(append(append([]string{}, f.Shared.Outside...), f.Shared.Opened...), f.Shared.Bridges...) {
			if !isLinkName(name) {
				wrong("outside", name, "names of interfaces")
			}
		}
		if f.ResolvConf.Path != "" && f.ResolvConf.Path != ResolvConfPath {
			wrong("resolv_conf", f.ResolvConf.Path, ResolvConfPath)
		}
		return errors.Join(append(problems, f.validateResolvers())...)
	}
	if !isLinkName(f.Uplink) {
		wrong("uplink", f.Uplink, "the name of an interface")
	}
	if slices.ContainsFunc(f.AltNames, func(name string) bool { return name == "" || strings.ContainsAny(name, "/\n") }) {
		wrong("altnames", f.AltNames, "names of an interface")
	}
	if len(f.MAC) > 20 || len(f.CardMAC) > 20 || f.MTU < 0 || f.MTU > 65536 || f.Index < 0 || f.Index > math.MaxInt32 {
		wrong("uplink", fmt.Sprintf("%s, MTU %d", f.MAC, f.MTU), "its MAC address and MTU")
	}
	if len(f.Addresses) == 0 {
		wrong("addresses", "", "at least one")
	}
	for _, p := range f.Addresses {
		if !p.Addr().Is4() || !p.IsValid() {
			wrong("addresses", p, "IPv4 addresses with their prefixes")
		}
	}
	for _, p := range f.IPv6Addresses {
		if !isIPv6(p.Addr()) || !p.IsValid() {
			wrong("ipv6_addresses", p, "IPv6 addresses with their prefixes")
		}
	}
	for _, r := range f.IPv6Routes {
		if !isIPv6(r.To.Addr()) || !r.To.IsValid() || r.Via.IsValid() && !isIPv6(r.Via) || r.Source.IsValid() && !isIPv6(r.Source) {
			wrong("ipv6_routes", r.To, "IPv6 routes")
		}
	}
	for _, r := range f.Routes {
		if !r.To.Addr().Is4() || !r.To.IsValid() || r.Via.IsValid() && !r.Via.Is4() || r.Source.IsValid() && !r.Source.Is4() {
			wrong("routes", r.To, "IPv4 routes")
		}
	}
	if f.Baseline != nil {
		problems = append(problems, f.Baseline.validate())
	}
	problems = append(problems, f.validateResolvers())
	if f.ResolvConf.Path != ResolvConfPath {
		wrong("resolv_conf", f.ResolvConf.Path, ResolvConfPath)
	}
	return errors.Join(problems...)
}

func (f *Facts) validateResolvers() error {
	for _, a := range f.Resolvers {
		if !a.Is4() {
			return fmt.Errorf("resolvers: found %q, wanted IPv4 addresses", a)
		}
	}
	return nil
}

// isIPv6 leaves out what the kernel takes for IPv4 and what names an interface.
func isIPv6(a netip.Addr) bool { return a.Is6() && !a.Is4In6() && a.Zone() == "" }

// isLinkName is the kernel's rule (dev_valid_name) for what users call their
// interfaces: 1..15 printable bytes of ASCII, no slash and no colon.
func isLinkName(s string) bool {
	bad := func(r rune) bool { return r <= ' ' || r > '~' || r == '/' || r == ':' }
	return s != "" && len(s) <= 15 && s != "." && s != ".." && !strings.ContainsFunc(s, bad)
}
