package system

import (
	"net"
	"os"
	"strings"
	"testing"

	"mobula/helper/internal/netns/netnstest"
)

// TestPortTaken: where the NIC stays, WireGuard's socket is among the host's own, so whoever
// has the port at any address there has it: nothing else may, of either family.
func TestPortTaken(t *testing.T) {
	if !netnstest.Alone(t) {
		return
	}
	const port = "51820"
	const ofKernel = "a tunnel of the kernel, or a process that is not known"
	program := comm(t)
	for _, c := range []struct {
		name             string
		network, address string   // of a socket of this process
		link             string   // whose socket is the kernel's
		interfaces       []string // of WireGuard
		holder           string   // "": the port is free
	}{
		{name: "nobody"},
		{"all addresses", "udp4", "0.0.0.0:" + port, "", nil, program},
		{"one address", "udp4", "127.0.0.1:" + port, "", nil, program},
		{"another family", "udp6", "[::1]:" + port, "", nil, program},
		{"a program beside the name of an interface", "udp4", "0.0.0.0:" + port, "", []string{"wg0"}, program},
		{"a tunnel of the kernel", "", "", "type vxlan id 7 dstport " + port, nil, ofKernel},
		{"a WireGuard interface", "", "", "type vxlan id 7 dstport " + port, []string{"wg0", "wg1"}, "the WireGuard interface wg0, wg1"},
		{"another protocol", "tcp4", "0.0.0.0:" + port, "", nil, ""},
		{"another port", "udp4", "0.0.0.0:51821", "", nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.network != "" {
				end := listen(t, c.network, c.address)
				defer func() { _ = end() }()
			}
			if c.link != "" { // its socket is as WireGuard's, which not every kernel has
				netnstest.Run(t, "", append([]string{"ip", "link", "add", "tunnel0", "up"}, strings.Fields(c.link)...)...)
				defer netnstest.Run(t, "", "ip", "link", "del", "tunnel0")
			}
			sockets, err := Sockets()
			if err != nil {
				t.Fatal(err)
			}
			err = Outside{WireGuardPort: 51820}.PortTaken(sockets, c.interfaces)
			if c.holder == "" {
				if err != nil {
					t.Errorf("found %v, wanted it free", err)
				}
				return
			}
			want := "wireguard_port: found UDP port 51820 in use by " + c.holder + ", wanted it free: set wireguard_port to another one for this host, or stop what listens there"
			if err == nil || err.Error() != want {
				t.Errorf("found %v, wanted %q", err, want)
			}
			if free := (Outside{WireGuardPort: 51822}).PortTaken(sockets, c.interfaces); free != nil {
				t.Errorf("of a port that nobody has: %v", free)
			}
		})
	}
}

// comm is what this process calls itself.
func comm(t *testing.T) string {
	t.Helper()
	name, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(name))
}

// listen waits for datagrams or connections until it is ended.
func listen(t *testing.T, network, address string) (end func() error) {
	t.Helper()
	if strings.HasPrefix(network, "tcp") {
		l, err := net.Listen(network, address)
		if err != nil {
			t.Fatal(err)
		}
		return l.Close
	}
	l, err := net.ListenPacket(network, address)
	if err != nil {
		t.Fatal(err)
	}
	return l.Close
}
