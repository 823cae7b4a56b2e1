package linkstest

import (
	"fmt"
	"net"
	"net/netip"
	"sort"
	"strings"
	"syscall"

	"mobula/helper/internal/links"
	"mobula/helper/internal/spec"
)

// Observe implements links.Kernel.
func (k *Kernel) Observe(namespaces []string, table int, settings []spec.Setting) (*links.State, error) {
	s := &links.State{
		Namespaces: map[string]bool{}, Links: map[links.LinkKey]links.Link{}, Addresses: map[spec.Address]bool{}, Neighbors: map[spec.Neighbor]bool{},
		Rules: map[spec.Rule]bool{}, Settings: map[links.SettingKey]string{},
	}
	s.IPv6Off = k.settings[ipv6Off] == "1"
	seen := map[string]bool{"": true}
	for _, ns := range namespaces {
		if k.namespaces[ns] {
			s.Namespaces[ns], seen[ns] = true, true
		}
	}
	for key, d := range k.devices {
		if !seen[key.NS] {
			continue
		}
		link := links.Link{Link: d.Link, Up: d.up}
		if d.other != nil {
			link.Peer = "?"
		}
		link.Underlay = d.Kind == spec.WireGuardDevice && d.alias == links.UnderlayAlias
		s.Links[key] = link
		for address, mac := range d.neighbors {
			s.Neighbors[spec.Neighbor{NS: key.NS, Link: key.Name, Address: address, MAC: mac}] = true
		}
		for _, a := range d.addresses {
			a.NS = key.NS
			s.Addresses[a.Address] = true
		}
	}
	for _, r := range k.routes {
		if seen[r.NS] && (r.Table == 0 || r.Table == table) {
			s.Routes = append(s.Routes, r)
		}
	}
	for r := range k.rules {
		if r.Table == table || r.Table == 0 && r.Specific && spec.RulePriority <= r.Priority && r.Priority <= spec.MaxRulePriority {
			s.Rules[r] = true
		}
	}
	for _, setting := range settings {
		key := links.SettingKey{NS: setting.NS, Key: setting.Key}
		value, ok := k.settings[key]
		if seen[setting.NS] && !ok && (setting.NIC != "" || defaultOf(setting.Key) != setting.Key) {
			continue
		}
		if seen[setting.NS] && !ok {
			return nil, syscall.ENOENT
		}
		if seen[setting.NS] {
			s.Settings[key] = value
		}
	}
	return s, nil
}

// String renders the whole state as sorted text, the way ip(8) would.
func (k *Kernel) String() string {
	all := []string{""}
	for ns := range k.namespaces {
		all = append(all, ns)
	}
	for i := 1; i <= k.lost; i++ {
		if ns := fmt.Sprint("lost ", i); len(k.in(ns)) > 0 {
			all = append(all, ns)
		}
	}
	sort.Strings(all)
	var b strings.Builder
	for _, ns := range all {
		fmt.Fprintf(&b, "namespace %q\n", ns)
		var lines []string
		for _, d := range k.in(ns) {
			lines = append(lines, d.String())
		}
		lines = append(lines, k.routeLines(ns)...)
		for key, value := range k.settings {
			nic := k.settings[links.SettingKey{NS: ns, Key: defaultOf(key.Key)}]
			if own := defaultOf(key.Key) != key.Key; !own && strings.HasSuffix(key.Key, "/forwarding") {
				continue // ip_forward says the same
			} else if key.NS == ns && (ns != "" && !own || ns == "" && own && value != nic) {
				lines = append(lines, fmt.Sprintf("setting %s = %s", key.Key, value))
			}
		}
		if ns == "" {
			for r := range k.rules {
				line := fmt.Sprintf("rule %d: from %s to %s lookup %d", r.Priority, orAll(r.From), orAll(r.To), r.Table)
				if r.Specific {
					line += " suppress_prefixlength 0"
				}
				lines = append(lines, line)
			}
		}
		sort.Strings(lines)
		for _, line := range lines {
			fmt.Fprintf(&b, "  %s\n", line)
		}
	}
	return b.String()
}

// defaultOf names what a new interface gets for a setting of an interface.
func defaultOf(key string) string {
	if parts := strings.Split(key, "/"); len(parts) == 5 && parts[3] != "all" {
		parts[3] = "default"
		return strings.Join(parts, "/")
	}
	return key
}

func orAll(p netip.Prefix) string {
	if p.IsValid() {
		return p.String()
	}
	return "all"
}

// String renders a link with its addresses.
func (d *device) String() string {
	text := fmt.Sprintf("link %s %s mtu %d", d.Name, d.Kind, d.MTU)
	if d.MAC != nil {
		text += " address " + d.MAC.String()
	}
	if d.other != nil {
		text += " peer " + d.other.Name
	}
	if d.Master != "" {
		text += " master " + d.Master
	}
	if d.up {
		text += " up"
	}
	if d.Kind == spec.WireGuardDevice && d.born != d.NS {
		text += fmt.Sprintf(" made in %q", d.born)
	}
	if d.alias != "" {
		text += fmt.Sprintf(" alias %q", d.alias)
	}
	// Each family has a list of its own (in_device, inet6_dev): in their order there.
	for _, six := range []bool{false, true} {
		for _, a := range d.addresses {
			if a.Prefix.Addr().Is6() == six {
				text += " inet " + a.String()
			}
		}
	}
	var neighbors []string
	for address, mac := range d.neighbors {
		neighbors = append(neighbors, fmt.Sprintf(" neighbor %s lladdr %s", address, net.HardwareAddr(mac[:])))
	}
	sort.Strings(neighbors)
	return text + strings.Join(neighbors, "")
}

// String renders an address with all that is not as it normally is.
func (a address) String() string {
	text := a.Prefix.String()
	if a.Peer.IsValid() {
		text += " peer " + a.Peer.String()
	}
	if a.Broadcast.IsValid() {
		text += " brd " + a.Broadcast.String()
	}
	if a.Scope != "" {
		text += " scope " + string(a.Scope)
	}
	if a.secondary {
		text += " secondary"
	}
	if a.Flags != 0 {
		text += fmt.Sprintf(" flags %#x", a.Flags)
	}
	if a.Label != "" {
		text += " label " + a.Label
	}
	if a.Metric != 0 {
		text += fmt.Sprintf(" metric %d", a.Metric)
	}
	if a.Protocol != 0 {
		text += fmt.Sprintf(" proto %d", a.Protocol)
	}
	return text
}

func (k *Kernel) routeLines(ns string) (lines []string) {
	place := map[links.RouteKey]int{}
	for _, r := range k.routes {
		key := links.KeyOf(r)
		place[key]++
		if r.NS != ns {
			continue
		}
		text := "route " + r.To.String()
		if r.Via.IsValid() {
			text += " via " + r.Via.String()
		}
		text += fmt.Sprintf(" dev %s proto %d", r.Link, r.Protocol)
		if r.OnLink {
			text += " onlink"
		}
		if r.Scope != "" {
			text += " scope " + string(r.Scope)
		}
		if r.Source.IsValid() {
			text += " src " + r.Source.String()
		}
		if r.Metric != 0 {
			text += fmt.Sprintf(" metric %d", r.Metric)
		}
		if r.Metrics != "" {
			text += " " + r.Metrics
		}
		if r.Preference != "" {
			text += " pref " + r.Preference
		}
		if r.Table != 0 {
			text += fmt.Sprintf(" table %d", r.Table)
		}
		if n := place[key]; n > 1 {
			text += fmt.Sprintf(" (number %d)", n)
		}
		lines = append(lines, text)
	}
	return lines
}

// Reachable tells why a host cannot be reached by its public addresses; "" if it
// can: the addresses are where the NIC leads, and so is the default route.
func (k *Kernel) Reachable(f *spec.Facts) string {
	nic := k.find(f.Uplink)
	if nic == nil || !nic.up {
		return fmt.Sprintf("the NIC is missing or down: %v", nic)
	}
	at := nic
	if nic.Master != "" {
		at = k.devices[links.LinkKey{NS: nic.NS, Name: nic.Master}]
	}
	for _, a := range f.Addresses {
		if !at.up || !at.has(a) {
			return fmt.Sprintf("address %s is not on %s", a, at)
		}
	}
	for _, r := range f.Routes {
		found := false
		for _, have := range k.routes {
			found = found || have.NS == at.NS && have.Table == 0 && have.To == r.To && have.Link == at.Name && have.Via == r.Via
		}
		if !found {
			return fmt.Sprintf("route to %s is not over %s", r.To, at.Name)
		}
	}
	return ""
}

func (d *device) has(p netip.Prefix) bool {
	for _, a := range d.addresses {
		if a.Prefix == p {
			return true
		}
	}
	return false
}
