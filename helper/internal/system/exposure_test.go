package system

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"mobula/helper/internal/network"
	"mobula/helper/internal/plan/plantest"
	"mobula/helper/internal/spec"
)

// What /proc/net said on a host (x86-64, kernel 6.1) with sshd, a web server on all
// addresses and one on the NIC's, a resolver on the loopback, an established and a
// client's connection, chrony, a resolver's question under way and WireGuard.
const (
	recordedTCP = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:0035 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 11021 1 0000000000000000 100 0 0 10 0
   1: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 11022 1 0000000000000000 100 0 0 10 0
   2: 00000000:01BB 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 11023 1 0000000000000000 100 0 0 10 0
   3: 010200C0:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 11024 1 0000000000000000 100 0 0 10 0
   4: 010200C0:0016 090200C0:C6A4 01 00000000:00000000 02:000A7B6C 00000000     0        0 11025 2 0000000000000000 20 4 29 10 -1
`
	recordedTCP6 = `  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000000000000000000000000000:0016 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 11026 1 0000000000000000 100 0 0 10 0
   1: B80D0120000000000000000001000000:0050 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 11027 1 0000000000000000 100 0 0 10 0
   2: 0000000000000000FFFF0000010200C0:1F91 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 11028 1 0000000000000000 100 0 0 10 0
`
	recordedUDP = `   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
  244: 00000000:007B 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 11029 2 0000000000000000 0
  300: 00000000:0044 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 11030 2 0000000000000000 0
  301: 00000000:B2C7 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 11031 2 0000000000000000 0
  302: 00000000:CA6C 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 13069 2 0000000000000000 0
`
)

func recorded() []Socket {
	all := parseTable(recordedTCP, "tcp", "0A")
	all = append(all, parseTable(recordedTCP6, "tcp", "0A")...)
	all = append(all, parseTable(recordedUDP, "udp", "07")...)
	for i := range all {
		if all[i].Port == 45767 {
			all[i].Program = "resolver"
		}
	}
	return all
}

func TestParseTable(t *testing.T) {
	var got []string
	for _, s := range recorded() {
		got = append(got, fmt.Sprintf("%s %s", s.Protocol, netip.AddrPortFrom(s.Address, s.Port)))
	}
	const want = "tcp 127.0.0.1:53, tcp 0.0.0.0:22, tcp 0.0.0.0:443, tcp 192.0.2.1:8080, " +
		"tcp [::]:22, tcp [2001:db8::1]:80, tcp 192.0.2.1:8081, " +
		"udp 0.0.0.0:123, udp 0.0.0.0:68, udp 0.0.0.0:45767, udp 0.0.0.0:51820"
	if strings.Join(got, ", ") != want {
		t.Errorf("got %s", strings.Join(got, ", "))
	}
	for _, broken := range []string{"", "x", "0: zz:0016 0:0 0A 0 0 0 0 0 0", "0: 00:0016 0:0 0A 0 0 0 0 0 0", "0: 00000000:10016 0:0 0A 0 0 0 0 0 0", "0: 00000000 0:0 0A 0 0 0 0 0 0"} {
		if all := parseTable(broken, "tcp", "0A"); len(all) > 0 {
			t.Errorf("%q: %v", broken, all)
		}
	}
}

func TestExposure(t *testing.T) {
	const bound = "no longer reachable at the NIC's own address, which moves to the gateway: tcp 192.0.2.1:8080 (a tunnel of the kernel, or a process that is not known), " +
		"tcp 192.0.2.1:8081 (a tunnel of the kernel, or a process that is not known), tcp [2001:db8::1]:80 (a tunnel of the kernel, or a process that is not known); have them listen on all addresses, and list in publish what shall be reachable from outside"
	const hidden = "no longer reachable from outside, because not in publish: "
	const unknown, wireguard = " (a tunnel of the kernel, or a process that is not known)", " (a tunnel of the kernel, or a process that is not known)"
	other := Outside{WireGuardPort: 51821, ClientPorts: 32768}
	cases := []struct {
		name     string
		outside  Outside
		change   func(*spec.Facts)
		names    []string // of WireGuard interfaces
		problem  string
		warnings []string
	}{
		{"all of it", other, nil, nil, "", []string{bound, hidden + "tcp/443" + unknown + ", udp/123" + unknown + ", udp/51820" + wireguard}},
		{"published", Outside{WireGuardPort: 51821, ClientPorts: 32768, Published: []network.Port{{Protocol: "tcp", Number: 443}, {Protocol: "udp", Number: 123}, {Protocol: "udp", Number: 51820}}},
			nil, nil, "", []string{bound}},
		{"our port, the kernel's", Outside{WireGuardPort: 51820, ClientPorts: 32768}, nil, nil, "found UDP port 51820 in use by a tunnel of the kernel, or a process that is not known, wanted it free",
			[]string{bound, hidden + "tcp/443" + unknown + ", udp/123" + unknown}},
		{"our port, by name", Outside{WireGuardPort: 51820, ClientPorts: 32768}, nil, []string{"wg0"}, "in use by the WireGuard interface wg0, wanted",
			[]string{bound, hidden + "tcp/443" + unknown + ", udp/123" + unknown}},
		{"our port, a process's", Outside{WireGuardPort: 45767, ClientPorts: 32768}, nil, nil, "wireguard_port: found UDP port 45767 in use by resolver", nil},
		{"another NIC's addresses", other, func(f *spec.Facts) {
			f.Addresses, f.IPv6Addresses = []netip.Prefix{netip.MustParsePrefix("198.51.100.1/24")}, nil
		}, nil, "", []string{hidden + "tcp/443" + unknown + ", udp/123" + unknown + ", udp/51820" + wireguard}},
		{"SSH elsewhere", other, func(f *spec.Facts) { f.SSHPorts = []uint16{2222} }, nil, "", []string{bound, hidden + "tcp/22" + unknown + ", tcp/443" + unknown + ", udp/123" + unknown + ", udp/51820" + wireguard}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			facts := plantest.Facts()
			if c.change != nil {
				c.change(facts)
			}
			problem, warnings := c.outside.Exposure(facts, recorded(), c.names)
			if c.problem == "" != (problem == nil) || problem != nil && !strings.Contains(problem.Error(), c.problem) {
				t.Errorf("problem %v, wanted %q", problem, c.problem)
			}
			if c.warnings != nil && fmt.Sprint(warnings) != fmt.Sprint(c.warnings) {
				t.Errorf("warnings:\n%s\nwanted:\n%s", strings.Join(warnings, "\n"), strings.Join(c.warnings, "\n"))
			}
		})
	}
}

func TestNoUsableResolver(t *testing.T) {
	for content, want := range map[string]string{"nameserver 127.0.0.1\nnameserver ::1\n": "found only 127.0.0.1, ::1 in", "nameserver 2001:db8::53\n": "found only 2001:db8::53 in", "": "found none in"} {
		facts := plantest.Facts()
		facts.ResolvConf.Content, facts.Resolvers = content, Resolvers(network.Ranges{}, content)
		_, warnings := Outside{}.Exposure(facts, nil, nil)
		if len(warnings) != 1 || !strings.Contains(warnings[0], want) || !strings.Contains(warnings[0], "set upstream_dns") {
			t.Errorf("%q: %q", content, warnings)
		}
		if _, warnings = (Outside{UpstreamDNS: []netip.Addr{netip.MustParseAddr("192.0.2.53")}}).Exposure(facts, nil, nil); len(warnings) > 0 {
			t.Errorf("%q with upstream_dns: %q", content, warnings)
		}
	}
	if _, warnings := (Outside{}).Exposure(plantest.Facts(), nil, nil); len(warnings) > 0 {
		t.Errorf("with a resolver: %q", warnings)
	}
}

// TestSockets asks this machine's kernel for sockets of this very process.
func TestSockets(t *testing.T) {
	tcp, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	udp, err := net.ListenPacket("udp", "[::]:0")
	if err != nil {
		udp, err = net.ListenPacket("udp", "0.0.0.0:0") // a kernel without IPv6
	}
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	client, err := net.Dial("udp4", "127.0.0.1:9")
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	sockets, err := Sockets()
	if err != nil {
		t.Fatal(err)
	}
	found, program := map[uint16]Socket{}, comm(t)
	for _, s := range sockets {
		found[s.Port] = s
	}
	for _, a := range []net.Addr{tcp.Addr(), udp.LocalAddr()} {
		want := netip.MustParseAddrPort(a.String())
		s := found[want.Port()]
		if s.Protocol != a.Network() || s.Address != want.Addr() || s.Program != program {
			t.Errorf("%s: found %+v", a, s)
		}
	}
	if s, connected := found[netip.MustParseAddrPort(client.LocalAddr().String()).Port()]; connected {
		t.Errorf("a client's socket: %+v", s)
	}
}

func TestChangeable(t *testing.T) {
	dir := t.TempDir()
	free, file := filepath.Join(dir, "free"), filepath.Join(dir, "etc/resolv.conf")
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, nil, 0o644), os.WriteFile(free, nil, 0o644),
		os.Symlink(file, filepath.Join(dir, "link"))); err != nil {
		t.Fatal(err)
	}
	all := []string{free, file, filepath.Join(dir, "link"), filepath.Join(dir, "etc/none/none/file")}
	if err := Changeable(all); err != nil {
		t.Fatalf("found %v", err)
	}
	if os.Geteuid() != 0 {
		t.Skip("attributes are root's to set")
	}
	for flag, want := range map[uint32]string{immutable: "found it immutable (chattr +i)", appendOnly: "found it append-only (chattr +a)"} {
		for _, path := range []string{file, filepath.Dir(file)} {
			if !setAttribute(t, path, flag) {
				t.Fatal("wanted root and a file system with attributes")
			}
			err := Changeable(all)
			setAttribute(t, path, 0)
			if err == nil || strings.Count(err.Error(), "\n") > 0 || !strings.HasPrefix(err.Error(), path+": "+want) {
				t.Errorf("%s: found %v, wanted %s", path, err, want)
			}
		}
	}
}

// setAttribute gives a file one attribute alone, and reports whether it could.
func setAttribute(t *testing.T, path string, flag uint32) bool {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	flags, err := unix.IoctlGetUint32(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if err != nil {
		return false
	}
	return unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, int(flags&^(immutable|appendOnly)|flag)) == nil
}
