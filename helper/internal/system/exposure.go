package system

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"golang.org/x/sys/unix"

	"mobula/helper/internal/network"
	"mobula/helper/internal/spec"
)

// Outside is what of a host shall be reachable from outside once its NIC has moved.
type Outside struct {
	WireGuardPort uint16
	// Published are the ports that the operator lists, beside those of SSH.
	Published []network.Port
	// UpstreamDNS are the resolvers that the operator names; none: the host's own.
	UpstreamDNS []netip.Addr
	// ClientPorts is the lowest port that the kernel chooses for clients.
	ClientPorts uint16
}

// dhcpClient are the ports of DHCP clients, whom nobody outside has to reach.
var dhcpClient = map[uint16]bool{68: true, 546: true}

// Exposure tells what of a host will no longer be reachable, or cannot be, when the
// NIC has moved: nothing of it can work on (problems), or the operator should know
// (warnings). wireguard are the names of WireGuard interfaces on our port.
func (o Outside) Exposure(facts *spec.Facts, sockets []Socket, wireguard []string) (problem error, warnings []string) {
	onNIC := map[netip.Addr]bool{}
	for _, p := range append(append([]netip.Prefix{}, facts.Addresses...), facts.IPv6Addresses...) {
		onNIC[p.Addr()] = true
	}
	open := map[network.Port]bool{}
	for _, p := range o.Published {
		open[p] = true
	}
	for _, p := range facts.SSHPorts {
		open[network.Port{Protocol: "tcp", Number: p}] = true
	}
	bound, hidden := map[string]bool{}, map[network.Port]string{}
	for _, s := range sockets {
		port := network.Port{Protocol: s.Protocol, Number: s.Port}
		switch outside := onNIC[s.Address]; {
		case !outside && !s.Address.IsUnspecified():
		case s.Protocol == "udp" && s.Port == o.WireGuardPort:
			problem = fmt.Errorf("wireguard_port: found UDP port %d in use by %s, wanted it free: what comes in there goes to Mobula's WireGuard; "+
				"set wireguard_port to another one for this host, or stop what listens there", s.Port, s.holder(wireguard))
		case outside:
			bound[fmt.Sprintf("%s %s (%s)", s.Protocol, netip.AddrPortFrom(s.Address, s.Port), s.holder(nil))] = true
		case open[port] || s.Protocol == "udp" && (dhcpClient[s.Port] || s.Port >= o.ClientPorts && s.Program != ""):
		default:
			hidden[port] = s.holder(nil)
		}
	}
	if len(bound) > 0 {
		warnings = append(warnings, fmt.Sprintf("no longer reachable at the NIC's own address, which moves to the gateway: %s; "+
			"have them listen on all addresses, and list in publish what shall be reachable from outside", strings.Join(sorted(bound), ", ")))
	}
	if len(hidden) > 0 {
		warnings = append(warnings, fmt.Sprintf("no longer reachable from outside, because not in publish: %s", strings.Join(portNames(hidden), ", ")))
	}
	return problem, append(warnings, o.NoResolvers(facts)...)
}

// NoResolvers warns where names that are not private cannot be looked up.
func (o Outside) NoResolvers(facts *spec.Facts) (warnings []string) {
	if len(o.UpstreamDNS) > 0 || len(facts.Resolvers) > 0 {
		return nil
	}
	return []string{fmt.Sprintf("resolvers: found %s in %s, wanted an IPv4 address that the gateway reaches: "+
		"names that are not private will not be answered; set upstream_dns", nameservers(facts.ResolvConf.Content), spec.ResolvConfPath)}
}

// PortTaken refuses a host on which something else has the port of WireGuard, whose
// socket will be where the NIC is. wireguard are the names of WireGuard interfaces on
// it.
func (o Outside) PortTaken(sockets []Socket, wireguard []string) error {
	for _, s := range sockets {
		if s.Protocol == "udp" && s.Port == o.WireGuardPort {
			return fmt.Errorf("wireguard_port: found UDP port %d in use by %s, wanted it free: set wireguard_port to another one for this host, or stop what listens there",
				s.Port, s.holder(wireguard))
		}
	}
	return nil
}

// holder is who has a socket, for the operator.
func (s Socket) holder(wireguard []string) string {
	switch {
	case len(wireguard) > 0 && s.Program == "":
		return "the WireGuard interface " + strings.Join(wireguard, ", ")
	case s.Program == "": // a tunnel's socket has an inode as any other, but no process
		return "a tunnel of the kernel, or a process that is not known"
	}
	return s.Program
}

func sorted(set map[string]bool) []string {
	var all []string
	for s := range set {
		all = append(all, s)
	}
	sort.Strings(all)
	return all
}

func portNames(ports map[network.Port]string) []string {
	var all []network.Port
	for p := range ports {
		all = append(all, p)
	}
	sort.Slice(all, func(i, j int) bool {
		return all[i].Protocol < all[j].Protocol || all[i].Protocol == all[j].Protocol && all[i].Number < all[j].Number
	})
	names := make([]string, len(all))
	for i, p := range all {
		names[i] = fmt.Sprintf("%s/%d (%s)", p.Protocol, p.Number, ports[p])
	}
	return names
}

// nameservers are those that a resolv.conf names, as they stand there.
func nameservers(resolvConf string) string {
	var all []string
	for _, line := range strings.Split(resolvConf, "\n") {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "nameserver" {
			all = append(all, f[1])
		}
	}
	if len(all) == 0 {
		return "none"
	}
	return "only " + strings.Join(all, ", ")
}

// Changeable tells which of the files that Mobula will write cannot be written, or
// their directories: immutable (chattr(1)) or on a file system that is read-only.
func Changeable(paths []string) error {
	var problems []error
	seen := map[string]bool{}
	for _, path := range paths {
		// A file is replaced, which its directory must allow, too; a symbolic link has
		// no attributes of its own. Directories that are missing are made.
		for at := path; at != "/" && !seen[at]; at = filepath.Dir(at) {
			seen[at] = true
			info, err := os.Lstat(at)
			if err != nil {
				continue
			}
			if info.Mode().IsRegular() || info.IsDir() {
				if why := unchangeable(at); why != nil {
					problems = append(problems, why)
				}
			}
			if info.IsDir() {
				break
			}
		}
	}
	return errors.Join(problems...)
}

// Attributes of a file, as FS_IOC_GETFLAGS gives them (include/uapi/linux/fs.h).
const (
	immutable  = 0x10
	appendOnly = 0x20
)

func unchangeable(path string) error {
	// Also for root the kernel refuses here what it refuses later (inode_permission()).
	err := unix.Access(path, unix.W_OK)
	if errors.Is(err, unix.EROFS) {
		return fmt.Errorf("%s: found it on a file system that is read-only, wanted one that can be written to", path)
	}
	var flags uint32
	if f, openErr := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0); openErr == nil {
		flags, _ = unix.IoctlGetUint32(int(f.Fd()), unix.FS_IOC_GETFLAGS) // ENOTTY: the file system has none
		f.Close()
	}
	for _, attribute := range []struct {
		flag         uint32
		name, letter string
	}{{immutable, "immutable", "i"}, {appendOnly, "append-only", "a"}} {
		if flags&attribute.flag != 0 {
			return fmt.Errorf("%s: found it %s (chattr +%s), wanted one that can be replaced (chattr -%s %s)", path, attribute.name, attribute.letter, attribute.letter, path)
		}
	}
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("%s: found it immutable, wanted one that can be replaced (chattr -i %s)", path, path)
	}
	return nil
}
