// Package spec has the types that say what a host should have and what it had before
// Mobula (its baseline), the names and numbers of what stands on a host, and what follows
// from these alone. Package plan computes what a host should have; drivers bring it about.
package spec

import (
	"io/fs"
	"net"
	"net/netip"

	"mobula/helper/internal/network"
)

// Host is everything that one host should have. The zero Host is a host
// without Mobula.
type Host struct {
	Namespaces []string
	Links      []Link
	Addresses  []Address
	Routes     []Route
	// Absent are routes that the kernel makes for Addresses and that have to go.
	Absent []Route
	// Former are routes that the version before made in the place of some of Routes.
	Former    []Route
	Neighbors []Neighbor
	Rules     []Rule
	Settings  []Setting
	WireGuard *WireGuard
	Firewall  *Firewall
	// Doorway is the host's own nftables table where its NIC stays with it; nil: none.
	Doorway *Doorway
	// Opening is what the host's own packet filters have to let pass; nil: they are left
	// as they are.
	Opening *Opening `json:",omitempty"`
	// Names are the private names for the host itself; nil: its resolver is the gateway's.
	Names  *Names `json:",omitempty"`
	Switch *Switch
	Files  []File
	// Keep lists files that stay although they are not in Files.
	Keep     []string
	Services []Service
}

// Service is a systemd unit that runs.
type Service struct {
	Unit string
	// BeforeSwitch starts it before Open vSwitch is configured.
	BeforeSwitch bool
	// Program is the path of the program that it runs; "": whichever.
	Program string
}

// Kind is what a link is.
type Kind string

// The kinds of links. Internal ports are made by Open vSwitch, physical ones by
// nobody: they can only move.
const (
	Veth            Kind = "veth"
	Bridge          Kind = "bridge"
	WireGuardDevice Kind = "wireguard"
	Internal        Kind = "internal"
	Physical        Kind = "physical"
	Loopback        Kind = "loopback"
)

// Link is a network interface. Its name is unique on the host, in whichever
// network namespace it is.
type Link struct {
	Name string
	NS   string // network namespace; "" is the host's own
	Kind Kind
	// Peer is the name of the other end of a veth pair.
	Peer string
	// Master is the bridge that the link is a port of.
	Master string
	MAC    net.HardwareAddr // nil: leave alone
	MTU    int              // bytes; 0: leave alone
	// Index is the number (ifindex) that a link gets when it is made or moves into its
	// namespace, if that is free; 0: whichever the kernel chooses.
	Index int
	// NIC is what a physical link is known by where its name is another one now.
	NIC NIC
	// Optional: nothing is done for a physical link that is nowhere.
	Optional bool
	// Down leaves it to the operator to set the link up.
	Down bool
	// Underlay has the encrypted packets of a WireGuard device go through the host's own
	// namespace: the device is made there and moves, and its UDP socket stays.
	Underlay bool
	// Free lets the operator give the link addresses, routes and a bridge;
	// only what Mobula itself put there is taken away again.
	Free bool
}

// NIC is what identifies a network card, whatever its name.
type NIC struct {
	MAC      net.HardwareAddr // of the card, whichever it uses
	AltNames []string         // ip-link(8)
	Device   string           // its place on the bus, as 0000:00:03.0; "": unknown
}

// Address is an IP address of a link.
type Address struct {
	NS, Link string
	Prefix   netip.Prefix
	// Uplink marks what moves together with the NIC, as late as possible. It has
	// to have exactly these attributes.
	Uplink bool
	// Peer is the other end of a point-to-point address and has its prefix length;
	// Prefix is the address alone then. Zero: none.
	Peer      netip.Prefix
	Broadcast netip.Addr // zero: none
	Label     string     `json:",omitempty"` // "": the link's name
	Scope     Scope      `json:",omitempty"`
	// Flags are those of AddressFlags (IFA_F_…, rtnetlink(7)).
	Flags uint32 `json:",omitempty"`
	// Metric is that of the route which the kernel makes; 0: its default.
	Metric int `json:",omitempty"`
	// Protocol is who made the address (IFA_PROTO); 0: not told.
	Protocol int `json:",omitempty"`
}

// Same reports that both are the same address of the same link, whatever their
// attributes.
func (a Address) Same(b Address) bool {
	return a.NS == b.NS && a.Link == b.Link && a.Prefix == b.Prefix && a.Peer == b.Peer
}

// AddressFlags are the flags of an address that an administrator gives it and
// that can be given again (if_addr.h): nodad, homeaddress, deprecated
// (preferred_lft 0) and noprefixroute.
const AddressFlags = 0x02 | 0x10 | 0x20 | 0x200

// Neighbor is the Ethernet address of an IP address, for ever (NUD_PERMANENT). Those
// are asked for by nobody, and have no place in the kernel's table of neighbors, which
// is one for all namespaces (neigh_forced_gc and gc_entries in the kernel, since 5.0).
type Neighbor struct {
	NS, Link string
	Address  netip.Addr
	MAC      [6]byte
}

// Scope is where an address or a route is valid: "global", "site", "link",
// "host" or "", which is what the kernel or ip-route(8) chooses by itself.
type Scope string

func (s Scope) valid() bool {
	return s == "" || s == "global" || s == "site" || s == "link" || s == "host"
}

// Route is one entry of a routing table. Those of one namespace, table,
// destination and metric stand in an order, and the first of them counts.
type Route struct {
	NS     string
	Table  int // 0: the main table
	To     netip.Prefix
	Metric int
	Link   string
	Via    netip.Addr // zero: directly on the link
	OnLink bool       // Via needs no route of its own
	Source netip.Addr // preferred source; zero: the kernel's choice
	Uplink bool       // as in Address
	// Protocol is who made the route (rtm_protocol, rtnetlink(7)); 0: static.
	Protocol int
	Scope    Scope `json:",omitempty"`
	// Metrics are those of ip-route(8) such as the MTU: "name=value" with the
	// names of MetricNames, in their order and parted by spaces.
	Metrics string `json:",omitempty"`
	// Preference is that of an IPv6 router (RFC 4191): "low", "high"; "": medium.
	Preference string `json:",omitempty"`
	// Behind adds it behind others of the same table, destination and metric that
	// are there; else it goes to their front.
	Behind bool `json:",omitempty"`
}

// Rule is a routing policy rule of the host's own namespace.
type Rule struct {
	Priority int
	From, To netip.Prefix // one of them, the other is zero
	Table    int          // 0: the main table
	// Specific leaves the table's default route out (suppress_prefixlength 0,
	// ip-rule(8)).
	Specific bool
}

// Setting is a sysctl(8) setting of a namespace, such as
// net/ipv4/ip_forward.
type Setting struct {
	NS, Key, Value string
	// Like is another setting of the namespace, whose value this one gets; "": Value.
	Like string
	// NIC names the interface whose setting it is: it is lost when that moves.
	NIC string
}

// WireGuard is the WireGuard device.
type WireGuard struct {
	Link       string
	HostID     uint16 // of this host
	ListenPort uint16
	// PublicKey tells which of the host's private keys the device uses, AlsoKey
	// which other one its peers accept; zero: none.
	PublicKey, AlsoKey network.Key
	Peers              []Peer
}

// Peer is one peer of the WireGuard device, a host or a client.
type Peer struct {
	Name      string // for the reader
	HostID    uint16 // 0: a client
	PublicKey network.Key
	// OtherKey is that of the second peer which WireGuard has for the same host
	// while its keys rotate; zero: none. One of the two has the allowed IPs: the
	// one with which the host shakes hands, as found on the running host.
	OtherKey   network.Key
	Endpoint   netip.AddrPort // zero: it will be learned; in what stood before also AnyEndpoint
	AllowedIPs []netip.Prefix
	// Preshared: the pair has a preshared key, which both derive.
	Preshared bool
	// KeepaliveSeconds is 0 for none.
	KeepaliveSeconds int
}

// AnyEndpoint says that a peer may have been sent anywhere. No endpoint equals it.
var AnyEndpoint = netip.AddrPortFrom(netip.IPv4Unspecified(), 0)

// Firewall is the gateway's nftables table.
type Firewall struct {
	Ranges network.Ranges
	HostID uint16
	// External is the bridge that holds the public addresses; "": the NIC stays with the
	// host, and the way outside is the direct link.
	External      string
	Wire          string // WireGuard
	Access        string // gateway of the access network
	Direct        string // link to the host
	WireGuardPort uint16
	TunnelPort    uint16       // Geneve, UDP
	Public        []netip.Addr // the host's addresses outside
	// Published are the host's ports that are reachable from outside, SSH
	// among them.
	Published []network.Port
	// Members are the underlay endpoints of the other hosts.
	Members []netip.AddrPort
	// ProbePort, MeshPort and CarryPort are the agent's UDP ports inside WireGuard.
	ProbePort, MeshPort, CarryPort uint16
	// MetricsPort is the agent's TCP port for programs of the hosts; 0: there is none.
	MetricsPort uint16
	// PagePort is the TCP port of the page of the network: for the host, other hosts and
	// clients, and with PageForGuests for the access network and what is behind others.
	PagePort      uint16
	PageForGuests bool
	// Relays are the ports where other hosts leave what is for a third one.
	Relays []Relay
}

// Doorway is what the host's own namespace needs where the NIC stays there: the
// gateway's way outside leads through it, masqueraded, and nothing else does.
type Doorway struct {
	Ranges network.Ranges
	HostID uint16
	Direct string // link to the gateway
	Access string // link to the access network
	// WireGuardPort is the UDP port of the host's WireGuard, which nobody else gets.
	WireGuardPort uint16
	// Manual: the operator may make the access network's link a port of a bridge.
	Manual bool
	// Outside are the interfaces to the outside, and Opened those of them that forward only
	// because of the gateway: nothing else may be forwarded from them. Bridges are those
	// of these that are bridges: what passes between their ports may look as if it were
	// forwarded (br_netfilter).
	Outside, Opened, Bridges []string
	// Endpoint is where others look for the host, and Relays are as in Firewall: both
	// addresses are of the host's own network, which sends on by itself.
	Endpoint netip.Addr
	Relays   []Relay
}

// Opening is what the packet filters of a host that keeps its NIC have to let pass:
// WireGuard's UDP port by the interfaces to the outside, and what the gateway sends there.
type Opening struct {
	Ranges  network.Ranges
	Port    uint16
	Outside []string
}

// Relay is a UDP port that forwards to another host's WireGuard.
type Relay struct {
	HostID   uint16
	Port     uint16
	Endpoint netip.AddrPort // underlay
	// Others are its other endpoints, from which it sends as well.
	Others []netip.AddrPort
}

// From returns all endpoints from which the host may send.
func (r Relay) From() []netip.AddrPort {
	return append([]netip.AddrPort{r.Endpoint}, r.Others...)
}

// Switch is the Open vSwitch bridge that is the host's part of the access
// network.
type Switch struct {
	Ranges     network.Ranges
	HostID     uint16
	Bridge     string // also the name of its internal port, the gateway's interface
	MAC        net.HardwareAddr
	MTU        int // bytes
	LocalPorts []string
	TunnelPort string // flow-based Geneve port
	UDPPort    uint16 // Geneve's destination port
	VNI        uint32 // 24 bits
	Remotes    []Remote
}

// Remote is another host's end of the access network.
type Remote struct {
	Name    string // for the reader
	HostID  uint16
	Address netip.Addr // intrawire address
}

// File is a file or symbolic link on the host.
type File struct {
	Path    string
	Mode    fs.FileMode
	Content string
	Target  string // of a symbolic link; Content and Mode are empty then
	// Late files take effect only after the NIC has moved.
	Late bool
	// Missing says that nothing may be at Path.
	Missing bool
	// Block is a part of the file, between two lines that mark it; the rest is the
	// operator's. It comes first, and the file keeps its time. No Content: no block. It has
	// no Mode.
	Block bool `json:",omitempty"`
	// Over is how the content begins that this one replaces; whatever else is at
	// Path stays. "": it replaces everything.
	Over string
	// Yields leaves a file that somebody put where the link should be to the next
	// change: it is how another version arrives.
	Yields bool `json:",omitempty"`
}
