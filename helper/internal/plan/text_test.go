package plan

import (
	"fmt"
	"net"
	"sort"
	"strings"

	"mobula/helper/internal/spec"
)

// text renders a plan for the golden files: one line for each thing.
func text(h *spec.Host) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	part := func(name string, v any) { // of the ranges nothing where they are the default
		line("%s %s", name, strings.Replace(fmt.Sprintf("%+v", v), "Ranges:10.30.0.0/16 and 10.31.0.0/16 ", "", 1))
	}
	at := func(ns string) string {
		if ns == "" {
			return "host"
		}
		return ns
	}
	for _, ns := range h.Namespaces {
		line("namespace %s", ns)
	}
	for _, l := range h.Links {
		line("link %s %s: %s peer=%s master=%s mac=%v mtu=%d down=%v free=%v%s", at(l.NS), l.Name, l.Kind, l.Peer, l.Master, l.MAC, l.MTU, l.Down, l.Free,
			map[bool]string{true: " underlay"}[l.Underlay])
	}
	for _, a := range h.Addresses {
		line("address %s %s: %s uplink=%v", at(a.NS), a.Link, a.Prefix, a.Uplink)
	}
	for _, r := range h.Routes {
		line("route %s table=%d %s metric=%d: link=%s via=%s onlink=%v source=%s uplink=%v protocol=%d",
			at(r.NS), r.Table, r.To, r.Metric, r.Link, r.Via, r.OnLink, r.Source, r.Uplink, r.Protocol)
	}
	for _, n := range h.Neighbors {
		line("neighbor %s %s: %s is %s", at(n.NS), n.Link, n.Address, net.HardwareAddr(n.MAC[:]))
	}
	for _, r := range h.Rules {
		line("rule %d: from=%s to=%s table=%d specific=%v", r.Priority, r.From, r.To, r.Table, r.Specific)
	}
	for _, s := range h.Settings {
		line("setting %s %s = %s", at(s.NS), s.Key, s.Value+s.Like)
	}
	if w := h.WireGuard; w != nil {
		line("wireguard %s: port %d, key %s", w.Link, w.ListenPort, w.PublicKey)
		for _, p := range w.Peers {
			more := ""
			if !p.OtherKey.IsZero() {
				more += fmt.Sprintf(" other %s", p.OtherKey)
			}
			if p.Preshared {
				more += " preshared"
			}
			line("peer %s (%d): key %s endpoint %s allowed %v keepalive %d%s", p.Name, p.HostID, p.PublicKey, p.Endpoint, p.AllowedIPs, p.KeepaliveSeconds, more)
		}
	}
	if h.Firewall != nil {
		part("firewall", *h.Firewall)
	}
	if h.Doorway != nil {
		part("doorway", *h.Doorway)
	}
	if h.Opening != nil {
		part("opening", *h.Opening)
	}
	if n := h.Names; n != nil {
		line("names by %s: %s for %v, beside it %q, alone\n%s", n.Link, n.Server, n.Domains, n.Beside, n.All)
	}
	if h.Switch != nil {
		part("switch", *h.Switch)
	}
	for _, s := range h.Services {
		line("service %s before-switch=%v program=%s", s.Unit, s.BeforeSwitch, s.Program)
	}
	line("keep %v", h.Keep)
	files := append([]spec.File{}, h.Files...)
	sort.Slice(files, func(i, j int) bool { return files[i].Path < files[j].Path })
	for _, f := range files {
		line("\nfile %s mode=%o target=%s late=%v missing=%v over=%q", f.Path, f.Mode, f.Target, f.Late, f.Missing, f.Over)
		b.WriteString(f.Content)
	}
	return b.String()
}
