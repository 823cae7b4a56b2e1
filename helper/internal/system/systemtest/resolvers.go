package systemtest

import (
	"os"
	"path"
	"path/filepath"
	"strings"
)

// Where those whom ifupdown's hooks tell have the resolvers of interfaces, and what the
// hook resolved notes for itself.
const (
	resolvedLinks = "/run/systemd/resolve/netif/"
	resolvconf    = "/run/resolvconf/interface/"
	hookNotes     = "/run/network/ifupdown-"
)

// stanza is what ifquery(8) prints of an interface.
func (m *Machine) stanza(name string) (out string, known bool) {
	inside := false
	for _, line := range strings.Split(m.Content("/etc/network/interfaces"), "\n") {
		if key, value, ok := strings.Cut(strings.TrimPrefix(line, "\t"), " "); ok && inside && strings.HasPrefix(line, "\t") {
			out += key + ": " + value + "\n"
			continue
		}
		inside = strings.HasPrefix(line, "iface "+name+" ")
		known = known || inside
	}
	return out, known
}

// upHooks is what ifup(8) does at the end.
func (m *Machine) upHooks() {
	stanza, _ := m.stanza(m.Uplink)
	environment := []string{"IFACE=" + m.Uplink, "ADDRFAM=inet"}
	for _, line := range strings.Split(stanza, "\n") {
		if servers, ok := strings.CutPrefix(line, "dns-nameservers: "); ok {
			environment = append(environment, "IF_DNS_NAMESERVERS="+servers)
		}
	}
	hooks, _ := filepath.Glob(m.At("/etc/network/if-up.d/*"))
	for _, hook := range hooks {
		m.hook(environment, hook)
	}
}

// hook does what the hooks of Debian 13 do.
func (m *Machine) hook(environment []string, script string) {
	is := map[string]string{}
	for _, one := range environment {
		key, value, _ := strings.Cut(one, "=")
		is[key] = value
	}
	link, family, servers := is["IFACE"], is["ADDRFAM"], is["IF_DNS_NAMESERVERS"]
	switch path.Base(script) {
	case "000resolvconf":
		_ = m.Put(resolvconf+link+"."+family, servers, 0o644)
	case "resolved":
		if note := hookNotes + family + "-" + link; m.hasLink(link) && m.Content(note) != servers {
			_ = m.Put(note, servers, 0o644)
			_ = m.Put(resolvedLinks+link, servers, 0o644)
		}
	}
}

// forgetLinks is what systemd-resolved does when it sees that the NIC is gone.
func (m *Machine) forgetLinks() {
	if !m.hasLink(m.Uplink) {
		_ = os.Remove(m.At(resolvedLinks + m.Uplink))
	}
}

// countsNot are notes that nobody needs as long as the NIC is not there.
func (m *Machine) countsNot(name string) bool {
	return !m.hasLink(m.Uplink) && (strings.HasPrefix(name, resolvconf) || strings.HasPrefix(name, hookNotes))
}
