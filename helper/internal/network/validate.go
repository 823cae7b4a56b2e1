package network

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Problem is one thing wrong with a document. It names the entry and the field,
// so that whoever read them from files can add the file and the line.
type Problem struct {
	Entry string // a host's inventory name, an extra address, or "" for the whole document
	Field string
	Found string
	Want  string
}

// Error implements error.
func (p Problem) Error() string {
	where := p.Field
	if p.Entry != "" {
		where = p.Entry + ": " + p.Field
	}
	return fmt.Sprintf("%s: found %s, wanted %s", where, p.Found, p.Want)
}

// Validate returns all that is wrong, in the order of the document.
func (d *Document) Validate() []Problem {
	v := validation{Ranges: d.Ranges, names: map[string]string{}, keys: map[Key]string{}}
	if least := LeastUnderlayMTU(d.HasIPv6()); d.UnderlayMTU < least || d.UnderlayMTU > MaxUnderlayMTU {
		want := fmt.Sprintf("%d..%d bytes", least, MaxUnderlayMTU)
		if least > MinUnderlayMTU {
			want += ", as there are endpoints of IPv6"
		}
		v.add("", "underlay_mtu", fmt.Sprint(d.UnderlayMTU), want)
	}
	v.ranges()
	v.hosts(d.Hosts)
	v.extraHosts(d.Names)
	v.extraWires(d.Clients)
	return v.problems
}

type validation struct {
	Ranges
	problems []Problem
	names    map[string]string // private name → entry
	keys     map[Key]string    // public key → entry
}

func (v *validation) add(entry, field, found, want string) {
	v.problems = append(v.problems, Problem{entry, field, found, want})
}

func (v *validation) ranges() {
	for _, n := range []struct {
		field string
		is    netip.Prefix
		named Slash16
	}{{"wire_network", v.Wire(), v.WireNetwork}, {"access_network", v.Access(), v.AccessNetwork}} {
		if n.named != 0 && n.named.Check() != "" {
			v.add("", n.field, n.is.String(), n.named.Check())
		}
	}
	if v.Wire() == v.Access() {
		v.add("", "access_network", v.Access().String()+", which is wire_network", "another network")
	}
}

func (v *validation) hosts(hosts []Host) {
	ids, endpoints := map[uint16]string{}, map[netip.AddrPort]string{}
	for _, h := range hosts {
		if h.ID < MinHostID || h.ID > MaxHostID {
			v.add(h.Name, "host_id", fmt.Sprint(h.ID), fmt.Sprintf("%d..%d", MinHostID, MaxHostID))
		} else if other, taken := ids[h.ID]; taken {
			v.add(h.Name, "host_id", fmt.Sprintf("%d, which %s has", h.ID, other), "an ID of its own")
		} else {
			ids[h.ID] = h.Name
		}
		v.name(h.Name, "hostname", h.Hostname)
		v.endpoint(h, endpoints)
		v.key(h.Name, h.PublicKey)
		v.key(h.Name, h.AlsoKey)
		if h.PublicKey.IsZero() && !h.AlsoKey.IsZero() {
			v.add(h.Name, "key", "another key alone", "the key that the host uses")
		}
		if len(h.Uplink) > 15 || strings.ContainsAny(h.Uplink, "/ \t\n") {
			v.add(h.Name, "uplink", fmt.Sprintf("%q", h.Uplink), "the name of an interface")
		}
		if h.OpenFirewall && !h.SharedUplink {
			v.add(h.Name, "open_firewall", "true", "it only where uplink_mode is shared")
		}
		if h.GatewayResolver && !h.SharedUplink {
			v.add(h.Name, "resolver", "gateway", "it only where uplink_mode is shared: where it is moved there is no other")
		}
		for _, a := range h.UpstreamDNS {
			if !a.Is4() || a.IsUnspecified() || a.IsMulticast() {
				v.add(h.Name, "upstream_dns", a.String(), "IPv4 addresses of resolvers")
			}
		}
		v.publish(h)
	}
	if len(hosts) > 1 && !slices.ContainsFunc(hosts, func(h Host) bool { return !h.IsUnreached() || h.WireGuardPort == 0 }) {
		v.add(hosts[0].Name, "endpoint", "none, as at all hosts", "one host at least that others can send to")
	}
}

func (v *validation) endpoint(h Host, endpoints map[netip.AddrPort]string) {
	switch {
	case h.Endpoint.IsValid() || h.WireGuardPort == 0:
		if h.WireGuardPort != 0 && h.WireGuardPort == h.Endpoint.Port() {
			v.add(h.Name, "wireguard_port", fmt.Sprintf("%d, which is the endpoint's", h.WireGuardPort), "another port, or none")
		}
		v.oneEndpoint(h.Name, "endpoint", wantIPv4, h.Endpoint, h.EndpointName, endpoints)
	case h.EndpointName != "" || len(h.OtherEndpoints) > 0:
		v.add(h.Name, "endpoint", "none and others of IPv4", "no others, or a first one")
	}
	if n := len(h.Endpoints()); n > MaxEndpoints {
		v.add(h.Name, "endpoints", fmt.Sprintf("%d", n), fmt.Sprintf("at most %d", MaxEndpoints))
	}
	for _, other := range h.OtherEndpoints {
		v.oneEndpoint(h.Name, "endpoints", wantIPv4, other.Endpoint, other.Name, endpoints)
	}
	for _, other := range h.IPv6Endpoints {
		v.oneEndpoint(h.Name, "endpoints", wantIPv6, other.Endpoint, other.Name, endpoints)
		if !h.SharedUplink {
			v.add(h.Name, "endpoints", other.Endpoint.String(), "IPv4 addresses: only where uplink_mode is shared IPv6 is spoken")
		}
	}
}

func (v *validation) oneEndpoint(entry, field, family string, e netip.AddrPort, name string, endpoints map[netip.AddrPort]string) {
	if name != "" && !IsDNSName(name) {
		v.add(entry, field+"_name", fmt.Sprintf("%q", name), "a name that DNS can have")
	}
	switch want := v.CheckEndpoint(e.Addr()); {
	case want == wantUnicast || e.Port() == 0 || e.Addr().Is4() != (family == wantIPv4):
		v.add(entry, field, e.String(), family+" and a port")
	case want != "":
		v.add(entry, field, e.Addr().String(), want)
	case endpoints[e] == entry:
		v.add(entry, field, e.String()+" twice", "each endpoint once")
	case endpoints[e] != "":
		v.add(entry, field, fmt.Sprintf("%s, which %s has", e, endpoints[e]), "an endpoint of its own")
	default:
		endpoints[e] = entry
	}
}

const (
	wantUnicast = "a unicast IP address that others can send to"
	wantIPv4    = "a unicast IPv4 address"
	wantIPv6    = "a unicast IPv6 address, link-local ones excepted,"
)

// CheckEndpoint returns what is wanted instead of an address that no host can be
// reached at from outside, "" if it is good.
func (r Ranges) CheckEndpoint(a netip.Addr) (want string) {
	switch {
	case !a.IsGlobalUnicast() || a.Is4In6() || a.Zone() != "": // link-local ones are not global
		return wantUnicast
	case r.Contains(a):
		return "an address outside " + r.String()
	}
	return ""
}

func (v *validation) publish(h Host) {
	for _, p := range h.Publish {
		switch {
		case p.Protocol != "tcp" && p.Protocol != "udp" || p.Number == 0:
			v.add(h.Name, "publish", p.String(), "tcp/PORT or udp/PORT, PORT in 1..65535")
		case p.Protocol == "udp" && p.Number == h.ListenPort():
			v.add(h.Name, "publish", p.String(), "a port other than WireGuard's")
		}
	}
}

func (v *validation) extraHosts(names []Name) {
	addresses := map[netip.Addr]bool{}
	for _, n := range names {
		entry := n.Address.String()
		switch {
		case !v.Access().Contains(n.Address) || n.Address == v.Access().Addr() || n.Address == v.AccessBroadcast():
			v.add(entry, "address", entry, "a host address in "+v.Access().String())
		case addresses[n.Address]:
			v.add(entry, "address", entry+" twice", "each address once, with a list of names")
		}
		addresses[n.Address] = true
		if len(n.Names) == 0 {
			v.add(entry, "name", "nothing", "a name or a list of names")
		}
		for _, name := range n.Names {
			v.name(entry, "name", name)
		}
	}
}

func (v *validation) extraWires(clients []Client) {
	addresses := map[netip.Addr]bool{}
	for _, c := range clients {
		entry := c.Address.String() + "/32"
		switch {
		case !v.Extrawire().Contains(c.Address):
			v.add(entry, "address", entry, "an address in "+v.Extrawire().String())
		case addresses[c.Address]:
			v.add(entry, "address", entry+" twice", "each address once")
		}
		addresses[c.Address] = true
		if c.PublicKey.IsZero() {
			v.add(entry, "key", "nothing", "a WireGuard public key")
		}
		if c.Name != "" {
			v.name(entry, "name", c.Name)
		}
		v.key(entry, c.PublicKey)
	}
}

// key notes a public key and reports one that is used twice: WireGuard tells
// its peers apart by nothing else.
func (v *validation) key(entry string, k Key) {
	if k.IsZero() {
		return
	}
	if other, taken := v.keys[k]; taken {
		v.add(entry, "key", fmt.Sprintf("%s, which %s has", k, other), "a key of its own")
		return
	}
	v.keys[k] = entry
}

// name checks and notes a private name.
func (v *validation) name(entry, field, name string) {
	switch canonical := strings.ToLower(name); {
	case name == "":
		v.add(entry, field, "nothing", "a fully qualified name such as alice.example.com")
	case !IsFQDN(name):
		v.add(entry, field, fmt.Sprintf("%q", name), "a fully qualified name such as alice.example.com")
	case v.names[canonical] != "":
		v.add(entry, field, fmt.Sprintf("%q, which %s has", name, v.names[canonical]), "a name of its own")
	default:
		v.names[canonical] = entry
	}
}

// IsFQDN reports whether s is a host name of at least two labels without the
// final dot (RFC 952, RFC 1123 section 2.1: letters, digits and hyphens, labels
// of 1..63 bytes, at most 253 in all), the last one not all digits.
func IsFQDN(s string) bool {
	labels := strings.Split(s, ".")
	if len(s) > 253 || len(labels) < 2 {
		return false
	}
	for _, label := range labels {
		if !isLabel(label) {
			return false
		}
	}
	return strings.Trim(labels[len(labels)-1], "0123456789") != ""
}

// IsDNSName reports whether a name is worth asking for: of at most 253 letters,
// digits, hyphens, underscores and dots, labels of 1..63 bytes, and the last one not
// a number (that would be a mistyped address). A final dot may follow.
func IsDNSName(s string) bool {
	s = strings.TrimSuffix(s, ".")
	labels := strings.Split(s, ".")
	for _, label := range labels {
		if len(label) == 0 || len(label) > 63 || !onlyOf(label, labelBytes+"_") {
			return false
		}
	}
	return len(s) <= 253 && strings.Trim(labels[len(labels)-1], "0123456789") != ""
}

const labelBytes = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-"

func isLabel(s string) bool {
	return len(s) >= 1 && len(s) <= 63 && s[0] != '-' && s[len(s)-1] != '-' && onlyOf(s, labelBytes)
}

func onlyOf(s, allowed string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return !strings.ContainsRune(allowed, r) }) < 0
}
