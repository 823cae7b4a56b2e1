package hostnames

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"mobula/helper/internal/spec"
)

// Where systemd-resolved is found (systemd-resolved.service(8), org.freedesktop.resolve1(5)).
const (
	unit   = "systemd-resolved.service"
	name   = "org.freedesktop.resolve1"
	object = "/org/freedesktop/resolve1/link/"
	runDir = "/run/systemd/resolve"
	// socket is made anew when it starts, and what it was told of links is noted in linksDir.
	socket   = runDir + "/io.systemd.Resolve"
	linksDir = runDir + "/netif"
	stubFile = runDir + "/stub-resolv.conf"
	nsswitch = "/etc/nsswitch.conf"
)

// Watched are the files and directories that change when others change where private names
// are found; none where it is nobody's business.
func Watched(want *spec.Host) (paths []string) {
	if want.Names != nil {
		return []string{spec.HostsPath, spec.ResolvConfPath, nsswitch, socket, linksDir}
	}
	if slices.ContainsFunc(want.Files, func(f spec.File) bool { return f.Path == spec.ResolvConfPath && f.IsOurs() }) {
		return []string{spec.ResolvConfPath}
	}
	return nil
}

// answers reports that the C library's lookups go to systemd-resolved, which runs: by its
// stub in resolv.conf(5), or by nss-resolve(8). The stub answers alone, so while that host
// boots, or stops it, there is nobody else.
func (r *Resolver) answers(ctx context.Context) bool {
	path := r.Root + spec.ResolvConfPath
	target, _ := os.Readlink(path)
	content, _ := os.ReadFile(path)
	stub := leadsToStub(target, string(content))
	if !stub {
		switches, _ := os.ReadFile(r.Root + nsswitch)
		if !asksResolved(string(switches)) || !r.hasModule() {
			return false
		}
	}
	active, enabled := r.state(ctx)
	return active || stub && enabled
}

// leadsToStub tells by the first name server, which is asked first.
func leadsToStub(target, content string) bool {
	if strings.HasSuffix(target, stubFile) {
		return true
	}
	for _, line := range strings.Split(content, "\n") {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "nameserver" {
			return fields[1] == "127.0.0.53" || fields[1] == "127.0.0.54"
		}
	}
	return false
}

// asksResolved reports that hosts are looked up by nss-resolve before DNS (nsswitch.conf(5)).
func asksResolved(nsswitch string) bool {
	for _, line := range strings.Split(nsswitch, "\n") {
		line, _, _ = strings.Cut(line, "#")
		list, ok := strings.CutPrefix(strings.TrimSpace(line), "hosts:")
		if !ok {
			continue
		}
		for _, service := range strings.Fields(list) {
			switch service {
			case "resolve":
				return true
			case "dns":
				return false
			}
		}
	}
	return false
}

// hasModule reports that nss-resolve is installed, wherever libraries are.
func (r *Resolver) hasModule() bool {
	for _, dir := range []string{"/usr/lib/*/", "/usr/lib64/", "/usr/lib/", "/lib/*/", "/lib64/"} {
		if found, _ := filepath.Glob(r.Root + dir + "libnss_resolve.so.2"); len(found) > 0 {
			return true
		}
	}
	return false
}

// state reports that systemd-resolved runs or is about to, and that a boot starts it.
func (r *Resolver) state(ctx context.Context) (active, enabled bool) {
	out, err := r.Run(ctx, "systemctl", "show", "--property=LoadState,ActiveState,UnitFileState", unit)
	if err != nil {
		return false, false
	}
	values := map[string]string{}
	for _, line := range strings.Split(out, "\n") {
		key, value, _ := strings.Cut(line, "=")
		values[key] = value
	}
	return slices.Contains([]string{"active", "activating", "reloading"}, values["ActiveState"]),
		values["LoadState"] == "loaded" && strings.HasPrefix(values["UnitFileState"], "enabled")
}

// busTimeout is how long the bus may take to answer: while the host boots its socket may be
// there before it.
const busTimeout = 5 * time.Second

// runs asks the bus, which would start it for other questions. Without a bus nobody is
// there.
func (r *Resolver) runs(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, busTimeout)
	defer cancel()
	out, err := r.Run(ctx, "busctl", "--system", "call", "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "NameHasOwner", "s", name)
	return err == nil && strings.TrimSpace(out) == "b true"
}

// properties are those that are asked for, in this order.
var properties = []string{"DNS", "Domains", "DefaultRoute", "LLMNR", "MulticastDNS", "DNSSEC", "DNSOverTLS"}

// linkNow asks what is set on a link.
func (r *Resolver) linkNow(ctx context.Context, index int) (l link, err error) {
	out, err := r.Run(ctx, "busctl", append([]string{"--system", "--json=short", "get-property", name, object + escaped(index), name + ".Link"}, properties...)...)
	if err != nil {
		return l, err
	}
	if l, err = parseLink(out); err != nil {
		return l, fmt.Errorf("what systemd-resolved says of %s: %w", spec.DirectHost, err)
	}
	return l, nil
}

// escaped is a number in an object's path, which begins with no digit (sd_bus_path_encode(3)).
func escaped(index int) string {
	s := strconv.Itoa(index)
	return fmt.Sprintf("_%02x%s", s[0], s[1:])
}

// parseLink reads a JSON object a line, for each of properties.
func parseLink(out string) (l link, err error) {
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) != len(properties) {
		return l, fmt.Errorf("found %q, wanted %d properties", out, len(properties))
	}
	data := make([]json.RawMessage, len(lines))
	for i, line := range lines {
		var property struct{ Data json.RawMessage }
		if err := json.Unmarshal([]byte(line), &property); err != nil {
			return l, fmt.Errorf("%s: %w", properties[i], err)
		}
		data[i] = property.Data
	}
	var servers [][2]json.RawMessage
	var domains [][2]json.RawMessage
	for i, to := range []any{&servers, &domains, &l.defaultRoute, &l.settings[0], &l.settings[1], &l.settings[2], &l.settings[3]} {
		if err := json.Unmarshal(data[i], to); err != nil {
			return l, fmt.Errorf("%s: %w", properties[i], err)
		}
	}
	for _, s := range servers {
		var octets []int
		if err := json.Unmarshal(s[1], &octets); err != nil {
			return l, fmt.Errorf("DNS: %w", err)
		}
		b := make([]byte, len(octets))
		for i, o := range octets {
			b[i] = byte(o)
		}
		a, _ := netip.AddrFromSlice(b)
		l.servers = append(l.servers, a.String())
	}
	for _, d := range domains {
		var text string
		var routeOnly bool
		if err := json.Unmarshal(d[0], &text); err != nil {
			return l, fmt.Errorf("Domains: %w", err)
		}
		if err := json.Unmarshal(d[1], &routeOnly); err != nil {
			return l, fmt.Errorf("Domains: %w", err)
		}
		if routeOnly {
			text = "~" + text
		}
		l.domains = append(l.domains, text)
	}
	slices.Sort(l.domains)
	return l, nil
}
