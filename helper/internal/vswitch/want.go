package vswitch

import (
	"fmt"
	"sort"
	"strconv"
	"strings"

	"mobula/helper/internal/spec"
)

// wantedBridge is a bridge as it should be.
type wantedBridge struct {
	name     string
	mtuBytes int
	settings map[string]string
}

func (s *Switch) wantedBridge(sw spec.Switch) wantedBridge {
	return wantedBridge{
		name:     sw.Bridge,
		mtuBytes: sw.MTU,
		settings: map[string]string{
			// Without flows nothing passes; "standalone" would make a plain
			// learning switch of it, and loops.
			"fail_mode":             "secure",
			"datapath_type":         s.options.DatapathType,
			"protocols":             openFlow,
			"mcast_snooping_enable": "false",
			"stp_enable":            "false",
			"rstp_enable":           "false",
			"other_config:hwaddr":   sw.MAC.String(),
		},
	}
}

func (b wantedBridge) object() string { return "bridge " + b.name }

func (b wantedBridge) describe() string {
	return fmt.Sprintf("MAC %s, MTU %d", b.settings["other_config:hwaddr"], b.mtuBytes)
}

// difference describes what differs; "" is nothing.
func (b wantedBridge) difference(have bridge) string {
	var changes []string
	for _, column := range sortedKeys(b.settings) {
		changes = appendChange(changes, column, have.settings[column], b.settings[column])
	}
	changes = appendChange(changes, "MTU", strconv.Itoa(have.ports[b.name].MTU), strconv.Itoa(b.mtuBytes))
	if problem := have.ports[b.name].Error; problem != "" {
		changes = append(changes, problem)
	}
	return strings.Join(changes, ", ")
}

// arguments are the commands of ovs-vsctl that make it so, in one transaction.
func (b wantedBridge) arguments() []string {
	args := []string{"--may-exist", "add-br", b.name, "--", "set", "Bridge", b.name}
	for _, column := range sortedKeys(b.settings) {
		args = append(args, column+"="+quoted(b.settings[column]))
	}
	return append(args, "--", "set", "Interface", b.name, fmt.Sprintf("mtu_request=%d", b.mtuBytes))
}

// wantedPort is a port as it should be.
type wantedPort struct {
	bridge, name string
	number       int
	kind         string // "" is a link that exists already
	options      map[string]string
}

// wantedPorts returns the ports besides the bridge's own, the tunnel last, so
// that local ports are there when frames arrive.
func wantedPorts(sw spec.Switch) []wantedPort {
	var all []wantedPort
	for i, name := range sw.LocalPorts {
		all = append(all, wantedPort{bridge: sw.Bridge, name: name, number: firstLocalPort + i})
	}
	return append(all, wantedPort{
		bridge: sw.Bridge, name: sw.TunnelPort, number: tunnelPort, kind: "geneve",
		options: map[string]string{
			"remote_ip": "flow", // from tun_dst, to tun_src (ovs-fields(7))
			"key":       strconv.FormatUint(uint64(sw.VNI), 10),
			"dst_port":  strconv.Itoa(int(sw.UDPPort)),
			// WireGuard has authenticated every byte; over IPv4 the outer UDP
			// checksum may be zero (RFC 8926 section 3.3).
			"csum": "false",
			// The MTUs leave room for the largest frame with its tag, so nothing
			// needs fragments: what would is a mistake that shall not hide at
			// half the speed (RFC 8926 section 4.1.1).
			"df_default": "true",
		},
	})
}

func (p wantedPort) object() string { return "port " + p.name }

func (p wantedPort) describe() string {
	if p.kind == "" {
		return ""
	}
	return fmt.Sprintf("%s, UDP %s, VNI %s", p.kind, p.options["dst_port"], p.options["key"])
}

// difference describes what differs; "" is nothing.
func (p wantedPort) difference(have bridgePort) string {
	kind := have.Type
	if kind == "system" {
		kind = "" // the same (ovs-vswitchd.conf.db(5))
	}
	changes := appendChange(nil, "type", kind, p.kind)
	columns := sortedKeys(p.options)
	for key := range have.Options {
		if _, wanted := p.options[key]; !wanted {
			columns = append(columns, key)
		}
	}
	sort.Strings(columns)
	for _, key := range columns {
		changes = appendChange(changes, key, have.Options[key], p.options[key])
	}
	changes = appendChange(changes, "requested port", strconv.Itoa(have.Requested), strconv.Itoa(p.number))
	switch {
	case have.Error != "":
		changes = append(changes, have.Error)
	case have.OFPort != 0: // 0: ovs-vswitchd is not at it yet
		changes = appendChange(changes, "port", strconv.Itoa(have.OFPort), strconv.Itoa(p.number))
	}
	return strings.Join(changes, ", ")
}

// arguments are the commands of ovs-vsctl that make it so, in one transaction:
// a tunnel port without its options would be a device of nobody's. The ports
// that hold its number go in the same transaction.
func (p wantedPort) arguments(squatters []string) []string {
	var args []string
	for _, name := range squatters {
		args = append(args, "--if-exists", "del-port", p.bridge, name, "--")
	}
	options := make([]string, 0, len(p.options))
	for _, key := range sortedKeys(p.options) {
		options = append(options, key+"="+quoted(p.options[key]))
	}
	return append(args, "--may-exist", "add-port", p.bridge, p.name,
		"--", "set", "Interface", p.name, "type="+quoted(p.kind),
		"options={"+strings.Join(options, ",")+"}", fmt.Sprintf("ofport_request=%d", p.number))
}

// quoted returns a value as ovs-vsctl(8) wants it: strings that look like
// something else in quotes, booleans without.
func quoted(value string) string {
	if value == "" || strings.Contains(value, ":") {
		return strconv.Quote(value)
	}
	return value
}

func appendChange(changes []string, what, found, want string) []string {
	if found == want {
		return changes
	}
	return append(changes, fmt.Sprintf("%s %s → %s", what, orNone(found), orNone(want)))
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}
