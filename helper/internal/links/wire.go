package links

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"sort"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"mobula/helper/internal/spec"
)

// Addresses and routes are read from and written to messages of rtnetlink(7) here,
// without a library in between: what is read has to be complete, or said to be not.

// Attributes of <linux/rtnetlink.h> and <linux/if_addr.h> that x/sys does not name.
const (
	ifaProtocol = 11
	rtaNexthop  = 30
	forever     = ^uint32(0)
)

// foundAddress is an address as the kernel tells it.
type foundAddress struct {
	spec.Address
	index     int
	permanent bool
	secondary bool
	stable    bool     // made from a secret of the interface (RFC 7217)
	odd       []string // what spec.Address cannot say
}

// foundRoute is a route as the kernel tells it.
type foundRoute struct {
	spec.Route
	index   int
	others  []int        // interfaces of further next hops
	vias    []netip.Addr // and their routers
	unicast bool
	local   bool // of the table of that name
	expires bool
	odd     []string // what spec.Route cannot say
}

// attributes splits what follows a message's header, by type without flags.
func attributes(b []byte) map[uint16][]byte {
	all := map[uint16][]byte{}
	for len(b) >= unix.SizeofRtAttr {
		length := int(binary.NativeEndian.Uint16(b))
		if length < unix.SizeofRtAttr || length > len(b) {
			break
		}
		all[binary.NativeEndian.Uint16(b[2:])&0x3fff] = b[unix.SizeofRtAttr:length]
		b = b[min(len(b), (length+3)&^3):]
	}
	return all
}

func numberIn(b []byte) uint32 {
	switch len(b) {
	case 1:
		return uint32(b[0])
	case 4:
		return binary.NativeEndian.Uint32(b)
	}
	return 0
}

var scopes = map[uint8]spec.Scope{unix.RT_SCOPE_UNIVERSE: "global", unix.RT_SCOPE_SITE: "site", unix.RT_SCOPE_LINK: "link", unix.RT_SCOPE_HOST: "host"}

// scopeOf returns "" for the scope that goes without saying.
func scopeOf(found, normal uint8) (spec.Scope, error) {
	if found == normal {
		return "", nil
	}
	if s, ok := scopes[found]; ok {
		return s, nil
	}
	return "", fmt.Errorf("scope %d", found)
}

func scopeNumber(s spec.Scope, normal uint8) uint8 {
	for n, name := range scopes {
		if name == s {
			return n
		}
	}
	return normal
}

// readAddress reads an RTM_NEWADDR message.
func readAddress(m []byte, names map[int]string) (foundAddress, error) {
	if len(m) < unix.SizeofIfAddrmsg {
		return foundAddress{}, fmt.Errorf("an address in %d bytes", len(m))
	}
	bits, flags, scope := int(m[1]), uint32(m[2]), m[3]
	a := foundAddress{index: int(binary.NativeEndian.Uint32(m[4:]))}
	a.Link = names[a.index]
	all := attributes(m[unix.SizeofIfAddrmsg:])
	for kind, value := range all {
		switch kind {
		case unix.IFA_ADDRESS, unix.IFA_LOCAL:
		case unix.IFA_BROADCAST:
			a.Broadcast, _ = netip.AddrFromSlice(value)
		case unix.IFA_LABEL:
			if label := text(value); label != a.Link {
				a.Label = label
			}
		case unix.IFA_FLAGS:
			flags = numberIn(value)
		case unix.IFA_CACHEINFO:
			if len(value) >= 8 {
				preferred, valid := numberIn(value[:4]), numberIn(value[4:8])
				if valid != forever || preferred != forever && preferred != 0 {
					a.odd = append(a.odd, fmt.Sprintf("a lifetime of %d s", valid))
				}
			}
		case unix.IFA_RT_PRIORITY:
			a.Metric = int(numberIn(value))
		case ifaProtocol:
			a.Protocol = int(numberIn(value))
		default:
			a.odd = append(a.odd, fmt.Sprintf("attribute %d", kind))
		}
	}
	a.permanent, a.secondary, a.stable = flags&unix.IFA_F_PERMANENT != 0, flags&unix.IFA_F_SECONDARY != 0, flags&unix.IFA_F_STABLE_PRIVACY != 0
	const state = unix.IFA_F_PERMANENT | unix.IFA_F_SECONDARY | unix.IFA_F_TENTATIVE | unix.IFA_F_DADFAILED | unix.IFA_F_STABLE_PRIVACY
	a.Flags = flags & spec.AddressFlags
	if rest := flags &^ (spec.AddressFlags | state); rest != 0 {
		a.odd = append(a.odd, fmt.Sprintf("flags %#x", rest))
	}
	local, remote := all[unix.IFA_LOCAL], all[unix.IFA_ADDRESS]
	if local == nil {
		local = remote
	}
	here, ok := netip.AddrFromSlice(local)
	if !ok {
		return foundAddress{}, fmt.Errorf("an address of %d bytes", len(local))
	}
	a.Prefix = netip.PrefixFrom(here, bits)
	if there, ok := netip.AddrFromSlice(remote); ok && there != here {
		a.Prefix, a.Peer = netip.PrefixFrom(here, here.BitLen()), netip.PrefixFrom(there, bits)
	}
	if here.Is4() { // an IPv6 address has the scope that it says
		var err error
		if a.Scope, err = scopeOf(scope, unix.RT_SCOPE_UNIVERSE); err != nil {
			a.odd = append(a.odd, err.Error())
		}
	}
	sort.Strings(a.odd)
	return a, nil
}

// addressMessage is what gives a link the address.
func addressMessage(a spec.Address, index int) []nl.NetlinkRequestData {
	local, remote := a.Prefix.Addr(), a.Prefix
	if a.Peer.IsValid() {
		remote = a.Peer
	}
	header := nl.NewIfAddrmsg(family(local))
	header.Prefixlen, header.Index = uint8(remote.Bits()), uint32(index)
	header.Flags, header.Scope = uint8(a.Flags), scopeNumber(a.Scope, unix.RT_SCOPE_UNIVERSE)
	all := []nl.NetlinkRequestData{header,
		nl.NewRtAttr(unix.IFA_LOCAL, local.AsSlice()), nl.NewRtAttr(unix.IFA_ADDRESS, remote.Addr().AsSlice())}
	if a.Flags != 0 {
		all = append(all, nl.NewRtAttr(unix.IFA_FLAGS, nl.Uint32Attr(a.Flags&^unix.IFA_F_DEPRECATED)))
	}
	if a.Flags&unix.IFA_F_DEPRECATED != 0 { // preferred for 0 s, valid for ever
		lifetimes := append(nl.Uint32Attr(0), nl.Uint32Attr(forever)...)
		all = append(all, nl.NewRtAttr(unix.IFA_CACHEINFO, append(lifetimes, make([]byte, 8)...)))
	}
	if a.Broadcast.IsValid() {
		all = append(all, nl.NewRtAttr(unix.IFA_BROADCAST, a.Broadcast.AsSlice()))
	}
	if a.Label != "" {
		all = append(all, nl.NewRtAttr(unix.IFA_LABEL, nl.ZeroTerminated(a.Label)))
	}
	if a.Metric != 0 {
		all = append(all, nl.NewRtAttr(unix.IFA_RT_PRIORITY, nl.Uint32Attr(uint32(a.Metric))))
	}
	if a.Protocol != 0 {
		all = append(all, nl.NewRtAttr(ifaProtocol, []byte{byte(a.Protocol)}))
	}
	return all
}

func family(a netip.Addr) int {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

func text(b []byte) string { return strings.TrimRight(string(b), "\x00") }

// readRoute reads an RTM_NEWROUTE message.
func readRoute(m []byte, names map[int]string) (foundRoute, error) {
	if len(m) < unix.SizeofRtMsg {
		return foundRoute{}, fmt.Errorf("a route in %d bytes", len(m))
	}
	toBits, fromBits, tos, table, kind, scope := int(m[1]), m[2], m[3], int(m[4]), m[7], m[6]
	flags := binary.NativeEndian.Uint32(m[8:])
	to := netip.IPv4Unspecified()
	if m[0] == unix.AF_INET6 {
		to = netip.IPv6Unspecified()
	}
	r := foundRoute{unicast: kind == unix.RTN_UNICAST}
	r.Protocol, r.OnLink = int(m[5]), flags&unix.RTNH_F_ONLINK != 0
	odd := func(format string, args ...any) { r.odd = append(r.odd, fmt.Sprintf(format, args...)) }
	for attribute, value := range attributes(m[unix.SizeofRtMsg:]) {
		switch attribute {
		case unix.RTA_DST:
			to, _ = netip.AddrFromSlice(value)
		case unix.RTA_OIF:
			r.index = int(numberIn(value))
		case unix.RTA_GATEWAY:
			r.Via, _ = netip.AddrFromSlice(value)
		case unix.RTA_PREFSRC:
			r.Source, _ = netip.AddrFromSlice(value)
		case unix.RTA_PRIORITY:
			r.Metric = int(numberIn(value))
		case unix.RTA_TABLE:
			table = int(numberIn(value))
		case unix.RTA_METRICS:
			var strange []string
			r.Metrics, strange = readMetrics(value)
			r.odd = append(r.odd, strange...)
		case unix.RTA_PREF:
			preference := map[uint32]string{0: "", 1: "high", 3: "low"}
			r.Preference = preference[numberIn(value)]
		case unix.RTA_CACHEINFO: // struct rta_cacheinfo: its expiry comes third
			r.expires = r.expires || len(value) >= 12 && numberIn(value[8:12]) != 0
		case unix.RTA_EXPIRES:
			r.expires = r.expires || numberIn(value) != 0
		case unix.RTA_MULTIPATH:
			r.others, r.vias = nextHops(value)
			odd("several next hops")
		case rtaNexthop:
			odd("nexthop object %d", numberIn(value))
		case unix.RTA_FLOW:
			odd("realms")
		case unix.RTA_VIA:
			odd("a gateway of another family")
		case unix.RTA_ENCAP, unix.RTA_ENCAP_TYPE:
			odd("an encapsulation")
		default:
			odd("attribute %d", attribute)
		}
	}
	if r.Link = names[r.index]; table != unix.RT_TABLE_MAIN {
		r.Table = table
	}
	r.To, r.local = netip.PrefixFrom(to, toBits), table == unix.RT_TABLE_LOCAL
	if fromBits != 0 {
		odd("a source prefix")
	}
	if tos != 0 {
		odd("tos %#x", tos)
	}
	if r.expires {
		odd("a lifetime")
	}
	if !r.unicast {
		odd("type %d", kind)
	}
	var err error
	if r.Scope, err = scopeOf(scope, routeScope(r.Route)); err != nil {
		r.odd = append(r.odd, err.Error())
	}
	sort.Strings(r.odd)
	return r, nil
}

// routeScope is what ip-route(8) gives a route: IPv6 has none.
func routeScope(r spec.Route) uint8 {
	if r.Via.IsValid() || r.To.Addr().Is6() {
		return unix.RT_SCOPE_UNIVERSE
	}
	return unix.RT_SCOPE_LINK
}

// nextHops returns the interfaces and routers of a route with several next hops.
func nextHops(b []byte) (all []int, vias []netip.Addr) {
	for len(b) >= unix.SizeofRtNexthop {
		length := int(binary.NativeEndian.Uint16(b))
		if length < unix.SizeofRtNexthop || length > len(b) {
			break
		}
		all = append(all, int(binary.NativeEndian.Uint32(b[4:])))
		if via, ok := netip.AddrFromSlice(attributes(b[unix.SizeofRtNexthop:length])[unix.RTA_GATEWAY]); ok {
			vias = append(vias, via)
		}
		b = b[min(len(b), (length+3)&^3):]
	}
	return all, vias
}

// metricNames are the metrics of a route by their numbers (RTAX_…).
var metricNames = []string{unix.RTAX_LOCK: "lock", unix.RTAX_MTU: "mtu", unix.RTAX_WINDOW: "window", unix.RTAX_RTT: "rtt", unix.RTAX_RTTVAR: "rttvar",
	unix.RTAX_SSTHRESH: "ssthresh", unix.RTAX_CWND: "cwnd", unix.RTAX_ADVMSS: "advmss", unix.RTAX_REORDERING: "reordering", unix.RTAX_HOPLIMIT: "hoplimit",
	unix.RTAX_INITCWND: "initcwnd", unix.RTAX_FEATURES: "features", unix.RTAX_RTO_MIN: "rto_min", unix.RTAX_INITRWND: "initrwnd", unix.RTAX_QUICKACK: "quickack",
	unix.RTAX_CC_ALGO: "congctl", unix.RTAX_FASTOPEN_NO_COOKIE: "fastopen_no_cookie"}

func readMetrics(b []byte) (metrics string, odd []string) {
	found := attributes(b)
	var parts []string
	for i, name := range metricNames {
		value, ok := found[uint16(i)]
		delete(found, uint16(i))
		switch {
		case !ok || name == "":
		case i == unix.RTAX_CC_ALGO:
			parts = append(parts, name+"="+text(value))
		default:
			parts = append(parts, fmt.Sprintf("%s=%d", name, numberIn(value)))
		}
	}
	for i := range found {
		odd = append(odd, fmt.Sprintf("metric %d", i))
	}
	return strings.Join(parts, " "), odd
}

// metricsAttribute returns nil for none, and for what readMetrics never returns.
func metricsAttribute(metrics string) *nl.RtAttr {
	all := nl.NewRtAttr(unix.RTA_METRICS, nil)
	for _, part := range strings.Fields(metrics) {
		name, value, _ := strings.Cut(part, "=")
		for i := range metricNames {
			if metricNames[i] != name || name == "" {
				continue
			}
			if i == unix.RTAX_CC_ALGO {
				all.AddRtAttr(i, nl.ZeroTerminated(value))
			} else if n, err := strconv.ParseUint(value, 10, 32); err == nil {
				all.AddRtAttr(i, nl.Uint32Attr(uint32(n)))
			}
		}
	}
	if metrics == "" {
		return nil
	}
	return all
}

// routeMessage is the route for RTM_NEWROUTE and RTM_DELROUTE.
func routeMessage(r spec.Route, index int) []nl.NetlinkRequestData {
	header := &nl.RtMsg{RtMsg: unix.RtMsg{Family: uint8(family(r.To.Addr())), Dst_len: uint8(r.To.Bits()), Protocol: uint8(protocolOf(r)),
		Scope: scopeNumber(r.Scope, routeScope(r)), Type: unix.RTN_UNICAST}}
	if r.OnLink {
		header.Flags |= unix.RTNH_F_ONLINK
	}
	table := r.Table
	if table == 0 {
		table = unix.RT_TABLE_MAIN
	}
	all := []nl.NetlinkRequestData{header, nl.NewRtAttr(unix.RTA_TABLE, nl.Uint32Attr(uint32(table))), nl.NewRtAttr(unix.RTA_OIF, nl.Uint32Attr(uint32(index)))}
	if r.To.Bits() > 0 {
		all = append(all, nl.NewRtAttr(unix.RTA_DST, r.To.Addr().AsSlice()))
	}
	if r.Via.IsValid() {
		all = append(all, nl.NewRtAttr(unix.RTA_GATEWAY, r.Via.AsSlice()))
	}
	if r.Source.IsValid() {
		all = append(all, nl.NewRtAttr(unix.RTA_PREFSRC, r.Source.AsSlice()))
	}
	if r.Metric != 0 {
		all = append(all, nl.NewRtAttr(unix.RTA_PRIORITY, nl.Uint32Attr(uint32(r.Metric))))
	}
	if m := metricsAttribute(r.Metrics); m != nil {
		all = append(all, m)
	}
	if p := map[string]byte{"high": 1, "low": 3}[r.Preference]; p != 0 {
		all = append(all, nl.NewRtAttr(unix.RTA_PREF, []byte{p}))
	}
	return all
}

// protocolOf returns who makes the route.
func protocolOf(r spec.Route) int {
	if r.Protocol == 0 {
		return unix.RTPROT_STATIC
	}
	return r.Protocol
}
