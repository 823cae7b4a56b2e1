package system

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"mobula/helper/internal/plan"
)

// Survey finds the part of the facts that is in files: resolvers, sshd's ports
// and the network managers.
func Survey(ctx context.Context, facts *plan.Facts) error {
	file, err := resolvConf(plan.ResolvConfPath)
	if err != nil {
		return err
	}
	facts.ResolvConf = file
	facts.Resolvers = Resolvers(file.Content)
	// systemd-resolved's stub stands in for the real ones.
	if len(facts.Resolvers) == 0 {
		if real, err := os.ReadFile("/run/systemd/resolve/resolv.conf"); err == nil {
			facts.Resolvers = Resolvers(string(real))
		}
	}
	var addresses []string
	facts.SSHPorts, addresses = sshd(ctx)
	for _, m := range []struct {
		manager plan.Manager
		sign    string
	}{
		{plan.Ifupdown, "/etc/network/interfaces"},
		{plan.Networkd, "/lib/systemd/system/systemd-networkd.service"},
		{plan.NetworkManager, "/etc/NetworkManager"},
	} {
		if _, err := os.Stat(m.sign); err == nil {
			facts.Managers = append(facts.Managers, m.manager)
		}
	}
	return reachable(addresses)
}

// resolvConf returns the file as it is. A symbolic link has its content, too; one
// that leads nowhere has none.
func resolvConf(path string) (plan.File, error) {
	f := plan.File{Path: path}
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
// the loopback.
func Resolvers(resolvConf string) []netip.Addr {
	var all []netip.Addr
	for _, line := range strings.Split(resolvConf, "\n") {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(fields[1]); err == nil && a.Is4() && !a.IsLoopback() {
			all = append(all, a)
		}
	}
	return all
}

// SSHPorts returns the TCP ports that sshd listens on; 22 if it does not say.
func SSHPorts(ctx context.Context) []uint16 {
	ports, _ := sshd(ctx)
	return ports
}

// sshd asks sshd(8) itself for its ports and the addresses it listens on.
func sshd(ctx context.Context) (ports []uint16, addresses []string) {
	out, err := exec.CommandContext(ctx, "/usr/sbin/sshd", "-T").Output()
	if err == nil {
		ports, addresses = parseSSHD(string(out))
	}
	if len(ports) == 0 {
		ports = []uint16{22}
	}
	return ports, addresses
}

// parseSSHD reads what sshd -T prints.
func parseSSHD(config string) (ports []uint16, addresses []string) {
	for _, line := range strings.Split(config, "\n") {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch key {
		case "port":
			if port, err := strconv.ParseUint(value, 10, 16); err == nil && port > 0 {
				ports = append(ports, uint16(port))
			}
		case "listenaddress":
			addresses = append(addresses, value)
		}
	}
	return ports, addresses
}

// reachable tells if sshd would not answer on the host's intrawire address, to
// which SSH is forwarded.
func reachable(addresses []string) error {
	for _, a := range addresses {
		if strings.HasPrefix(a, "0.0.0.0:") || strings.HasPrefix(a, "[::]:") {
			return nil
		}
	}
	if len(addresses) == 0 {
		return nil // it does not say
	}
	return fmt.Errorf("sshd: found it listening on %s only, wanted all addresses (ListenAddress 0.0.0.0): SSH comes in by another address", strings.Join(addresses, ", "))
}
