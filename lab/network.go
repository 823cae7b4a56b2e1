package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
)

// Port is a place where something is plugged into the lab's bridge; faults lie between two of them.
type Port interface{ port() string }

type namedPort string

func (p namedPort) port() string { return string(p) }

// Ports besides the hosts'. Everything outside is behind RouterPort.
const (
	DeployerPort namedPort = "p-deployer"
	RouterPort   namedPort = "p-router"
)

const bridge = "lab"

// Namespace holds the bridge, the machines' network devices and the deployer.
func (l *Lab) Namespace() string { return l.Prefix + "-lab" }

// OutsideNamespace is a machine beyond the router.
func (l *Lab) OutsideNamespace() string { return l.Prefix + "-outside" }

func (l *Lab) routerNamespace() string { return l.Prefix + "-router" }

// createNetwork makes the namespaces. None has a way to the machine's own network: the only
// links are veth pairs between them.
func (l *Lab) createNetwork(ctx context.Context) error {
	lab, router, outside := l.Namespace(), l.routerNamespace(), l.OutsideNamespace()
	if err := ipBatch(ctx,
		"netns add "+lab,
		"netns add "+router,
		"netns add "+outside,
		"-n "+lab+" link set lo up",
		"-n "+router+" link set lo up",
		"-n "+outside+" link set lo up",
		// A bridge without an address of its own takes that of a port, another one when ports come
		// and go, and would answer ARP for the deployer with it.
		"-n "+lab+" link add "+bridge+" address 02:6c:61:62:00:01 type bridge forward_delay 0 mcast_snooping 0",
		"netns exec "+lab+" sysctl -qw net.ipv4.conf.all.arp_ignore=1",
		"-n "+lab+" link set "+bridge+" up",

		"-n "+lab+" link add deployer type veth peer name "+DeployerPort.port(),
		"-n "+lab+" link set "+DeployerPort.port()+" master "+bridge+" up",
		"-n "+lab+" addr add "+DeployerAddress+"/24 dev deployer",
		"-n "+lab+" addr add "+RepositoryAddress+"/24 dev deployer",
		"-n "+lab+" link set deployer up",

		"-n "+lab+" link add "+RouterPort.port()+" type veth peer name inside netns "+router,
		"-n "+lab+" link set "+RouterPort.port()+" master "+bridge+" up",
		"-n "+router+" addr add "+RouterAddress+"/24 dev inside",
		"-n "+router+" link set inside up",
		// Or a host that is to send all to its router is told to go around it.
		"netns exec "+router+" sysctl -qw net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.inside.send_redirects=0",

		"-n "+router+" link add outside type veth peer name uplink netns "+outside,
		"-n "+router+" addr add "+RouterOutsideAddress+"/24 dev outside",
		"-n "+router+" link set outside up",
		"-n "+router+" addr add "+MetadataAddress+"/32 dev outside",
		"netns exec "+router+" sysctl -qw net.ipv4.ip_forward=1",
		"-n "+outside+" addr add "+OutsideAddress+"/24 dev uplink",
		"-n "+outside+" addr add "+ResolverAddress+"/24 dev uplink",
		"-n "+outside+" link set uplink up",
		"-n "+outside+" route add 192.0.2.0/24 via "+RouterOutsideAddress,
	); err != nil {
		return err
	}
	return l.createSite(ctx)
}

// ipBatch runs ip(8) once per line and stops at the first error.
func ipBatch(ctx context.Context, lines ...string) error {
	for _, line := range lines {
		if _, err := output(ctx, "ip", strings.Fields(line)...); err != nil {
			return fmt.Errorf("ip %s: %w", line, err)
		}
	}
	return nil
}

// plugIn makes the network device of a machine and plugs it into its bridge.
func (h *Host) plugIn(ctx context.Context, n nic) error {
	ns := h.lab.Namespace()
	if !h.Bridged {
		return ipBatch(ctx,
			"-n "+ns+" tuntap add dev "+n.tap+" mode tap",
			"-n "+ns+" link set "+n.tap+" master "+n.bridge+" up",
		)
	}
	if err := ipBatch(ctx,
		"-n "+ns+" tuntap add dev "+n.wire()+" mode tap",
		"-n "+ns+" link add "+n.tap+" type veth peer name "+n.plain(),
		"netns exec "+ns+" ethtool -K "+n.tap+" tx off", // or frames leave the bridge without checksums
		"-n "+ns+" link set "+n.tap+" master "+n.bridge+" up",
		"-n "+ns+" link set "+n.wire()+" up",
		"-n "+ns+" link set "+n.plain()+" up",
	); err != nil {
		return err
	}
	return startProcess(h.lab.path(n.wire()+".pid"), h.lab.path(n.wire()+".log"), "ip", "netns", "exec", ns, h.lab.path("lab"), "serve-trunk", n.wire(), n.plain())
}

// removeNetwork deletes the namespaces of this lab; the links in them go with them.
func (l *Lab) removeNetwork() error {
	entries, err := os.ReadDir("/run/netns")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, e := range entries {
		switch name := strings.TrimPrefix(e.Name(), l.Prefix+"-"); {
		case name == e.Name():
		case name == "lab", name == "router", name == "outside", strings.HasPrefix(name, "client"):
			errs = append(errs, ipBatch(context.Background(), "netns del "+e.Name()))
		}
	}
	return errors.Join(append(errs, os.RemoveAll(l.etc()))...)
}

// Command prepares a program that runs in a namespace of this machine.
func Command(ctx context.Context, namespace, name string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", namespace, name}, args...)...)
}

// Outside runs a program on the machine beyond the router and returns its output.
func (l *Lab) Outside(ctx context.Context, name string, args ...string) (string, error) {
	return output(ctx, "ip", append([]string{"netns", "exec", l.OutsideNamespace(), name}, args...)...)
}
