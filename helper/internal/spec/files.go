package spec

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"strings"
)

// Dhcpcd is dhcpcd(8) as the manager of all interfaces, as on small boards.
const Dhcpcd Manager = "dhcpcd"

// DhcpcdConf is dhcpcd.conf(5).
const DhcpcdConf = "/etc/dhcpcd.conf"

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

// Paths of the drop-ins that keep the host's network managers off the uplink. Of all files
// of systemd-networkd that match a link the first one counts, in the order of their names,
// and an operator's 00-all.network may match all: no letter, digit or hyphen comes before +.
// The version before had that file under another name.
const (
	IfupdownDropIn       = UnitDir + "networking.service.d/mobula.conf"
	NetworkdLinks        = "/etc/systemd/network/+mobula-links.network"
	NetworkdLinksBefore  = "/etc/systemd/network/00-mobula-links.network"
	NetworkdUplink       = "/etc/systemd/network/00-mobula-uplink.network"
	NetworkdConf         = "/etc/systemd/networkd.conf.d/mobula.conf"
	IfupdownWait         = UnitDir + "ifupdown-wait-online.service.d/mobula.conf"
	NetworkdWait         = UnitDir + "systemd-networkd-wait-online.service.d/mobula.conf"
	NetworkManagerLinks  = "/etc/NetworkManager/conf.d/zz-mobula-links.conf"
	NetworkManagerUplink = "/etc/NetworkManager/conf.d/00-mobula.conf"
	NetworkManagerWait   = UnitDir + "NetworkManager-wait-online.service.d/mobula.conf"
	NetplanCleanup       = UnitDir + "netplan-ovs-cleanup.service.d/mobula.conf"
)

// OwnedFiles returns every path that Mobula may ever create on a host with the
// given uplink, "" where that stays with the host. Whatever stands there and is not in a plan is removed.
// /etc/resolv.conf is not among them: it always has a content. Nor is Helper: who
// takes Mobula off a host may still need the program, and removes it.
func OwnedFiles(uplink string) []string {
	files := UnitFiles()
	if uplink != "" {
		files = append(files, HotplugDropIn(uplink), NetworkdWaitFor(uplink))
	}
	return append(files,
		IfupdownDropIn, IfupdownWait, NetworkdLinks, NetworkdLinksBefore, NetworkdUplink, NetworkdConf, NetworkdWait,
		NetworkManagerLinks, NetworkManagerUplink, NetworkManagerWait, NetplanCleanup)
}

// UnitFiles are those that bring Mobula up when the host boots. The first two
// are the first to come and the last to go: with them every boot drops what a
// power cut interrupted.
func UnitFiles() []string {
	return []string{
		UnitDir + UnitBoot, UnitDir + "multi-user.target.wants/" + UnitBoot,
		UnitDir + UnitOVSDB, UnitDir + UnitVSwitch, UnitDir + UnitAgent, UnitDir + UnitRepair,
		UnitDir + "network-online.target.wants/" + UnitBoot,
		UnitDir + "multi-user.target.wants/" + UnitAgent,
	}
}

// HotplugDropIn is of the service by which ifupdown brings the uplink up when it appears.
func HotplugDropIn(uplink string) string {
	return UnitDir + "ifup@" + escape(uplink) + ".service.d/mobula.conf"
}

// NetworkdWaitFor is of the service that waits for the uplink alone.
func NetworkdWaitFor(uplink string) string {
	return UnitDir + "systemd-networkd-wait-online@" + escape(uplink) + ".service.d/mobula.conf"
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

// ResolvConfMark is how a resolv.conf of Mobula's begins.
const ResolvConfMark = "# Written by Mobula. "

// IsOurs reports a resolv.conf that Mobula wrote.
func (f File) IsOurs() bool { return strings.HasPrefix(f.Content, ResolvConfMark) }
