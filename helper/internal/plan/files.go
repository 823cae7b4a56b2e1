package plan

import (
	"fmt"
	"io/fs"
	"net/netip"
	"strings"
	"text/template"

	"mobula/helper/internal/spec"
	"mobula/templates"
)

func (b builder) services() []spec.Service {
	return []spec.Service{{Unit: spec.UnitOVSDB, BeforeSwitch: true}, {Unit: spec.UnitVSwitch, BeforeSwitch: true}, {Unit: spec.UnitAgent, Program: b.facts.Program}}
}

// keeping matches the files that keep the host's network managers off the uplink.
func keeping() []string {
	return []string{spec.IfupdownDropIn, spec.UnitDir + "ifup@*.service.d/mobula.conf", spec.NetworkdUplink, spec.NetworkManagerUplink}
}

func (b builder) files() []spec.File {
	files := []spec.File{
		b.render(spec.UnitDir+spec.UnitBoot, spec.UnitBoot),
		{Path: spec.UnitDir + "multi-user.target.wants/" + spec.UnitBoot, Target: spec.UnitDir + spec.UnitBoot},
		b.render(spec.UnitDir+spec.UnitOVSDB, spec.UnitOVSDB),
		b.render(spec.UnitDir+spec.UnitVSwitch, spec.UnitVSwitch),
		b.render(spec.UnitDir+spec.UnitAgent, spec.UnitAgent),
		b.render(spec.UnitDir+spec.UnitRepair, spec.UnitRepair),
		{Path: spec.UnitDir + "multi-user.target.wants/" + spec.UnitAgent, Target: spec.UnitDir + spec.UnitAgent},
	}
	if b.facts.Program != "" {
		files = append(files, spec.File{Path: spec.Helper, Target: b.facts.Program, Yields: true})
	}
	for _, m := range b.facts.Managers {
		files = append(files, b.linkFiles(m)...)
	}
	return files
}

// linkFiles keeps a network manager from configuring Mobula's links. It is told of
// them before they are made: taking one that it has had takes it down.
func (b builder) linkFiles(m spec.Manager) []spec.File {
	switch m {
	case spec.Networkd:
		return []spec.File{
			b.render(spec.NetworkdLinks, "networkd-links.network"),
			b.render(spec.NetworkdConf, "networkd.conf"),
			b.render(spec.NetplanCleanup, "netplan-ovs-cleanup.conf"),
		}
	case spec.Dhcpcd:
		return []spec.File{dhcpcdBlock(b.render(spec.DhcpcdConf, "dhcpcd.conf").Content)}
	case spec.NetworkManager:
		return []spec.File{
			b.render(spec.NetworkManagerLinks, "networkmanager-links.conf"),
			b.render(spec.NetplanCleanup, "netplan-ovs-cleanup.conf"),
		}
	}
	return nil
}

// ownResolvConf is the host's own, to be put back where Mobula's is.
func ownResolvConf(facts spec.Facts) spec.File {
	f := facts.ResolvConf
	f.Late, f.Over = true, spec.ResolvConfMark
	return f
}

// resolvConf names the gateway as resolver, by that address. Search domains and options
// stay as the operator had them.
func (b builder) resolvConf(server netip.Addr) spec.File {
	var s strings.Builder
	fmt.Fprintf(&s, spec.ResolvConfMark+"The host's resolvers from before answer through the gateway.\nnameserver %s\n", server)
	for _, line := range strings.Split(b.facts.ResolvConf.Content, "\n") {
		if strings.HasPrefix(line, "search ") || strings.HasPrefix(line, "domain ") || strings.HasPrefix(line, "options ") {
			s.WriteString(line + "\n")
		}
	}
	return spec.File{Path: spec.ResolvConfPath, Mode: 0o644, Content: s.String(), Late: true}
}

// fileTemplates are the embedded templates, by the last part of their paths.
var fileTemplates = template.Must(template.ParseFS(templates.FS, "systemd/*", "managers/*"))

// render fills one of the embedded templates. They are part of the program, so
// that a failure is a programming error, found by the first test.
func (b builder) render(path, name string) spec.File {
	program := b.facts.Program
	if program == "" {
		program = spec.Helper
	}
	var s strings.Builder
	err := fileTemplates.ExecuteTemplate(&s, name, map[string]any{
		"Shared": b.self.SharedUplink, "OwnResolver": b.self.SharedUplink && !b.self.GatewayResolver, "Helper": program, "Namespace": spec.Namespace, "State": spec.StateDir + "/confirmed.json", "WayBack": "/run/systemd/transient/" + spec.UnitsRollback + "*", "OVSDir": spec.OVSDir,
		"Uplink": b.facts.Uplink, "UplinkVeth": spec.UplinkVeth(b.facts.Uplink), "AccessLink": spec.AccessLink, "Keeping": keeping(), "SourcePortTable": spec.SourcePortTable,
	})
	if err != nil {
		panic(err)
	}
	return spec.File{Path: path, Mode: fs.FileMode(0o644), Content: s.String()}
}
