package inventory

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"mobula/helper/internal/network"
)

// integer accepts integers, and strings that are exactly one, because that is
// what templates give. JSON's true, 1.0 and 1e3 are none.
func integer(value any) (int, bool) {
	var s string
	switch v := value.(type) {
	case json.Number:
		s = v.String()
	case string:
		s = v
	}
	i, err := strconv.Atoi(s)
	return i, err == nil && strconv.Itoa(i) == s
}

// list accepts a list, or the one item of it.
func list(value any) []any {
	if items, isList := value.([]any); isList {
		return items
	}
	return []any{value}
}

var wantHostID = fmt.Sprintf("an integer in %d..%d", network.MinHostID, network.MaxHostID)

func (h *host) readHostID(value any) string {
	id, ok := integer(value)
	if !ok || id < network.MinHostID || id > network.MaxHostID {
		return wantHostID
	}
	h.ID = uint16(id)
	return ""
}

func (h *host) readHostname(value any) string {
	name, ok := value.(string)
	if !ok || !network.IsFQDN(name) {
		return "a fully qualified name such as alice.example.com"
	}
	h.Hostname = name
	return ""
}

const (
	noEndpoint   = "none"
	wantEndpoint = "an IPv4 address, or a name that has one, alone or with :PORT, or an IPv6 address, alone or as [ADDRESS]:PORT"
)

// reach is where others reach a host, as it is written.
type reach struct {
	address netip.Addr // zero: not known yet
	lookup  string     // the name that must be resolved to get it
	port    uint16     // which a router forwards to WireGuard's; 0: the same
}

func (h *host) readEndpoint(value any) string {
	if value == noEndpoint {
		h.unreached = true
		return ""
	}
	p, want := readPlace(value)
	if want == "" {
		h.places = []reach{p}
	}
	return want
}

var wantEndpoints = fmt.Sprintf("a list of 1..%d endpoints, of which relays use the first of IPv4, each %s", network.MaxEndpoints, wantEndpoint)

// readEndpoints reads endpoint and more of them: who has this one has no use for the other.
func (h *host) readEndpoints(value any) string {
	items, isList := value.([]any)
	if !isList || len(items) == 0 || len(items) > network.MaxEndpoints {
		return wantEndpoints
	}
	if h.places != nil || h.unreached || h.bad["endpoint"] {
		return "endpoint or endpoints, not both (endpoint is the first of endpoints)"
	}
	h.plural = true
	for i, item := range items {
		p, want := readPlace(item)
		if want != "" {
			h.places = nil
			return fmt.Sprintf("%s instead of %s", want, shown(item))
		}
		if first := slices.Index(h.places, p); first >= 0 {
			h.places = nil
			return fmt.Sprintf("each endpoint once (number %d is number %d again)", i+1, first+1)
		}
		h.places = append(h.places, p)
	}
	return ""
}

// endpointField is the variable that the endpoint came by.
func (h *host) endpointField() string {
	if h.plural {
		return "endpoints"
	}
	return "endpoint"
}

// readPlace reads an address or a name, alone or with a port.
func readPlace(value any) (p reach, want string) {
	at, _ := value.(string)
	if bare, ok := address(at); ok {
		return readPlaceAddress(p, bare)
	}
	before, port, found := cutLast(at, ":")
	if found {
		number, ok := integer(port)
		if !ok || number < 1 || number > 65535 {
			return p, wantEndpoint + ", PORT in 1..65535"
		}
		at, p.port = before, uint16(number)
	}
	if bare, ok := address(at); ok && (bare.Is4() || strings.HasPrefix(at, "[")) {
		return readPlaceAddress(p, bare)
	}
	if !network.IsDNSName(at) {
		return p, wantEndpoint
	}
	p.lookup = at
	return p, ""
}

// address reads an address, one of IPv6 in brackets or without.
func address(s string) (netip.Addr, bool) {
	inside, bracket := strings.CutPrefix(s, "[")
	if bracket {
		var closed bool
		if s, closed = strings.CutSuffix(inside, "]"); !closed {
			return netip.Addr{}, false
		}
	}
	a, err := netip.ParseAddr(s)
	return a, err == nil && !(bracket && a.Is4())
}

func readPlaceAddress(p reach, a netip.Addr) (reach, string) {
	if a.Is4In6() || a.Zone() != "" {
		return p, "an address without a zone, and one of IPv4 as such"
	}
	p.address = a
	return p, ""
}

// readInventoryName takes the host's name for its endpoint.
func (h *host) readInventoryName() string {
	want := h.readEndpoint(h.Name)
	if want == "" && h.places[0].port != 0 {
		want = "a name without a port, which would be that of SSH (WireGuard's goes into endpoint)"
	}
	return want
}

// cutLast is strings.Cut around the last separator.
func cutLast(s, separator string) (before, after string, found bool) {
	if i := strings.LastIndex(s, separator); i >= 0 {
		return s[:i], s[i+len(separator):], true
	}
	return s, "", false
}

func (h *host) readWireGuardPort(value any) string {
	port, ok := integer(value)
	if !ok || port < 1 || port > 65535 {
		h.port = 0
		return "a UDP port in 1..65535"
	}
	h.port = uint16(port)
	return ""
}

func (h *host) readUplink(value any) string {
	name, ok := value.(string)
	if !ok || name == "" || name == "." || name == ".." || len(name) > 15 || strings.ContainsAny(name, "/: \t\r\n") {
		return "the name of an interface, of 1..15 bytes"
	}
	h.Uplink = name
	return ""
}

func (h *host) readUplinkMode(value any) string {
	if value != network.UplinkMode(false) && value != network.UplinkMode(true) {
		return `"moved" or "shared"`
	}
	h.mode = value.(string)
	return ""
}

func (h *host) readAccessAddress(value any) string {
	if value != "auto" && value != "manual" {
		return `"auto" or "manual"`
	}
	h.ManualAccess = value == "manual"
	return ""
}

func (h *host) readUpstreamDNS(value any) string {
	seen := map[netip.Addr]bool{}
	for _, item := range list(value) {
		s, _ := item.(string)
		switch a, err := netip.ParseAddr(s); {
		case err != nil:
			return "IPv4 addresses of resolvers, as a list"
		case !a.Is4():
			return "IPv4 addresses of resolvers, as the gateway speaks no IPv6"
		case a.IsLoopback():
			return "resolvers that the gateway reaches (its loopback is not the host's)"
		case !seen[a]:
			seen[a] = true
			h.UpstreamDNS = append(h.UpstreamDNS, a)
		}
	}
	return ""
}

func (h *host) readPublish(value any) string {
	seen := map[network.Port]bool{}
	for _, item := range list(value) {
		p, ok := readPort(item)
		if !ok {
			return "ports such as 443, tcp/443 or udp/53, as a list, each in 1..65535"
		}
		if !seen[p] {
			seen[p] = true
			h.Publish = append(h.Publish, p)
		}
	}
	sort.Slice(h.Publish, func(i, j int) bool {
		a, b := h.Publish[i], h.Publish[j]
		return a.Protocol < b.Protocol || a.Protocol == b.Protocol && a.Number < b.Number
	})
	return ""
}

// ParsePort reads a port as publish lists it: 443, tcp/443 or 443/tcp.
func ParsePort(s string) (network.Port, bool) { return readPort(s) }

// readPort reads 443, "443", "tcp/443" or "443/tcp".
func readPort(value any) (network.Port, bool) {
	protocol := "tcp"
	if s, isText := value.(string); isText {
		if before, after, found := strings.Cut(strings.ToLower(s), "/"); found {
			protocol, value = before, after
			if after == "tcp" || after == "udp" {
				protocol, value = after, before
			}
		}
	}
	number, ok := integer(value)
	ok = ok && number >= 1 && number <= 65535 && (protocol == "tcp" || protocol == "udp")
	return network.Port{Protocol: protocol, Number: uint16(number)}, ok
}

func (h *host) readUnderlayMTU(value any) string {
	mtu, ok := integer(value)
	if !ok || mtu < network.MinUnderlayMTU || mtu > network.MaxUnderlayMTU {
		return wantUnderlayMTU
	}
	h.underlayMTU = mtu
	return ""
}

func (h *host) readPresharedKeys(value any) string { return readBool(value, &h.PresharedKeys) }

func (h *host) readMapForGuests(value any) string { return readBool(value, &h.MapForGuests) }

func (h *host) readOpenFirewall(value any) string { return readBool(value, &h.OpenFirewall) }

func (h *host) readMetrics(value any) string { return readBool(value, &h.Metrics) }

func (h *host) readMetricsPerPeer(value any) string { return readBool(value, &h.MetricsPerPeer) }

// readPackages holds that they can be packages: the roles install them.
func (h *host) readPackages(value any) string {
	const want = "a list of packages to install where one is missing, [] for none: whoever operates the host brings them"
	all, ok := value.([]any)
	for _, p := range all {
		name, text := p.(string)
		ok = ok && text && packageName.MatchString(name)
	}
	if !ok {
		return want
	}
	return ""
}

// packageName is what names a package, or one of a version or an architecture, and is no
// option, path or address: deb-version(7), and dnf(8) "Specifying packages".
var packageName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9+._:=~-]*$`)

// What resolver may be.
const resolverHost, resolverGateway = "host", "gateway"

func (h *host) readResolver(value any) string {
	h.resolver, _ = value.(string)
	if h.resolver != resolverHost && h.resolver != resolverGateway {
		return resolverHost + " or " + resolverGateway
	}
	h.GatewayResolver = h.resolver == resolverGateway
	return ""
}

func readBool(value any, to *bool) string {
	s := strings.ToLower(fmt.Sprint(value)) // templates give strings
	*to = s == "true" || s == "yes"
	if !*to && s != "false" && s != "no" {
		return "true or false"
	}
	return ""
}

var wantUnderlayMTU = fmt.Sprintf("an integer in %d..%d bytes", network.MinUnderlayMTU, network.MaxUnderlayMTU)

func (h *host) readConfirmTimeout(value any) string {
	var d time.Duration
	if seconds, ok := integer(value); ok && seconds <= int(MaxConfirmTimeout/time.Second) {
		d = time.Duration(seconds) * time.Second
	} else if s, isText := value.(string); isText {
		d, _ = time.ParseDuration(s) // 0 when it is none
	}
	if d < MinConfirmTimeout || d > MaxConfirmTimeout || d%time.Second != 0 {
		return `seconds, or a duration such as "120s" or "3m", in 30s..1h`
	}
	h.settings.ConfirmTimeout = d
	return ""
}
