//go:build kernel

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"mobula/helper/internal/inventory"
	"mobula/helper/internal/nameserver"
	"mobula/helper/internal/netns"
	"mobula/helper/internal/netns/netnstest"
	"mobula/helper/internal/network"
	"mobula/helper/internal/plan"
	"mobula/helper/internal/plan/plantest"
	"mobula/helper/internal/spec"
	"mobula/helper/internal/wireguard"
)

// TestClientGetsIn: a phone scans the code of a client, and after the next deploy it is in:
// with the real wg-quick, WireGuard and reader of codes, and what the helper makes of the
// files on the deployer and on the host.
func TestClientGetsIn(t *testing.T) {
	if !netnstest.Alone(t) {
		return
	}
	w := newClientHost(t)
	code, drawn, stderr := w.client("add", "phone", "--qr", "--png")
	if code != exitOK {
		t.Fatalf("exit code %d, %s", code, stderr)
	}
	config := w.all()["clients/phone.conf"]
	scanned := w.scan("clients/phone.png")
	if again := w.scan(w.picture(drawn)); scanned != config || again != config {
		t.Fatalf("the picture says\n%s\nthe terminal\n%s\nwanted\n%s", scanned, again, config)
	}
	disconnect := w.connect(scanned)
	w.is("before the deploy", false)
	w.deployHost()
	w.is("after it", true)
	w.inPhone("ping -q -c1 -w30 -M do -s 1392 10.30.0.1") // 1420 bytes with the headers
	for name, want := range map[string]string{"phone.example.com": "10.30.128.1", "h1.example.com": "10.31.128.1"} {
		if out := w.inPhone("getent ahostsv4 " + name); !strings.HasPrefix(out, want+" ") {
			t.Errorf("%s is %q, wanted %s", name, out, want)
		}
	}

	w.must("rotate", "phone")
	w.is("with the key that is in force", true)
	w.deployHost()
	w.is("with the key that was", false)
	disconnect()
	disconnect = w.connect(w.all()["clients/phone.conf"])
	w.is("with the new key", true)
	w.must("remove", "phone")
	w.deployHost()
	w.is("taken out", false)
	disconnect()
}

// clientHost is a clientWorld whose first host has a gateway with the real WireGuard and
// nameserver, beside a phone, in network namespaces.
type clientHost struct {
	clientWorld
	private  network.Key
	device   *wireguard.Device
	names    *nameserver.Server
	previous *spec.Host
}

func newClientHost(t *testing.T) *clientHost {
	t.Helper()
	w := &clientHost{clientWorld: newClientWorld(t, "# mine\nextra_wires: {}\n")}
	var err error
	if w.private, err = wireguard.GenerateKey(); err != nil {
		t.Fatal(err)
	}
	w.etc()
	for _, ns := range []string{spec.Namespace, "phone"} {
		netnstest.Namespace(t, ns)
	}
	sh := func(ns, script string) { t.Helper(); netnstest.Run(t, ns, "sh", "-ec", script) }
	sh(spec.Namespace, `ip link add cable type veth peer name cable netns phone
ip addr add 192.0.2.1/24 dev cable; ip link set cable up; ip addr add 10.30.0.1/32 dev lo; ip addr add 10.31.0.1/32 dev lo`)
	sh("phone", "ip addr add 192.0.2.200/24 dev cable; ip link set cable up")
	netnstest.Daemon(t, spec.Namespace, "wireguard-go -f "+spec.WireLink, "wg show "+spec.WireLink)
	sh(spec.Namespace, "ip link set "+spec.WireLink+" up; ip route add 10.30.128.0/17 dev "+spec.WireLink)
	w.device = wireguard.New(spec.Namespace, spec.WireLink, w)
	w.serveNames()
	w.deployHost()
	return w
}

// etc gives the phone a /etc of its own, and what wg-quick(8) sets a resolver by, which
// does as resolvconf(8) without anything else there.
func (w *clientHost) etc() {
	w.Helper()
	netnstest.Private(w.T, "/etc")
	netnstest.Run(w.T, "", "sh", "-ec", "rm -f /etc/resolv.conf; : >/etc/resolv.conf; echo 'hosts: files dns' >/etc/nsswitch.conf")
	w.write("bin/resolvconf", "#!/bin/sh\n[ \"$1\" != -a ] || cat >/etc/resolv.conf\n")
	if err := os.Chmod(filepath.Join(w.dir, "bin/resolvconf"), 0o700); err != nil {
		w.Fatal(err)
	}
}

func (w *clientHost) serveNames() {
	w.Helper()
	var cfg nameserver.Config
	err := netns.Do(spec.Namespace, func() error {
		packets, err := net.ListenPacket("udp4", "10.31.0.1:53")
		cfg.PacketConns = append(cfg.PacketConns, packets)
		return err
	})
	if err != nil {
		w.Fatal(err)
	}
	w.names = nameserver.New(cfg, slog.New(slog.NewTextHandler(io.Discard, nil)))
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error)
	go func() { served <- w.names.Serve(ctx) }()
	w.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			w.Error(err)
		}
	})
}

// PrivateKey implements wireguard.KeyStore.
func (w *clientHost) PrivateKey(network.Key) (network.Key, error) { return w.private, nil }

// deployHost compiles the network out of the files and gives the host what it says.
func (w *clientHost) deployHost() {
	w.Helper()
	input, err := json.Marshal(map[string]any{
		"inventory": map[string]any{"hosts": []any{map[string]any{"name": "192.0.2.1", "vars": map[string]any{"host_id": 1, "hostname": "h1.example.com", "uplink_mode": "moved"}}}},
		"collected": map[string]inventory.Reported{"192.0.2.1": {PublicKey: wireguard.PublicKey(w.private), UnderlayMTU: 1500}},
	})
	if err != nil {
		w.Fatal(err)
	}
	at := func(name string) string { return filepath.Join(w.dir, name) }
	code, _, stderr := mobula(string(input), "compile", "--output="+at("network.json"), "--extra-hosts=", "--extra-wires="+at("extra_wires.yml"),
		"--public-keys="+at("wireguard_pubkeys.yml"), "--state="+at("mobula_state.yml"))
	if code != exitOK {
		w.Fatalf("exit code %d, %s", code, stderr)
	}
	document, err := network.Parse([]byte(w.all()["network.json"]))
	if err != nil {
		w.Fatal(err)
	}
	want, err := plan.Build(document, 1, *plantest.Facts())
	if err != nil {
		w.Fatal(err)
	}
	operations, err := w.device.Diff(context.Background(), want, w.previous)
	for _, o := range operations {
		if err == nil {
			err = o.Do(context.Background())
		}
	}
	if err != nil {
		w.Fatal(err)
	}
	w.previous = want
	w.names.SetZone(document)
}

// connect does what a phone does with what it has scanned.
func (w *clientHost) connect(config string) (disconnect func()) {
	w.Helper()
	w.write("phone/phone.conf", config)
	path := filepath.Join(w.dir, "phone/phone.conf")
	up := filepath.Join(w.dir, "phone/up") // wg-quick has ended: its routes come last
	if err := os.RemoveAll(up); err != nil {
		w.Fatal(err)
	}
	return netnstest.Daemon(w.T, "phone", fmt.Sprintf("env PATH=%s/bin:$PATH sh -ec 'wg-quick up %s; : >%s; exec sleep 600'", w.dir, path, up), "test -e "+up)
}

// is compares whether the phone is in with whether it should be.
func (w *clientHost) is(when string, in bool) {
	w.Helper()
	var out []byte
	err := netns.Do("phone", func() (err error) {
		wait := "-c1 -W1"
		if in {
			wait = "-c1 -w30" // a handshake may have to be tried again
		}
		out, err = exec.Command("sh", "-c", "ping -q "+wait+" 10.30.0.1 && ping -q "+wait+" 10.31.0.1").CombinedOutput()
		return err
	})
	if (err == nil) != in {
		w.Errorf("%s: %v, wanted that it is in: %v\n%s", when, err, in, out)
	}
}

func (w *clientHost) inPhone(script string) (out string) {
	w.Helper()
	err := netns.Do("phone", func() error {
		text, err := exec.Command("sh", "-c", script).CombinedOutput()
		out = string(text)
		return err
	})
	if err != nil {
		w.Errorf("%s: %v: %s", script, err, out)
	}
	return out
}

// scan reads the code in a picture with ZBar, as phones' libraries do.
func (w *clientHost) scan(name string) string {
	w.Helper()
	var complaint bytes.Buffer
	cmd := exec.Command("zbarimg", "--nodbus", "--quiet", "--raw", "-Sdisable", "-Sqrcode.enable", filepath.Join(w.dir, name))
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		w.Fatalf("%s: %v: %s", name, err, complaint.Bytes())
	}
	return strings.TrimSuffix(string(out), "\n") // which zbarimg adds
}

// picture is a photograph of a dark terminal.
func (w *clientHost) picture(drawn string) (name string) {
	w.Helper()
	const scale = 4
	blocks := map[rune][2]bool{'█': {true, true}, '▀': {true, false}, '▄': {false, true}, ' ': {false, false}}
	var rows [][]rune
	for _, line := range strings.Split(drawn, "\n") {
		if strings.ContainsAny(line, "█▀▄") {
			rows = append(rows, []rune(line))
		}
	}
	screen := image.NewGray(image.Rect(0, 0, len(rows[0])*scale, len(rows)*2*scale))
	for y := range rows {
		for x, r := range rows[y] {
			for i := 0; i < 2*scale*scale; i++ {
				if dx, dy := i%scale, i/scale; blocks[r][dy/scale] {
					screen.SetGray(x*scale+dx, y*2*scale+dy, color.Gray{Y: 255})
				}
			}
		}
	}
	var b bytes.Buffer
	if err := png.Encode(&b, screen); err != nil {
		w.Fatal(err)
	}
	w.write("terminal.png", b.String())
	return "terminal.png"
}
