// Package firewall renders the nftables tables of the gateway and of its host, and puts
// them into the kernel: each table as a whole in one transaction.
package firewall

import (
	"fmt"
	"net/netip"
	"sort"
	"strings"
	"text/template"

	"mobula/helper/internal/network"
	"mobula/helper/internal/spec"
	"mobula/templates"
)

var rulesets = template.Must(template.New("").Funcs(template.FuncMap{"join": strings.Join}).ParseFS(templates.FS, "firewall.nft", "doorway.nft", "relays.nft"))

// behind is the DSCP (RFC 2474) of what comes from another host's intrawire
// address, but from behind that host: xxxx11 is for experimental and local use.
// Hosts that do not know it ignore it. Inside WireGuard nobody else changes it.
const behind = "0x2b"

const (
	// maxConnections is how many connections a guest or client may have through the
	// gateway at a time. The kernel's table has 6,144 entries on a host with 768 MiB of
	// memory, and 65,536 from 1 GiB on (nf_conntrack_max).
	maxConnections = 2048
	// maxGuestEntries is how many all guests together may have. The kernel counts them
	// one by one when there is one more (nf_conncount.c), so it is far from what fits.
	maxGuestEntries = 16384
	// maxSources is how many clients may have any, and maxGuests how many guests: room for
	// each of the above to be another one's.
	maxSources = 4096
	maxGuests  = 2 * maxGuestEntries
	// nobodysPorts are those at which nothing listens and from which Linux does not ask
	// by itself (ip_local_port_range ends at 60999).
	nobodysPorts = "61000-65535"
)

// guestEntries is how many connections all guests of a host with so many bytes of
// memory may have: at most a quarter of the room that the kernel makes for everybody's
// (nf_conntrack_init_start: 65,536 entries or more beyond 1 GiB, up to there one for each
// 128 KiB). It is a power of two, because memory comes and goes a little.
func guestEntries(memory uint64) int {
	entries := 64
	for entries < maxGuestEntries && (memory > 1<<30 || uint64(entries)*2 <= memory/(128<<10)/4) {
		entries *= 2
	}
	return entries
}

// values are what the template of the gateway's ruleset sees.
type values struct {
	External, Wire, Access, Direct                            string
	WireGuardPort, TunnelPort, ProbePort, MeshPort, CarryPort uint16
	MetricsPort                                               uint16 // 0: none
	PagePort                                                  uint16
	PageForGuests                                             bool
	Intrawire, AccessAddress, DirectGateway                   netip.Addr
	WireNet, IntrawireNet, ExtrawireNet, AccessNet            netip.Prefix
	Public, Members                                           []string
	Relays, Senders                                           []string // elements of the maps
	GatewayNet                                                netip.Prefix
	Gateway                                                   netip.Addr
	Behind                                                    string
	MaxConnections, MaxSources                                int
	MaxGuests, MaxGuestEntries                                int
	NobodysPorts                                              string
	HostOnly                                                  []string
	// Ports from which what is masqueraded may leave: UDP to members and of relayed
	// senders that the document does not know, and by the port that it came from.
	SpareUDP, SpareTCP portRange
	FreeUDP, FreeTCP   []portRange
	TCP, UDP           []uint16
}

// Render returns the ruleset for nft -f of a host with so many bytes of memory. The same
// plan gives the same text.
func Render(f *spec.Firewall, memory uint64) string {
	v := values{
		External: f.External, Wire: f.Wire, Access: f.Access, Direct: f.Direct,
		WireGuardPort: f.WireGuardPort, TunnelPort: f.TunnelPort, ProbePort: f.ProbePort, MeshPort: f.MeshPort, CarryPort: f.CarryPort, MetricsPort: f.MetricsPort,
		PagePort: f.PagePort, PageForGuests: f.PageForGuests,
		Intrawire: f.Ranges.IntrawireAddress(f.HostID), AccessAddress: f.Ranges.AccessAddress(f.HostID), DirectGateway: f.Ranges.DirectGateway(),
		WireNet: f.Ranges.Wire(), IntrawireNet: f.Ranges.Intrawire(), ExtrawireNet: f.Ranges.Extrawire(), AccessNet: f.Ranges.Access(),
		GatewayNet: f.Ranges.Gateways(), Behind: behind,
		Gateway: f.Ranges.GatewayAddress(f.HostID), MaxConnections: maxConnections, MaxSources: maxSources,
		MaxGuests: maxGuests, MaxGuestEntries: guestEntries(memory), NobodysPorts: nobodysPorts,
		Public: addresses(f.Public), Members: memberAddresses(f.Members), HostOnly: hostOnly(),
	}
	for _, r := range f.Relays {
		v.Relays = append(v.Relays, fmt.Sprintf("%d : %s . %d", r.Port, r.Endpoint.Addr(), r.Endpoint.Port()))
		v.Senders = append(v.Senders, sendersOf(r)...)
	}
	for _, p := range f.Published {
		if p.Protocol == "udp" {
			v.UDP = append(v.UDP, p.Number)
		} else {
			v.TCP = append(v.TCP, p.Number)
		}
	}
	v.FreeUDP = freePorts(append([]uint16{f.WireGuardPort}, v.UDP...))
	v.FreeTCP = freePorts(v.TCP)
	v.SpareUDP, v.SpareTCP = spare(v.FreeUDP), spare(v.FreeTCP)
	return execute("firewall.nft", v)
}

// sendersOf are elements of a map from the endpoints of a member to its relay port.
func sendersOf(r spec.Relay) (all []string) {
	for _, e := range r.From() {
		all = append(all, fmt.Sprintf("%s . %d : %d", e.Addr(), e.Port(), r.Port))
	}
	return all
}

func execute(name string, values any) string {
	var s strings.Builder
	if err := rulesets.ExecuteTemplate(&s, name, values); err != nil { // the template is part of the program
		panic(fmt.Sprintf("rendering %s: %v", name, err))
	}
	return s.String()
}

func hostOnly() []string {
	var all []string
	for _, p := range network.HostOnly {
		all = append(all, p.String())
	}
	return all
}

func memberAddresses(endpoints []netip.AddrPort) []string {
	seen := map[netip.Addr]bool{}
	var all []netip.Addr
	for _, e := range endpoints {
		if !seen[e.Addr()] {
			seen[e.Addr()] = true
			all = append(all, e.Addr())
		}
	}
	return addresses(all)
}

func addresses(all []netip.Addr) []string {
	sort.Slice(all, func(i, j int) bool { return all[i].Less(all[j]) })
	texts := make([]string, len(all))
	for i, a := range all {
		texts[i] = a.String()
	}
	return texts
}
