package system

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"mobula/helper/internal/network"
	"mobula/helper/internal/spec"
)

// Survey finds the part of the facts that is in files: resolvers, sshd's ports
// and the network managers; of a host with which the NIC stays no sshd's.
func Survey(ctx context.Context, ranges network.Ranges, facts *spec.Facts) error {
	file, err := resolvConf(spec.ResolvConfPath)
	if err != nil {
		return err
	}
	facts.ResolvConf, facts.Managers = file, managers()
	if facts.IsShared() {
		facts.Resolvers = ResolversElsewhere(ranges)
		return nil
	}
	facts.Resolvers = ResolversNow(ranges)
	return errors.Join(surveyIfupdown("", facts), surveySSH(ctx, output, "/proc", ranges, facts), SurveyHooks(ctx, facts))
}

// ResolverFiles are the files with the host's resolvers: systemd-resolved's stub in the
// first stands for those of the second, and another one, or the gateway, for those of
// NetworkManager.
var ResolverFiles = []string{spec.ResolvConfPath, "/run/systemd/resolve/resolv.conf", "/run/NetworkManager/no-stub-resolv.conf", "/run/NetworkManager/resolv.conf"}

// ResolvConf returns /etc/resolv.conf as it is now, and the resolvers that the gateway can
// of a network with these ranges can ask of it.
func ResolvConf(ranges network.Ranges) (spec.File, []netip.Addr, error) {
	f, err := resolvConf(spec.ResolvConfPath)
	return f, elsewhere(Resolvers(ranges, f.Content)), err
}

// ResolversNow returns the IPv4 resolvers that the host has now, as Resolvers does.
func ResolversNow(ranges network.Ranges) []netip.Addr {
	for _, path := range ResolverFiles {
		if data, err := os.ReadFile(path); err == nil {
			if all := Resolvers(ranges, string(data)); len(all) > 0 {
				return all
			}
		}
	}
	return nil
}

// ResolversElsewhere is ResolversNow without the host's own addresses: where the NIC stays
// with the host its gateway does not reach services there.
func ResolversElsewhere(ranges network.Ranges) []netip.Addr { return elsewhere(ResolversNow(ranges)) }

func elsewhere(all []netip.Addr) (some []netip.Addr) {
	own := map[netip.Addr]bool{}
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return all
	}
	for _, a := range addresses {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			own[p.Addr()] = true
		}
	}
	for _, a := range all {
		if !own[a] {
			some = append(some, a)
		}
	}
	return some
}

// managers are those that are installed.
func managers() (all []spec.Manager) {
	for _, m := range []struct {
		manager spec.Manager
		sign    string
	}{
		{spec.Ifupdown, "/etc/network/interfaces"},
		{spec.Networkd, "/lib/systemd/system/systemd-networkd.service"},
		{spec.NetworkManager, "/etc/NetworkManager"},
		{spec.Dhcpcd, "/lib/systemd/system/dhcpcd.service"},
	} {
		if _, err := os.Stat(m.sign); err == nil {
			all = append(all, m.manager)
		}
	}
	return all
}

// ifupdown2 is where the program of that name is: what else is below its directory may
// be left after its package is removed.
const ifupdown2 = "/usr/share/ifupdown2/__main__.py"

// surveyIfupdown refuses ifupdown2, which reads interfaces(5) in ifupdown's place and
// whose ifup does not know --read-environment.
// With Mobula's drop-in of networking.service no NIC at all would come up at boot.
func surveyIfupdown(root string, facts *spec.Facts) error {
	if _, err := os.Stat(filepath.Join(root, ifupdown2)); err != nil || !slices.Contains(facts.Managers, spec.Ifupdown) {
		return nil
	}
	return errors.New("network manager: found ifupdown2, wanted ifupdown, systemd-networkd, netplan or NetworkManager: " +
		"ifupdown2 could not bring up the other NICs at boot while Mobula is on the host; install ifupdown in its place, which reads the same /etc/network/interfaces, and boot once with it")
}

// resolvConf returns the file as it is. A symbolic link has its content, too; one
// that leads nowhere has none.
func resolvConf(path string) (spec.File, error) {
	f := spec.File{Path: path}
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		f.Missing = true
		return f, nil
	}
	if err != nil {
		return f, err
	}
	data, err := os.ReadFile(path)
	f.Content = string(data)
	if info.Mode()&fs.ModeSymlink != 0 {
		f.Target, err = os.Readlink(path)
	} else {
		f.Mode = info.Mode().Perm()
	}
	return f, err
}

// Resolvers returns the IPv4 name servers of a resolv.conf(5) that are not on
// the loopback, and not inside: the gateway would ask itself.
func Resolvers(inside network.Ranges, resolvConf string) []netip.Addr {
	var all []netip.Addr
	for _, line := range strings.Split(resolvConf, "\n") {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(fields[1]); err == nil && a.Is4() && !a.IsLoopback() && !inside.Contains(a) {
			all = append(all, a)
		}
	}
	return all
}
