package transaction

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"mobula/helper/internal/hostnames"
	"mobula/helper/internal/spec"
)

// maxDomains is LINK_SEARCH_DOMAINS_MAX of systemd 252.
const maxDomains = 256

// resolved is systemd-resolved, as far as links go: what it was told of one is in /run,
// outlives its restart, and goes with the link (link_save_user and link_remove_user in
// resolved-link.c).
type resolved struct {
	*world
	runs  bool
	links map[string]*resolvedLink
}

type resolvedLink struct {
	identity any // of the link of which it was told
	servers  []string
	domains  []string
	settings map[string]string
}

func (r *resolved) powerCycle() {
	if r != nil {
		r.runs, r.links = false, nil
	}
}

// starts is systemd starting it, at a boot after the boot unit. It makes its files.
func (r *resolved) starts() {
	if r == nil {
		return
	}
	r.runs = true
	if err := r.system.Put("/run/systemd/resolve/stub-resolv.conf", "nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch .\n", 0o644); err != nil {
		r.Fatal(err)
	}
}

// forget drops what was said of links that are gone.
func (r *resolved) forget() {
	for name, l := range r.links {
		if r.kernel.Identity("", name) != l.identity {
			delete(r.links, name)
		}
	}
}

// String renders what it knows of links that differs from what it knows of new ones.
func (r *resolved) String() (text string) {
	if r == nil {
		return ""
	}
	r.forget()
	for name, l := range r.links {
		text += fmt.Sprintf("systemd-resolved: %s %v %v %v\n", name, l.servers, l.domains, l.settings)
	}
	return text
}

// names is the subject, with each change of systemd-resolved a step of its own.
func (w *world) names() *hostnames.Resolver {
	root, _ := strings.CutSuffix(w.system.At("/etc"), "/etc")
	return &hostnames.Resolver{Root: root, Run: w.askResolved, WriteFile: w.system.System().WriteFile, Index: func(link string) int {
		if w.kernel.Identity("", link) == nil {
			return 0
		}
		return 7
	}}
}

func (w *world) askResolved(_ context.Context, name string, args ...string) (out string, err error) {
	r, line := w.resolved, name+" "+strings.Join(args, " ")
	switch {
	case strings.HasPrefix(line, "systemctl show --property=LoadState,ActiveState,UnitFileState systemd-resolved.service"):
		if r == nil {
			return "LoadState=not-found\nActiveState=inactive\nUnitFileState=\n", nil
		}
		return "LoadState=loaded\nActiveState=" + map[bool]string{true: "active", false: "inactive"}[r.runs] + "\nUnitFileState=enabled\n", nil
	case strings.Contains(line, " NameHasOwner "):
		return fmt.Sprintf("b %v\n", r != nil && r.runs), nil
	case r == nil || !r.runs:
		return "", errors.New("Unit dbus-org.freedesktop.resolve1.service not found.")
	case name == "busctl":
		r.forget()
		return r.properties(args[4], args[6:])
	}
	return "", w.step(line, func() error { return r.resolvectl(args[0], args[1], args[2:]) })
}

// properties are as busctl(1) prints them. A link of which nothing was said has those of
// systemd's defaults.
func (r *resolved) properties(object string, names []string) (string, error) {
	if object != "/org/freedesktop/resolve1/link/_37" {
		return "", fmt.Errorf("Unknown object '%s'.", object)
	}
	l := r.links[spec.DirectHost]
	if l == nil {
		l = &resolvedLink{}
	}
	servers, domains := [][]any{}, [][]any{}
	for _, s := range l.servers {
		octets := []int{}
		for _, o := range netip.MustParseAddr(s).AsSlice() {
			octets = append(octets, int(o))
		}
		servers = append(servers, []any{2, octets})
	}
	for _, d := range l.domains {
		text, routeOnly := strings.CutPrefix(d, "~")
		domains = append(domains, []any{text, routeOnly})
	}
	setting := func(name, otherwise string) string {
		if s := l.settings[name]; s != "" {
			return s
		}
		return otherwise
	}
	values := map[string]any{"DNS": servers, "Domains": domains, "DefaultRoute": setting("default-route", "") != "no" && len(servers) > 0 && len(domains) == 0,
		"LLMNR": setting("llmnr", "yes"), "MulticastDNS": setting("mdns", "yes"), "DNSSEC": setting("dnssec", "allow-downgrade"), "DNSOverTLS": setting("dnsovertls", "opportunistic")}
	var out strings.Builder
	for _, name := range names {
		data, err := json.Marshal(values[name])
		if err != nil || values[name] == nil {
			return "", fmt.Errorf("Unknown property %s: %v", name, err)
		}
		fmt.Fprintf(&out, "{\"type\":\"\",\"data\":%s}\n", data)
	}
	return out.String(), nil
}

// resolvectl does what the program of that name does.
func (r *resolved) resolvectl(verb, name string, values []string) error {
	identity := r.kernel.Identity("", name)
	if identity == nil {
		return fmt.Errorf("Failed to resolve interface %q: No such device", name)
	}
	r.forget()
	if verb == "revert" {
		delete(r.links, name)
		return nil
	}
	if r.links == nil {
		r.links = map[string]*resolvedLink{}
	}
	l := r.links[name]
	if l == nil {
		l = &resolvedLink{identity: identity, settings: map[string]string{}}
		r.links[name] = l
	}
	switch verb {
	case "dns":
		l.servers = slices.Clone(values)
	case "domain":
		// The old ones go when the new ones are there, and none is left of what is too long.
		count := len(l.domains)
		for _, d := range values {
			if !slices.Contains(l.domains, d) {
				count++
			}
		}
		if l.domains = slices.Clone(values); count > maxDomains {
			l.domains = nil
			return errors.New("Failed to set domain configuration: Argument list too long")
		}
	case "default-route", "llmnr", "mdns", "dnssec", "dnsovertls":
		l.settings[verb] = values[0]
	default:
		return errors.New("Unknown command verb " + verb + ".")
	}
	return nil
}

// resolvConf is the host's own, as a survey finds it.
func (w *world) resolvConf() spec.File {
	f := spec.File{Path: spec.ResolvConfPath}
	path := w.system.At(spec.ResolvConfPath)
	info, err := os.Lstat(path)
	if err != nil {
		f.Missing = true
		return f
	}
	f.Content = w.system.Content(spec.ResolvConfPath)
	if target, err := os.Readlink(path); err == nil {
		f.Target = target
	} else {
		f.Mode = info.Mode().Perm()
	}
	return f
}
