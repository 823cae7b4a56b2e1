//go:build ansible

package playbooks_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestWhateverTheEnvironmentSays deploys with everything set that an operator's
// environment and inventory may set, to four hosts of which one is refused and one
// is down: the other two get the network, and each confirms as soon as it can.
func TestWhateverTheEnvironmentSays(t *testing.T) {
	d := newDeployer(t, 4)
	d.env = append(d.env,
		"ANSIBLE_STRATEGY=free", "ANSIBLE_FORKS=1", "ANSIBLE_ANY_ERRORS_FATAL=1", "ANSIBLE_ROLES_PATH=/nonexistent",
		"ANSIBLE_JINJA2_NATIVE=1", "ANSIBLE_HASH_BEHAVIOUR=merge", "ANSIBLE_GATHERING=implicit",
		// Otherwise nobody who is root asks sudo to become root.
		"ANSIBLE_BECOME_ALLOW_SAME_USER=1")
	d.inventory(`    ansible_become: true
    ansible_python_interpreter: /usr/bin/python3
    ansible_port: 2222
`, address(1), address(2), address(3), address(4))
	d.report(address(2), "uplink eth0: found address 192.0.2.2/24 from DHCP (it has a lifetime), wanted a static one")
	d.put(address(3), "down", "")
	out, err := d.play("deploy.yml")
	d.mustSay(out, err, true, "192.0.2.2: refused: uplink eth0: found address 192.0.2.2/24 from DHCP (it has a lifetime), wanted a static one",
		"192.0.2.3: not reached", "not deployed, the others work without them")
	if got := d.deployed(); got != "192.0.2.1 192.0.2.4" {
		t.Errorf("deployed: %q\n%s", got, out)
	}
	if asked := d.read("sudo"); asked != "" {
		t.Errorf("on the deployer: %s", asked)
	}
	const want = "version version version check check check key key apply confirm apply confirm"
	if got := d.order(); got != want {
		t.Errorf("asked the hosts for %s, wanted %s", got, want)
	}
	if t.Failed() {
		t.Log(out)
	}
}

// TestWorldWritableProject: Ansible passes over ansible.cfg there.
func TestWorldWritableProject(t *testing.T) {
	d := newDeployer(t, 1)
	if err := os.Chmod(d.dir, 0o777); err != nil {
		t.Fatal(err)
	}
	out, err := d.play("deploy.yml")
	d.mustSay(out, err, true, "found a folder that everybody may write to, wanted only you (chmod o-w "+d.dir+")")
	if got := d.read("order"); got != "" {
		t.Errorf("a host was touched: %s", got)
	}
}

// TestConnectionsThatProveNothing: what is confirmed over a connection that is no
// SSH does not show that the operator gets in.
func TestConnectionsThatProveNothing(t *testing.T) {
	d := newDeployer(t, 2)
	d.inventory("    ansible_connection: local\n", address(1), address(2))
	out, err := d.play("deploy.yml")
	d.mustSay(out, err, true, `192.0.2.1: ansible_connection: found \"local\", wanted ssh`)
	d.inventory("", address(1), address(2))
	out, err = d.play("deploy.yml", "-e", "ansible_become=true")
	d.mustSay(out, err, true, "found ansible_become or ansible_connection given with -e")
	if got := d.read("order") + d.read("sudo"); strings.TrimSpace(got) != "" {
		t.Errorf("touched: %s", got)
	}
}

// TestCheckOfARotation: --check says what a rotation would do, and no host makes a key.
func TestCheckOfARotation(t *testing.T) {
	d := newDeployer(t, 2)
	if out, err := d.play("deploy.yml"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for i := 1; i <= 2; i++ {
		d.reportOf(address(i), key(i), "")
	}
	before := d.order()
	out, err := d.play("deploy.yml", "-e", "rotate_keys=1", "--check")
	d.mustSay(out, err, false, "every host makes a new key, its peers learn it, all switch to the new keys, all forget the old ones")
	if got, want := strings.TrimSpace(strings.TrimPrefix(d.order(), before)), "check check plan plan"; got != want {
		t.Errorf("asked the hosts for %s, wanted %s\n%s", got, want, out)
	}
}

// TestCheckOfABareHost: --check shows what the helper says of a host that does not
// have it, for what the inventory says, and leaves nothing there.
func TestCheckOfABareHost(t *testing.T) {
	d := newDeployer(t, 2)
	d.put(address(1), "report.json", strings.Replace(d.read(address(1), "report.json"), "{", `{"closed": ["udp/51000 is closed; ufw is active here"], `, 1))
	d.report(address(2), "/etc/resolv.conf: found it immutable")
	d.inventory("    publish: [80, 'udp/53']\n    wireguard_port: 51000\n", address(1), address(2))
	out, err := d.play("deploy.yml", "--check")
	d.mustSay(out, err, true, "a new host: packages, helper, keys, then the whole network", "192.0.2.2: refused: /etc/resolv.conf: found it immutable", "udp/51000 is closed; ufw is active here")
	const want = "check --host --json --uplink= --uplink-mode= --open-firewall=false --resolver= --wireguard-port=51000 --publish=80,udp/53 --upstream-dns= --access-address=auto --wire-network=10.30.0.0/16 --access-network=10.31.0.0/16 --packages-brought=false\n"
	if got := d.read(address(1), "asked"); got != want {
		t.Errorf("asked for %q, wanted %q\n%s", got, want, out)
	}
	if left, _ := filepath.Glob(filepath.Join(d.hosts, address(1), "usr/local/*/*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
