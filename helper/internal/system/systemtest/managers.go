package systemtest

import (
	"path"
	"path/filepath"
	"sort"
	"strings"

	"mobula/helper/internal/spec"
)

// StartManagers starts the host's network managers, as a boot does after the boot
// unit. It reports whether they have the NIC; then the caller configures it.
func (m *Machine) StartManagers() (taken bool) {
	taken = true
	for _, manager := range []spec.Manager{spec.Networkd, spec.NetworkManager} {
		if m.has(manager) {
			m.unmanaged[manager] = m.toLeaveAlone(manager)
			m.running[string(manager)+".service"] = 0
			taken = taken && !matches(m.unmanaged[manager], m.Uplink)
		}
	}
	if !m.has(spec.Ifupdown) {
		return taken
	}
	taken = taken && !strings.Contains(m.loaded[spec.IfupdownDropIn], "--exclude="+m.Uplink+" --exclude="+m.Uplink+":*\n")
	notes := "lo=lo\n"
	if taken && m.hasLink(m.Uplink) { // else ifup(8) says that it cannot find the device
		notes += m.Uplink + "=" + m.Uplink + "\n"
		_ = m.Put("/run/network/ifstate."+m.Uplink, m.Uplink+"\n", 0o644)
		m.upHooks()
	}
	_ = m.Put("/run/network/ifstate", notes, 0o644)
	return taken
}

func (m *Machine) hasLink(name string) bool {
	for _, link := range m.Links() {
		if link == name {
			return true
		}
	}
	return false
}

// toLeaveAlone is what a manager's files say: unmanaged-devices of NetworkManager.conf(5),
// Unmanaged= of systemd.network(5).
func (m *Machine) toLeaveAlone(manager spec.Manager) (all []string) {
	pattern := map[spec.Manager]string{spec.Networkd: "/etc/systemd/network/*.network", spec.NetworkManager: "/etc/NetworkManager/conf.d/*.conf"}[manager]
	files, _ := filepath.Glob(m.At(pattern))
	for _, file := range files {
		content := m.Content(strings.TrimPrefix(file, m.Root))
		for _, line := range strings.Split(content, "\n") {
			if list, ok := strings.CutPrefix(line, "unmanaged-devices+="); ok && manager == spec.NetworkManager {
				all = append(all, strings.Split(strings.ReplaceAll(list, "interface-name:", ""), ";")...)
			}
			if list, ok := strings.CutPrefix(line, "Name="); ok && manager == spec.Networkd && strings.Contains(content, "\nUnmanaged=yes\n") {
				all = append(all, strings.Fields(list)...)
			}
		}
	}
	sort.Strings(all)
	return all
}

// reads has a manager read its files again. NetworkManager (seen with 1.52) has taken
// each link, and one that it shall leave alone from now on goes down, with all
// addresses; it gives the NIC its addresses anew when it has it again. networkd has
// taken the NIC only, whose addresses it removes.
func (m *Machine) reads(manager spec.Manager) {
	before, now := m.unmanaged[manager], m.toLeaveAlone(manager)
	m.unmanaged[manager] = now
	for _, link := range m.Links() {
		was, is := matches(before, link), matches(now, link)
		switch {
		case is && !was && (link == m.Uplink || manager == spec.NetworkManager):
			m.Release(link)
		case was && !is && link == m.Uplink && manager == spec.NetworkManager:
			m.Take(link)
		}
	}
}

func matches(patterns []string, link string) bool {
	for _, p := range patterns {
		if ok, _ := path.Match(p, link); ok {
			return true
		}
	}
	return false
}

// nmcli says the state of a device (NMDeviceState).
func (m *Machine) nmcli(args []string) (out, problem string) {
	link := args[len(args)-1]
	switch {
	case !m.Running("NetworkManager.service"):
		return "", "Error: NetworkManager is not running."
	case strings.Join(args[:len(args)-1], " ") != "--terse --get-values GENERAL.STATE device show":
		return "", "the nmcli of tests knows no such command"
	case !m.hasLink(link):
		return "", "Error: Device '" + link + "' not found."
	case matches(m.unmanaged[spec.NetworkManager], link):
		return "10 (unmanaged)\n", ""
	}
	return "100 (connected)\n", ""
}
