package system

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"mobula/helper/internal/network"
	"mobula/helper/internal/spec"
)

// SSHPorts returns the TCP ports on which SSH answers at the host's intrawire
// address, to which the gateway forwards it. An error says that nobody knows all of
// them: it is never read as a port. Ports that come with it are known all the same.
func SSHPorts(ctx context.Context, ranges network.Ranges) ([]uint16, error) {
	listening, err := sshListeners(ctx, output, "/proc")
	return forwarded(ranges, listening), err
}

// sshListeners returns where SSH is listened for: where the configuration says, where
// a running sshd was told to when it was started (SSHD_OPTS of Debian's
// /etc/default/ssh), and where it does. With an error it is what is known in spite of
// it.
func sshListeners(ctx context.Context, run Commands, proc string) (all []netip.AddrPort, err error) {
	add := func(listening []netip.AddrPort, problem error) {
		for _, a := range listening {
			if !slices.Contains(all, a) {
				all = append(all, a)
			}
		}
		err = errors.Join(err, problem)
	}
	add(configuredListeners(ctx, run))
	for _, dir := range runningSSHDs(proc) {
		if options := startedWith(dir); len(options) > 0 {
			add(askSSHD(ctx, run, options...))
		}
		add(socketsOf(proc, dir))
	}
	return all, err
}

// connection is one that sshd is asked about: with "Match LocalPort" and the like in
// its configuration it refuses to say anything without. Where it listens is the same
// for all of them.
const connection = "user=root,host=localhost,addr=127.0.0.1,laddr=127.0.0.1,lport=22"

// configuredListeners returns where the configuration has SSH listened for: by
// systemd, if it starts sshd when somebody connects (systemd.socket(5)), else by sshd
// itself.
func configuredListeners(ctx context.Context, run Commands) ([]netip.AddrPort, error) {
	out, err := run(ctx, "systemctl", "show", "--property=ActiveState,Listen,BindIPv6Only", "ssh.socket", "sshd.socket")
	if err != nil {
		return nil, err
	}
	if listening := parseSockets(out); len(listening) > 0 {
		return listening, nil
	}
	return askSSHD(ctx, run)
}

// askSSHD returns where sshd would listen if it were started with these options.
func askSSHD(ctx context.Context, run Commands, options ...string) ([]netip.AddrPort, error) {
	out, err := run(ctx, "/usr/sbin/sshd", append([]string{"-T", "-C", connection}, options...)...)
	if err != nil {
		return nil, fmt.Errorf("asking sshd for its ports: %w", err)
	}
	listening := parseSSHD(out)
	if len(listening) == 0 {
		return nil, fmt.Errorf("asking sshd for its ports: found no listenaddress in what sshd -T says")
	}
	return listening, nil
}

// parseSockets reads what systemctl shows of socket units, and leaves out those that
// are not active. A socket of all IPv6 addresses takes IPv4, too, unless the unit
// says otherwise (BindIPv6Only=, net.ipv6.bindv6only).
func parseSockets(shown string) []netip.AddrPort {
	var all []netip.AddrPort
	for _, unit := range strings.Split(shown, "\n\n") {
		var some []netip.AddrPort
		active, both := false, true
		for _, line := range strings.Split(unit, "\n") {
			switch key, value, _ := strings.Cut(strings.TrimSpace(line), "="); key {
			case "ActiveState":
				active = value == "active"
			case "BindIPv6Only":
				both = value != "ipv6-only"
			case "Listen":
				address, isStream := strings.CutSuffix(value, " (Stream)")
				if a, err := netip.ParseAddrPort(address); err == nil && isStream {
					some = append(some, a)
				}
			}
		}
		for _, a := range some {
			if !active {
				continue
			}
			all = append(all, a)
			if both && a.Addr() == netip.IPv6Unspecified() {
				all = append(all, netip.AddrPortFrom(netip.IPv4Unspecified(), a.Port()))
			}
		}
	}
	return all
}

// parseSSHD reads what sshd -T prints. Its sockets of IPv6 take nothing else.
func parseSSHD(config string) []netip.AddrPort {
	var all []netip.AddrPort
	for _, line := range strings.Split(config, "\n") {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0] != "listenaddress" {
			continue
		}
		if a, err := netip.ParseAddrPort(fields[1]); err == nil && a.Port() > 0 {
			all = append(all, a)
		}
	}
	return all
}

// forwarded returns the ports that answer at the intrawire address.
func forwarded(ranges network.Ranges, listening []netip.AddrPort) []uint16 {
	ports := []uint16{}
	seen := map[uint16]bool{}
	for _, a := range listening {
		if reached := a.Addr() == netip.IPv4Unspecified() || ranges.Intrawire().Contains(a.Addr()); reached && !seen[a.Port()] {
			seen[a.Port()] = true
			ports = append(ports, a.Port())
		}
	}
	return ports
}

// surveySSH notes the ports, and tells if SSH would no longer be reached: it listens
// at addresses of the uplink only, which move to the gateway. That it listens at
// those of other NICs only is no reason to refuse: they stay.
func surveySSH(ctx context.Context, run Commands, proc string, ranges network.Ranges, facts *spec.Facts) error {
	listening, err := sshListeners(ctx, run, proc)
	if facts.SSHPorts = forwarded(ranges, listening); len(facts.SSHPorts) > 0 {
		return nil // what runs is known, also if sshd does not say what shall
	}
	if err != nil {
		return err
	}
	ofUplink := map[netip.Addr]bool{netip.IPv6Unspecified(): true} // IPv6 does not answer there any more
	for _, all := range [][]netip.Prefix{facts.Addresses, facts.IPv6Addresses} {
		for _, p := range all {
			ofUplink[p.Addr()] = true
		}
	}
	var lost []string
	for _, a := range listening {
		if ofUplink[a.Addr().WithZone("")] {
			lost = append(lost, a.Addr().String()+" port "+strconv.Itoa(int(a.Port())))
		}
	}
	if len(lost) == 0 {
		return nil
	}
	return fmt.Errorf("sshd: found it listening on %s only, wanted all IPv4 addresses (ListenAddress 0.0.0.0): SSH comes in by another address once the NIC has moved", strings.Join(lost, ", "))
}
