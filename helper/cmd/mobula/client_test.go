package main

import (
	"crypto/ecdh"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mobula/helper/internal/network"
	"mobula/helper/internal/plan/plantest"
)

// TestClients goes through the life of an administrator's client as the operator
// does, in a folder with the document of the last deploy.
func TestClients(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	read := func(name string) string {
		t.Helper()
		data, err := os.ReadFile(at(name))
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	client := func(args ...string) (int, string, string) {
		return mobula("", append([]string{"client", "--network=" + at("network.json"), "--extra-wires=" + at("extra_wires.yml"), "--dir=" + at("clients")}, args...)...)
	}
	if code, _, stderr := client("add", "laptop"); code != exitFailed || !strings.Contains(stderr, "deploy once before the first client") {
		t.Errorf("before the first deploy: exit code %d, %s", code, stderr)
	}
	document := plantest.Document(plantest.Host(1), plantest.Host(2))
	if err := os.WriteFile(at("network.json"), document.Encode(), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(at("extra_wires.yml"), []byte("# mine\nextra_wires: {}\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	code, out, stderr := client("add", "laptop", "--json", "--png")
	if code != exitOK {
		t.Fatalf("exit code %d, %s", code, stderr)
	}
	var report made
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		t.Fatal(err)
	}
	config := read("clients/laptop.conf")
	for _, want := range []string{"Address = 10.30.128.1/32\n", "Endpoint = " + document.Hosts[0].Endpoint.String() + "\n"} {
		if !strings.Contains(config, want) {
			t.Errorf("no %q in\n%s", want, config)
		}
	}
	_, line, _ := strings.Cut(config, "PrivateKey = ")
	private, err := network.ParseKey(line[:44])
	if err != nil || private[0]&7 != 0 || private[31]&0xc0 != 0x40 {
		t.Errorf("the private key is not clamped: %v", err)
	}
	own, err := ecdh.X25519().NewPrivateKey(private[:])
	if err != nil || network.Key(own.PublicKey().Bytes()).String() != report.PublicKey {
		t.Errorf("the halves do not belong together: %v", err)
	}
	if !strings.Contains(read("clients/laptop-2.conf"), "Endpoint = "+document.Hosts[1].Endpoint.String()+"\n") {
		t.Error("the second configuration does not lead to the second host")
	}
	if text := read("extra_wires.yml"); !strings.HasPrefix(text, "# mine\nextra_wires:\n  10.30.128.1/32: {name: "+report.Name+", public_key: '"+report.PublicKey+"'}\n") {
		t.Errorf("the file is\n%s", text)
	}
	for name, mode := range map[string]os.FileMode{"clients": 0o700, "clients/laptop.conf": 0o600, "clients/laptop.png": 0o600, "extra_wires.yml": 0o640} {
		if info, err := os.Stat(at(name)); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	if code, _, stderr := client("add", "laptop"); code != exitFailed || !strings.Contains(stderr, "already") {
		t.Errorf("added twice: exit code %d, %s", code, stderr)
	}
	code, out, _ = client("rotate", "laptop", "--qr")
	if code != exitOK || !strings.Contains(out, "▄▄▄▄▄") || read("clients/laptop.conf") == config || strings.Contains(read("extra_wires.yml"), report.PublicKey) {
		t.Errorf("rotated: exit code %d\n%s", code, out)
	}
	other := network.Key{7}
	if code, _, stderr := client("add", "phone", "--public-key", other.String(), "--entry", "nobody"); code != exitFailed || !strings.Contains(stderr, `entry: found "nobody"`) {
		t.Errorf("an entry that is none: exit code %d, %s", code, stderr)
	}
	if code, _, _ := client("add", "phone", "--public-key", other.String()); code != exitOK || !strings.Contains(read("clients/phone.conf"), "PrivateKey = <") {
		t.Errorf("with its own key: exit code %d", code)
	}
	if _, out, _ := client("list"); strings.Count(out, "\n") != 2 || !strings.Contains(out, "10.30.128.2") {
		t.Errorf("the list is\n%s", out)
	}
	if code, _, _ := client("remove", "laptop"); code != exitOK || strings.Contains(read("extra_wires.yml"), "laptop") {
		t.Errorf("removed: exit code %d\n%s", code, read("extra_wires.yml"))
	}
	if left, _ := filepath.Glob(at("clients/laptop*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if code, _, _ := client("remove", "laptop"); code != exitFailed {
		t.Errorf("removed twice: exit code %d", code)
	}
}
