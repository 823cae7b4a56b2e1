package lab

import (
	"fmt"
	"path/filepath"
)

// HostSpec describes a machine of the lab.
type HostSpec struct {
	Name    string // short: alice
	ID      int    // Mobula's host ID
	Address string // in 192.0.2.0/24, or in the site's network
	// Debian is the release: 12 or 13; 0: 12.
	Debian int
	// Manager configures the network: "ifupdown" (Debian 12) or "networkd"; on Debian 13 also
	// "netplan" (over networkd) or "NetworkManager".
	Manager string
	// Image is "full", or "bare": nothing but SSH and Python (Debian 12).
	Image string
	// DHCP lets networkd, also under netplan, ask for the address instead of knowing it (see SetLease).
	DHCP bool
	// HostRoute has DHCP give the address alone (/32), and the router by classless static routes
	// (RFC 3442): first one to it on the link, then the default by it. Many clouds do so.
	HostRoute bool
	// Resolved puts systemd-resolved with its stub between the host and its resolver (not ifupdown; image full).
	Resolved bool
	// MTU of the NIC in bytes; 0: 1500.
	MTU int
	// NoIPv6 has the kernel begin without IPv6.
	NoIPv6 bool
	// Bridged gives the machine two NICs, of which the second stands in when the first has no
	// carrier (a bond), and puts the address on a bridge of a VLAN of that bond, as hypervisors
	// do (networkd).
	Bridged bool
	// Site puts the host behind the site's router, which forwards a port to it (see SitePort).
	Site bool
	// TwoUplinks gives the machine a second NIC, in the site's network, with a default route
	// that counts less (netplan).
	TwoUplinks bool
	// Wire and Access begin the addresses of the host's network, two numbers each; "": 10.30
	// and 10.31.
	Wire, Access string
	// Docker starts Docker at boot (Debian 12, image full).
	Docker bool
}

// DefaultHosts are the machines the scenarios know. Those after carol start only when asked for.
func DefaultHosts() []HostSpec {
	return []HostSpec{
		{Name: "alice", ID: 1, Address: "192.0.2.1", Manager: "ifupdown", Image: "full"},
		{Name: "bob", ID: 2, Address: "192.0.2.2", Manager: "networkd", Image: "full"},
		{Name: "carol", ID: 256, Address: "192.0.2.3", Manager: "ifupdown", Image: "full"},
		{Name: "dave", ID: 300, Address: "192.0.2.4", Manager: "networkd", Image: "bare", NoIPv6: true},
		{Name: "erin", ID: 32766, Address: "192.0.2.5", Manager: "networkd", Image: "full"},
		{Name: "heidi", ID: 402, Address: "203.0.113.8", Manager: "networkd", Image: "full", Bridged: true, Site: true, Docker: true},
		{Name: "grace", ID: 401, Address: "192.0.2.7", Debian: 13, Manager: "NetworkManager", Image: "full"},
	}
}

// suite is Debian's name of the host's release, and of the folder with its images.
func (s HostSpec) suite() string {
	if s.Debian == 13 {
		return "trixie"
	}
	return "bookworm"
}

// FQDN is the name the host goes by.
func (s HostSpec) FQDN() string { return s.Name + ".example.com" }

// IPv6Address is a static address outside. Nobody answers it: the lab carries IPv4 only.
func (s HostSpec) IPv6Address() string { return fmt.Sprintf("2001:db8::%x", s.ID) }

const ipv6Gateway = "fe80::1"

// The addresses Mobula gives a host by its ID.

// IntrawireAddress is the host's own address inside.
func (s HostSpec) IntrawireAddress() string { return s.InWire(s.ID/256, s.ID%256) }

// GatewayAddress is the address of the host's gateway on the access network.
func (s HostSpec) GatewayAddress() string { return s.InAccess(s.ID/256, s.ID%256) }

// AccessAddress is the host's own address on the access network.
func (s HostSpec) AccessAddress() string { return s.InAccess(s.ID/256+128, s.ID%256) }

// InWire is an address of the network's wire_network, by its last two numbers.
func (s HostSpec) InWire(hi, lo int) string { return within(s.Wire, "10.30", hi, lo) }

// InAccess is one of its access_network.
func (s HostSpec) InAccess(hi, lo int) string { return within(s.Access, "10.31", hi, lo) }

func within(network, fallback string, hi, lo int) string {
	if network == "" {
		network = fallback
	}
	return fmt.Sprintf("%s.%d.%d", network, hi, lo)
}

// Names of network interfaces: NIC in every machine, SecondNIC where HostSpec.Bridged or
// TwoUplinks is set, the others where Bridged is.
const (
	NIC       = "ens3"
	SecondNIC = "ens6"
	Bond      = "bond0"
	BondVLAN  = "bond0.42"
	Bridge    = "vmbr0"
)

// Uplink is the interface that has the host's address.
func (s HostSpec) Uplink() string {
	if s.Bridged {
		return Bridge
	}
	return NIC
}

// Router is the address of the host's router.
func (s HostSpec) Router() string {
	if s.Site {
		return SiteRouterAddress
	}
	return RouterAddress
}

// Outside is the address that those outside see of the host.
func (s HostSpec) Outside() string {
	if s.Site {
		return SitePublicAddress
	}
	return s.Address
}

// Host is a machine of a running lab.
type Host struct {
	HostSpec
	lab *Lab
}

func (h *Host) port() string    { return "tap-" + h.Name }
func (h *Host) pidFile() string { return h.lab.path(h.Name + ".pid") }
func (h *Host) monitor() string { return h.lab.path(h.Name + ".monitor") }
func (h *Host) console() string { return h.lab.path(h.Name + ".console") }
func (h *Host) seed() string    { return h.lab.path(h.Name + ".seed") }

// image is a file of those that the host's release is started from.
func (h *Host) image(name string) string { return filepath.Join(h.lab.Image, h.suite(), name) }

// disk is not in the lab's folder, which may be in memory.
func (h *Host) disk() string {
	return filepath.Join(filepath.Dir(h.lab.Image), "disks", h.lab.Prefix+"-"+h.Name+".qcow2")
}

// SerialLog is the file with everything the kernel and systemd wrote to the console since Up.
func (h *Host) SerialLog() string { return h.lab.path(h.Name + ".serial.log") }

// MAC is the hardware address of the host's NIC.
func (h *Host) MAC() string { return fmt.Sprintf("52:54:00:1a:%02x:%02x", h.ID/256, h.ID%256) }

// nic is a network interface of a machine as QEMU has it.
type nic struct {
	id, tap, mac string
	slot         int    // of the PCI bus, from which the machine's kernel names it
	bridge       string // which it is plugged into
}

func (h *Host) nics() []nic {
	first := nic{"nic", h.port(), h.MAC(), 3, bridge}
	second := nic{"nic2", h.port() + "-2", fmt.Sprintf("52:54:00:1b:%02x:%02x", h.ID/256, h.ID%256), 6, siteBridge}
	if h.Site {
		first.bridge = siteBridge
	}
	switch {
	case h.Bridged:
		second.bridge = first.bridge
		return []nic{first, second}
	case h.TwoUplinks:
		return []nic{first, second}
	}
	return []nic{first}
}
