package plan

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/netip"
	"path/filepath"
	"strings"
	"text/template"

	"mobula/templates"
)

// Where things are on a host.
const (
	// Helper is what an operator calls: a symbolic link to the program in force,
	// one of those in ProgramDir. Once the program itself was there.
	Helper = "/usr/local/sbin/mobula"
	// ProgramDir has a folder for each version of this program that the host may
	// need: the one in force and, while a change waits, the one before.
	ProgramDir = "/usr/local/lib/mobula"

	StateDir = "/var/lib/mobula"
	RunDir   = "/run/mobula"
	OVSDir   = RunDir + "/ovs"
	AgentDir = RunDir + "/agent"

	ResolvConfPath = "/etc/resolv.conf"
	UnitDir        = "/etc/systemd/system/"
)

// The units of a host. The boot unit is started by systemd only.
const (
	UnitBoot    = "mobula-network.service"
	UnitOVSDB   = "mobula-ovsdb.service"
	UnitVSwitch = "mobula-vswitchd.service"
	UnitAgent   = "mobula-agent.service"
	UnitRepair  = "mobula-repair.service"
)

// ProgramPath returns where the program with an ID lies; "" for no ID.
func ProgramPath(id string) string {
	if id == "" {
		return ""
	}
	return ProgramDir + "/" + id + "/mobula"
}

// ProgramID is the reverse of ProgramPath; "" for any other path.
func ProgramID(path string) string {
	if id := filepath.Base(filepath.Dir(path)); IsProgramID(id) && path == ProgramPath(id) {
		return id
	}
	return ""
}

// NewProgramID returns the ID of a program with this SHA-256.
func NewProgramID(sum [sha256.Size]byte) string { return hex.EncodeToString(sum[:8]) }

// IsProgramID reports whether s can be the ID of a program: 16 hexadecimal digits.
func IsProgramID(s string) bool {
	return len(s) == 16 && strings.Trim(s, "0123456789abcdef") == ""
}

// UnitsRollback begins the names of the transient units of the way back.
const UnitsRollback = "mobula-rollback-"

func (b builder) services() []Service {
	return []Service{{Unit: UnitOVSDB, BeforeSwitch: true}, {Unit: UnitVSwitch, BeforeSwitch: true}, {Unit: UnitAgent, Program: b.facts.Program}}
}

// Paths of the drop-ins that keep the host's network managers off the uplink. Of all files
// of systemd-networkd that match a link the first one counts, in the order of their names,
// and an operator's 00-all.network may match all: no letter, digit or hyphen comes before +.
// The version before had that file under another name.
const (
	IfupdownDropIn       = UnitDir + "networking.service.d/mobula.conf"
	networkdLinks        = "/etc/systemd/network/+mobula-links.network"
	networkdLinksBefore  = "/etc/systemd/network/00-mobula-links.network"
	networkdUplink       = "/etc/systemd/network/00-mobula-uplink.network"
	networkdConf         = "/etc/systemd/networkd.conf.d/mobula.conf"
	networkdWait         = UnitDir + "systemd-networkd-wait-online.service.d/mobula.conf"
	networkManagerLinks  = "/etc/NetworkManager/conf.d/zz-mobula-links.conf"
	networkManagerUplink = "/etc/NetworkManager/conf.d/00-mobula.conf"
	networkManagerWait   = UnitDir + "NetworkManager-wait-online.service.d/mobula.conf"
	netplanCleanup       = UnitDir + "netplan-ovs-cleanup.service.d/mobula.conf"
)

// OwnedFiles returns every path that Mobula may ever create on a host with the
// given uplink, "" where that stays with the host. Whatever stands there and is not in a plan is removed.
// /etc/resolv.conf is not among them: it always has a content. Nor is Helper: who
// takes Mobula off a host may still need the program, and removes it.
func OwnedFiles(uplink string) []string {
	files := unitFiles()
	if uplink != "" {
		files = append(files, hotplugDropIn(uplink))
	}
	return append(files,
		IfupdownDropIn, networkdLinks, networkdLinksBefore, networkdUplink, networkdConf, networkdWait,
		networkManagerLinks, networkManagerUplink, networkManagerWait, netplanCleanup)
}

// unitFiles are those that bring Mobula up when the host boots. The first two
// are the first to come and the last to go: with them every boot drops what a
// power cut interrupted.
func unitFiles() []string {
	return []string{
		UnitDir + UnitBoot, UnitDir + "multi-user.target.wants/" + UnitBoot,
		UnitDir + UnitOVSDB, UnitDir + UnitVSwitch, UnitDir + UnitAgent, UnitDir + UnitRepair,
		UnitDir + "network-online.target.wants/" + UnitBoot,
		UnitDir + "multi-user.target.wants/" + UnitAgent,
	}
}

func hotplugDropIn(uplink string) string {
	return UnitDir + "ifup@" + escape(uplink) + ".service.d/mobula.conf"
}

// escape returns the name of a link as it is in names of units (systemd.unit(5), "String
// escaping for inclusion in unit names").
func escape(link string) string {
	var s strings.Builder
	for i, c := range []byte(link) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == ':', c == '_', c == '.' && i > 0:
			s.WriteByte(c)
		case c == '/':
			s.WriteByte('-')
		default:
			fmt.Fprintf(&s, `\x%02x`, c)
		}
	}
	return s.String()
}

func (b builder) files() []File {
	files := []File{
		b.render(UnitDir+UnitBoot, UnitBoot),
		{Path: UnitDir + "multi-user.target.wants/" + UnitBoot, Target: UnitDir + UnitBoot},
		b.render(UnitDir+UnitOVSDB, UnitOVSDB),
		b.render(UnitDir+UnitVSwitch, UnitVSwitch),
		b.render(UnitDir+UnitAgent, UnitAgent),
		b.render(UnitDir+UnitRepair, UnitRepair),
		{Path: UnitDir + "multi-user.target.wants/" + UnitAgent, Target: UnitDir + UnitAgent},
	}
	if b.facts.Program != "" {
		files = append(files, File{Path: Helper, Target: b.facts.Program, Yields: true})
	}
	for _, m := range b.facts.Managers {
		files = append(files, b.linkFiles(m)...)
	}
	return files
}

// linkFiles keeps a network manager from configuring Mobula's links. It is told of
// them before they are made: taking one that it has had takes it down.
func (b builder) linkFiles(m Manager) []File {
	switch m {
	case Networkd:
		return []File{
			b.render(networkdLinks, "networkd-links.network"),
			b.render(networkdConf, "networkd.conf"),
			b.render(netplanCleanup, "netplan-ovs-cleanup.conf"),
		}
	case Dhcpcd:
		return []File{dhcpcdBlock(b.render(DhcpcdConf, "dhcpcd.conf").Content)}
	case NetworkManager:
		return []File{
			b.render(networkManagerLinks, "networkmanager-links.conf"),
			b.render(netplanCleanup, "netplan-ovs-cleanup.conf"),
		}
	}
	return nil
}

// resolvConfMark is how a resolv.conf of Mobula's begins.
const resolvConfMark = "# Written by Mobula. "

// ownResolvConf is the host's own, to be put back where Mobula's is.
func ownResolvConf(facts Facts) File {
	f := facts.ResolvConf
	f.Late, f.Over = true, resolvConfMark
	return f
}

// IsOurs reports a resolv.conf that Mobula wrote.
func (f File) IsOurs() bool { return strings.HasPrefix(f.Content, resolvConfMark) }

// resolvConf names the gateway as resolver, by that address. Search domains and options
// stay as the operator had them.
func (b builder) resolvConf(server netip.Addr) File {
	var s strings.Builder
	fmt.Fprintf(&s, resolvConfMark+"The host's resolvers from before answer through the gateway.\nnameserver %s\n", server)
	for _, line := range strings.Split(b.facts.ResolvConf.Content, "\n") {
		if strings.HasPrefix(line, "search ") || strings.HasPrefix(line, "domain ") || strings.HasPrefix(line, "options ") {
			s.WriteString(line + "\n")
		}
	}
	return File{Path: ResolvConfPath, Mode: 0o644, Content: s.String(), Late: true}
}

// fileTemplates are the embedded templates, by the last part of their paths.
var fileTemplates = template.Must(template.ParseFS(templates.FS, "systemd/*", "managers/*"))

// render fills one of the embedded templates. They are part of the program, so
// that a failure is a programming error, found by the first test.
func (b builder) render(path, name string) File {
	program := b.facts.Program
	if program == "" {
		program = Helper
	}
	var s strings.Builder
	err := fileTemplates.ExecuteTemplate(&s, name, map[string]any{
		"Shared": b.self.SharedUplink, "OwnResolver": b.self.SharedUplink && !b.self.GatewayResolver, "Helper": program, "Namespace": Namespace, "State": StateDir + "/confirmed.json", "WayBack": "/run/systemd/transient/" + UnitsRollback + "*", "OVSDir": OVSDir,
		"Uplink": b.facts.Uplink, "UplinkVeth": UplinkVeth(b.facts.Uplink), "AccessLink": AccessLink,
	})
	if err != nil {
		panic(err)
	}
	return File{Path: path, Mode: fs.FileMode(0o644), Content: s.String()}
}
