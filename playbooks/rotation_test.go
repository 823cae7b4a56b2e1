//go:build ansible

package playbooks_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// rotating makes three hosts with a network, each of which has made another key.
func rotating(t *testing.T) *deployer {
	t.Helper()
	d := newDeployer(t, 3)
	if out, err := d.play("deploy.yml"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for n := 1; n <= 3; n++ {
		d.reportOf(address(n), key(n), "")
		d.put(address(n), "key", key(n+3))
		d.put(address(n), "documents", "")
	}
	return d
}

// keys are those of a host in all documents that the first host was given since: the one
// that it uses, and the one that is accepted besides.
func (d *deployer) keys(host string) (all []string) {
	d.Helper()
	for _, line := range strings.Split(d.read(address(1), "documents"), "\n") {
		if !strings.Contains(line, `"`+host+`"`) || !strings.Contains(line, "public_key") {
			continue
		}
		_, uses, _ := strings.Cut(line, `"public_key":"`)
		_, also, _ := strings.Cut(line, `"also_key":"`)
		all = append(all, strings.TrimSpace(uses[:1]+" "+also[:min(1, len(also))]))
	}
	return all
}

// TestRotation: three deploys with the keys of each phase, and the files have the new ones
// in the end. With a host left out nothing begins.
func TestRotation(t *testing.T) {
	d := rotating(t)
	before := d.order()
	out, err := d.play("deploy.yml", "-e", "rotate_keys=1", "--limit", address(3))
	d.mustSay(out, err, true, "  No key was changed. rotate_keys needs every host of the inventory. Not reached, or left out by --limit: 192.0.2.1, 192.0.2.2. "+
		"Bring them back, or take them out of the inventory, and rotate again; a deploy without rotate_keys leaves every host with the key that it uses now.\n")
	if got := strings.TrimSpace(strings.TrimPrefix(d.order(), before)); got != "check" {
		t.Errorf("asked the hosts for %s\n%s", got, out)
	}
	out, err = d.play("deploy.yml", "-e", "rotate_keys=1")
	d.mustSay(out, err, false)
	for host, want := range map[string]string{address(1): "1 4, 4 1, 4", address(3): "3 6, 6 3, 6"} {
		if got := strings.Join(d.keys(host), ", "); got != want {
			t.Errorf("%s: found the keys %s, wanted %s\n%s", host, got, want, out)
		}
	}
	if kept := d.kept("wireguard_pubkeys.yml") + d.kept("mobula_state.yml"); !strings.Contains(kept, key(6)) || strings.Contains(kept, key(3)) || strings.Contains(kept, "also_key") {
		t.Errorf("kept:\n%s", kept)
	}
}

// TestRotationThatIsInterrupted: one host does not take its new key, so no old one is
// forgotten; the next deploy has each host with the key that it uses then, also one that
// leaves hosts out.
func TestRotationThatIsInterrupted(t *testing.T) {
	d := rotating(t)
	d.put(address(3), "refuses", `"public_key":"`+key(6)+`"`)
	out, err := d.play("deploy.yml", "-e", "rotate_keys=1")
	d.mustSay(out, err, true, "  The rotation stops before any old key is forgotten; peers accept both keys of every host. rotate_keys needs every host of the inventory. "+
		"Not reached, or left out by --limit: 192.0.2.3. Bring them back,")
	if got, want := strings.Join(d.keys(address(3)), ", "), "3 6, 6 3"; got != want {
		t.Errorf("found the keys %s, wanted %s\n%s", got, want, out)
	}
	for n := 1; n <= 2; n++ {
		d.reportOf(address(n), key(n+3), "")
	}
	for _, c := range [][2]string{{address(1) + "," + address(2), "6 3"}, {"all", "3"}} {
		d.put(address(1), "documents", "")
		out, err = d.play("deploy.yml", "--limit", c[0])
		d.mustSay(out, err, false)
		if got := strings.Join(d.keys(address(3)), ", "); got != c[1] {
			t.Errorf("--limit %s: found the keys %s, wanted %s\n%s", c[0], got, c[1], out)
		}
		if got := strings.Join(d.keys(address(1)), ", "); got != "4" {
			t.Errorf("--limit %s: found the keys %s of the first host\n%s", c[0], got, out)
		}
	}
}

// kept returns a file of the operator's folder.
func (d *deployer) kept(name string) string {
	d.Helper()
	data, err := os.ReadFile(filepath.Join(d.dir, name))
	if err != nil {
		d.Fatal(err)
	}
	return string(data)
}
