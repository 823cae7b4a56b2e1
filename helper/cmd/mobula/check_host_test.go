package main

import (
	"encoding/json"
	"net"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"mobula/helper/internal/netns/netnstest"
)

// hostWithNIC is a host on which Mobula has never been, with a NIC to the outside, in
// namespaces of its own; false in the process that only starts another one.
func hostWithNIC(t *testing.T) bool {
	t.Helper()
	if !netnstest.Alone(t) {
		return false
	}
	netnstest.Run(t, "", "sh", "-euc", `ip link add eth0 type veth peer name cable
ip link set cable up; ip link set eth0 up; ip addr add 192.0.2.1/24 dev eth0; ip route add default via 192.0.2.254`)
	return true
}

// checked is what 'mobula check --host --json' says of a host that is to keep its NIC.
func checked(t *testing.T, flags ...string) *hostReport {
	t.Helper()
	code, stdout, stderr := mobula("", append([]string{"check", "--host", "--json", "--uplink-mode", "shared"}, flags...)...)
	report := &hostReport{}
	if err := json.Unmarshal([]byte(stdout), report); err != nil || code != exitOK {
		t.Fatalf("exit code %d, %v: %s%s", code, err, stdout, stderr)
	}
	return report
}

// TestCheckFindsThePortTaken: a look at a host that is to keep its NIC, which each deploy
// begins with, refuses one where somebody has WireGuard's port, and touches nothing.
func TestCheckFindsThePortTaken(t *testing.T) {
	if !hostWithNIC(t) {
		return
	}
	if err := unix.Mount("none", "/var/lib", "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	about := func(flags ...string) (found []string) {
		for _, p := range checked(t, flags...).Problems {
			if strings.HasPrefix(p, "wireguard_port: ") {
				found = append(found, p)
			}
		}
		return found
	}
	if found := about(); len(found) > 0 {
		t.Errorf("the port is free: found %q", found)
	}
	l, err := net.ListenPacket("udp4", "192.0.2.1:51820")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	const want = "wireguard_port: found UDP port 51820 in use by "
	if found := about(); len(found) != 1 || !strings.HasPrefix(found[0], want) {
		t.Errorf("found %q, wanted one with %q", found, want)
	}
	if found := about("--wireguard-port", "51821"); len(found) > 0 {
		t.Errorf("another port: found %q", found)
	}
	if left, err := os.ReadDir("/var/lib"); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
}
