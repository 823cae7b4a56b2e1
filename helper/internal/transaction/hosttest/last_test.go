package hosttest

import (
	"fmt"
	"os/exec"
	"testing"

	"mobula/helper/internal/netns"
	"mobula/helper/internal/netns/netnstest"
	"mobula/helper/internal/network"
	"mobula/helper/internal/spec"
)

// TestTheLastHostGetsOutside: the host without an access address gets outside by its gateway
// where the NIC has moved, and its guests do wherever the NIC is.
func TestTheLastHostGetsOutside(t *testing.T) {
	if !netnstest.Alone(t) {
		return
	}
	h, err := parse("1: classic")
	if err == nil {
		err = h.prepare(t)
	}
	if err != nil {
		t.Fatal(err)
	}
	b := newBench(t, h)
	b.self.ID, b.self.Hostname, b.self.ManualAccess = network.MaxHostID, "last.example.com", false
	gateway := h.ranges.GatewayAddress(network.MaxHostID)
	for _, c := range []struct {
		what   string
		shared bool
	}{{"the NIC has moved", false}, {"the NIC stays", true}} {
		if b.change = b.changeOf(b.self); c.shared {
			b.change = b.staying()
		}
		b.apply()
		b.confirm()
		b.reaches(c.what)
		// The switch is a bridge here, to which a guest is bridged; br_netfilter, which Open
		// vSwitch does not pass, is kept from it.
		netnstest.Namespace(t, "guest")
		netnstest.Run(t, "", "sh", "-euc", fmt.Sprintf(`ip link add eth0 netns guest type veth peer name port9 netns %[1]s
ip -n %[1]s link set port9 master %[2]s up
ip netns exec %[1]s sh -c '[ ! -e /proc/sys/net/bridge ] || sysctl -qw net.bridge.bridge-nf-call-iptables=0'
ip -n guest link set eth0 up
ip -n guest address add 10.31.200.1/16 dev eth0
ip -n guest route add default via %[3]s`, spec.Namespace, spec.SwitchBridge, gateway))
		for _, ns := range []string{"", spec.Namespace, "guest"} {
			b.getsOutside(ns, c.what)
		}
		if err := netns.Delete("guest"); err != nil {
			t.Fatal(err)
		}
		b.uninstall()
	}
}

// getsOutside holds that the provider's gateway answers those in a namespace.
func (b *bench) getsOutside(ns, when string) {
	b.Helper()
	err := netns.Do(ns, func() error {
		out, err := exec.Command("ping", "-n", "-c", "1", "-w", "10", b.made.gateway.String()).CombinedOutput()
		if err != nil {
			err = fmt.Errorf("%w: %s", err, out)
		}
		return err
	})
	if err != nil {
		b.Errorf("when %s, %q does not get outside: %v\n%s", when, ns, err, b.ways())
	}
}
