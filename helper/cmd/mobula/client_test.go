package main

import (
	"crypto/ecdh"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"mobula/helper/internal/inventory"
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
	if code, _, stderr := client("add", "laptop"); code != exitFailed || !strings.Contains(stderr, "wanted the network document that a deploy leaves on this machine; deploy first") {
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

// clientWorld is a folder in which a network was deployed, and what the operator says in it.
type clientWorld struct {
	*testing.T
	dir string
}

func newClientWorld(t *testing.T, clients string) clientWorld {
	t.Helper()
	w := clientWorld{t, t.TempDir()}
	w.write("network.json", string(plantest.Document(plantest.Host(1), plantest.Host(2)).Encode()))
	w.write("extra_wires.yml", clients)
	return w
}

func (w clientWorld) write(name, text string) {
	w.Helper()
	if err := os.MkdirAll(filepath.Dir(filepath.Join(w.dir, name)), 0o700); err != nil {
		w.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(w.dir, name), []byte(text), 0o600); err != nil {
		w.Fatal(err)
	}
}

// deploy has the document of the last deploy say what the file of the clients does.
func (w clientWorld) deploy() {
	w.Helper()
	d := plantest.Document(plantest.Host(1), plantest.Host(2))
	var err error
	if d.Clients, err = inventory.Clients(filepath.Join(w.dir, "extra_wires.yml"), nil); err != nil {
		w.Fatal(err)
	}
	w.write("network.json", string(d.Encode()))
}

func (w clientWorld) client(args ...string) (code int, stdout, stderr string) {
	return mobula("", append([]string{"client", "--network=" + filepath.Join(w.dir, "network.json"),
		"--extra-wires=" + filepath.Join(w.dir, "extra_wires.yml"), "--dir=" + filepath.Join(w.dir, "clients")}, args...)...)
}

// must runs what has to succeed.
func (w clientWorld) must(args ...string) {
	w.Helper()
	if code, _, stderr := w.client(args...); code != exitOK {
		w.Fatalf("%v: exit code %d, %s", args, code, stderr)
	}
}

// all returns every file there is.
func (w clientWorld) all() map[string]string {
	w.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(w.dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		name, _ := filepath.Rel(w.dir, path)
		files[name] = string(data)
		return err
	})
	if err != nil {
		w.Fatal(err)
	}
	return files
}

// TestClientsThatAreRefused: what the next deploy would refuse, or what would cost a file,
// is refused at once, and every file is as it was.
func TestClientsThatAreRefused(t *testing.T) {
	key1, host1 := network.Key{9}, plantest.Host(1)
	good := "extra_wires:\n  10.30.128.1/32: '" + key1.String() + "'\n"
	for _, c := range []struct{ name, clients, args, want string }{
		{"a host's name", good, "add h1", `10.30.128.2/32: name: found "h1.example.com", which ` + host1.Name + ` has, wanted a name of its own`},
		{"a host's key", good, "add phone --public-key " + host1.PublicKey.String(), "10.30.128.2/32: key: found " + host1.PublicKey.String() + ", which " + host1.Name + " has, wanted a key of its own"},
		{"another client's key", good, "add phone --public-key " + key1.String(), "10.30.128.2/32: key: found " + key1.String() + ", which 10.30.128.1/32 has"},
		{"the key that it has", good + "  10.30.128.2/32: '" + network.Key{8}.String() + "'\n", "rotate 10.30.128.2 --public-key " + key1.String(), "which 10.30.128.1/32 has"},
		{"a file that is wrong already", "extra_wires:\n  10.31.0.9/32: '" + key1.String() + "'\n", "add phone", "extra_wires.yml:2: 10.31.0.9/32: address: found 10.31.0.9/32, wanted an address in 10.30.128.0/17"},
		{"another file of that name", good, "add mine", "clients/mine.conf: found a file that is not known to be of the client 10.30.128.2, wanted none"},
		{"and of the second host", good, "add other --png", "clients/other-2.conf: found a file that is not known to be of"},
		{"and a picture", good, "add other --png --entry h1", "clients/other.png: found a file that is not known to be of"},
		{"a file that cannot be edited", "extra_wires: {10.30.128.1/32: " + key1.String() + "}\n", "add phone", "extra_wires.yml:1: found it written in a way that cannot be edited line by line"},
		{"a code and JSON", good, "add phone --qr --json", "found --qr with --json"},
		{"a long name", good, "add fourteen-bytes", `name: found "fourteen-bytes", wanted 1..13 letters, digits or -`},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newClientWorld(t, c.clients)
			for _, name := range []string{"mine.conf", "other-2.conf", "other.png"} {
				w.write("clients/"+name, "mine")
			}
			before := w.all()
			code, out, stderr := w.client(strings.Fields(c.args)...)
			if code == exitOK || out != "" || !strings.Contains(stderr, c.want) {
				t.Errorf("exit code %d, %s%s, wanted %s", code, out, stderr, c.want)
			}
			if after := w.all(); !reflect.DeepEqual(before, after) {
				t.Errorf("found %v, wanted %v", after, before)
			}
		})
	}
}

// TestClientRotates: until the next deploy the key that is in force is not lost, and files
// that nobody can use any more go.
func TestClientRotates(t *testing.T) {
	w := newClientWorld(t, "extra_wires:\n  10.30.128.7/32: '"+network.Key{9}.String()+"' # by hand\n")
	w.must("add", "laptop", "--png")
	names := func(want string) {
		t.Helper()
		var got []string
		for name := range w.all() {
			if name, isOf := strings.CutPrefix(name, "clients/"); isOf {
				got = append(got, name)
			}
		}
		slices.Sort(got)
		if text := strings.Join(got, " "); text != want {
			t.Errorf("found %s, wanted %s", text, want)
		}
	}
	names("laptop-2.conf laptop.conf laptop.png")
	w.must("rotate", "laptop", "--png") // nothing was deployed: the first key never counted
	names("laptop-2.conf laptop.conf laptop.png")
	w.deploy()
	inForce := w.all()["clients/laptop.conf"]
	for i := 0; i < 2; i++ {
		w.must("rotate", "laptop", "--entry", "h1")
		names("laptop-2.conf.old laptop.conf laptop.conf.old")
		if all := w.all(); all["clients/laptop.conf.old"] != inForce || all["clients/laptop.conf"] == inForce {
			t.Error("the key that is in force is lost, or still the only one")
		}
	}
	w.must("add", "laptop-2", "--entry", "h1")
	w.must("rotate", "10.30.128.7")
	names("laptop-2.conf laptop-2.conf.old laptop.conf laptop.conf.old wire-128-7-2.conf wire-128-7.conf")
	w.must("remove", "laptop")
	names("laptop-2.conf wire-128-7-2.conf wire-128-7.conf")
	w.must("remove", "wire-128-7")
	names("laptop-2.conf")
	if code, out, _ := w.client("list"); code != exitOK || strings.Count(out, "\n") != 1 || !strings.Contains(out, "laptop-2.example.com") {
		t.Errorf("exit code %d, left:\n%s", code, out)
	}
}

// TestClientsFileIsALink: what a link leads to is changed, and the link stays.
func TestClientsFileIsALink(t *testing.T) {
	w := newClientWorld(t, "")
	w.write("kept/wires.yml", "# mine\n")
	at := filepath.Join(w.dir, "extra_wires.yml")
	if err := errors.Join(os.Remove(at), os.Symlink("kept/wires.yml", at)); err != nil {
		t.Fatal(err)
	}
	w.must("add", "laptop")
	if to, err := os.Readlink(at); err != nil || to != "kept/wires.yml" || !strings.HasPrefix(w.all()["kept/wires.yml"], "# mine\nextra_wires:\n  10.30.128.1/32: ") {
		t.Errorf("%s, %v:\n%s", to, err, w.all()["kept/wires.yml"])
	}
}

// TestClientsAtOnce: each gets an address of its own.
func TestClientsAtOnce(t *testing.T) {
	w := newClientWorld(t, "")
	var running sync.WaitGroup
	for i := 0; i < 8; i++ {
		running.Add(1)
		go func(name string) {
			defer running.Done()
			if code, _, stderr := w.client("add", name, "--entry", "h1"); code != exitOK {
				t.Errorf("%s: %s", name, stderr)
			}
		}(fmt.Sprint("client", i))
	}
	running.Wait()
	if clients, err := inventory.Clients(filepath.Join(w.dir, "extra_wires.yml"), nil); err != nil || len(clients) != 8 {
		t.Errorf("found %d, %v", len(clients), err)
	}
}
