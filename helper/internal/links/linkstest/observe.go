package linkstest

import (
	"fmt"
	"net/netip"
	"sort"
	"strings"
	"syscall"

	"mobula/helper/internal/links"
	"mobula/helper/internal/plan"
)

// Observe implements links.Kernel.
func (k *Kernel) Observe(namespaces []string, table int, settings []plan.Setting) (*links.State, error) {
	s := &links.State{
		Namespaces: map[string]bool{}, Links: map[links.LinkKey]links.Link{}, Addresses: map[plan.Address]bool{},
		Routes: map[links.RouteKey]plan.Route{}, Rules: map[plan.Rule]bool{}, Settings: map[links.SettingKey]string{},
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
		s.Links[key] = link
		for p := range d.addresses {
			s.Addresses[plan.Address{NS: key.NS, Link: key.Name, Prefix: p}] = true
		}
	}
	for key, r := range k.routes {
		if seen[key.NS] && (key.Table == 0 || key.Table == table) {
			s.Routes[key] = r
		}
	}
	for r := range k.rules {
		if r.Table == table || r.Table == 0 && r.Specific && plan.RulePriority <= r.Priority && r.Priority <= plan.MaxRulePriority {
			s.Rules[r] = true
		}
	}
	for _, setting := range settings {
		key := links.SettingKey{NS: setting.NS, Key: setting.Key}
		value, ok := k.settings[key]
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
			if key.NS == ns && ns != "" {
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
	var addresses []string
	for p := range d.addresses {
		addresses = append(addresses, " inet "+p.String())
	}
	sort.Strings(addresses)
	return text + strings.Join(addresses, "")
}

func (k *Kernel) routeLines(ns string) (lines []string) {
	for _, r := range k.routes {
		if r.NS != ns {
			continue
		}
		text := "route " + r.To.String()
		if r.Via.IsValid() {
			text += " via " + r.Via.String()
		}
		text += " dev " + r.Link
		if r.OnLink {
			text += " onlink"
		}
		if r.Source.IsValid() {
			text += " src " + r.Source.String()
		}
		if r.Metric != 0 {
			text += fmt.Sprintf(" metric %d", r.Metric)
		}
		if r.Table != 0 {
			text += fmt.Sprintf(" table %d", r.Table)
		}
		lines = append(lines, text)
	}
	return lines
}

// Reachable tells why a host cannot be reached by its public addresses; "" if it
// can: the addresses are where the NIC leads, and so is the default route.
func (k *Kernel) Reachable(f *plan.Facts) string {
	nic := k.find(f.Uplink)
	if nic == nil || !nic.up {
		return fmt.Sprintf("the NIC is missing or down: %v", nic)
	}
	at := nic
	if nic.Master != "" {
		at = k.devices[links.LinkKey{NS: nic.NS, Name: nic.Master}]
	}
	for _, a := range f.Addresses {
		if !at.up || !at.addresses[a] {
			return fmt.Sprintf("address %s is not on %s", a, at)
		}
	}
	for _, r := range f.Routes {
		r.NS = at.NS
		if found, ok := k.routes[routeKey(r)]; !ok || found.Link != at.Name || found.Via != r.Via {
			return fmt.Sprintf("route to %s is not over %s", r.To, at.Name)
		}
	}
	return ""
}
