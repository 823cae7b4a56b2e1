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
		"192.0.2.3: not reached", "not deployed, the others work without them", "how the hosts reach each other is not known: ")
	if got := d.deployed(); got != "192.0.2.1 192.0.2.4" {
		t.Errorf("deployed: %q\n%s", got, out)
	}
	if asked := d.read("sudo"); asked != "" {
		t.Errorf("on the deployer: %s", asked)
	}
	const want = "version version version check check check key key apply confirm apply confirm status"
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

// TestDeployerThatIsNoLinux: nothing of what Go would say of a helper that does not build.
func TestDeployerThatIsNoLinux(t *testing.T) {
	d := newDeployer(t, 1)
	d.put("deployer", "uname", "Darwin arm64\n")
	out, err := d.play("deploy.yml")
	d.mustSay(out, err, true, "nothing was changed", "the deployer: found Darwin, wanted Linux")
	if got := d.read("order"); got != "" {
		t.Errorf("a host was touched: %s", got)
	}
	if strings.Contains(out, "Build the helper") {
		t.Errorf("it was built\n%s", out)
	}
}

// TestDeployerWithoutGo: there is none, or one that is too old for the helper.
func TestDeployerWithoutGo(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(d *deployer)
		says    string
	}{
		"an old one": {func(d *deployer) { d.put("deployer", "old-go", "") }, "invalid go version '1.24.0'"},
		"none":       {func(d *deployer) { d.withoutGo() }, "go: not found"},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDeployer(t, 1)
			c.prepare(d)
			out, err := d.play("deploy.yml")
			d.mustSay(out, err, true, "nothing was changed", "wanted Go 1.24 or later on the deployer", c.says)
			if got := d.read("order"); got != "" {
				t.Errorf("a host was touched: %s", got)
			}
		})
	}
}

// TestConnectionsThatProveNothing: what is confirmed over a connection that is no
// SSH does not show that the operator gets in.
func TestConnectionsThatProveNothing(t *testing.T) {
	d := newDeployer(t, 2)
	d.inventory("    ansible_connection: local\n", address(1), address(2))
	out, err := d.play("deploy.yml")
	d.mustSay(out, err, true, `192.0.2.1: ansible_connection: found "local", wanted ssh`)
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
	d.inventory("    publish: [80, 'udp/53']\n    wireguard_port: 51000\n    endpoint: \"{{ 'none' if inventory_hostname == '192.0.2.1' else inventory_hostname }}\"\n", address(1), address(2))
	out, err := d.play("deploy.yml", "--check")
	d.mustSay(out, err, true, "a new host: packages, helper, keys, then the whole network", "192.0.2.2: refused: /etc/resolv.conf: found it immutable", "udp/51000 is closed; ufw is active here")
	const want = "check --host --json --uplink= --uplink-mode= --open-firewall=false --no-endpoint=true --resolver= --wireguard-port=51000 --publish=80,udp/53 --upstream-dns= --access-address=auto --wire-network=10.30.0.0/16 --access-network=10.31.0.0/16 --packages-brought=false\n"
	if got := d.read(address(1), "asked"); got != want {
		t.Errorf("asked for %q, wanted %q\n%s", got, want, out)
	}
	if left, _ := filepath.Glob(filepath.Join(d.hosts, address(1), "usr/local/*/*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestQuiet: a deploy says what changes and what fails, and of what does neither only
// how many hosts it was done on.
func TestQuiet(t *testing.T) {
	d := newDeployer(t, 4)
	d.put(address(3), "down", "")
	d.put(address(4), "arch", "armv6l\n")
	first, err := d.play("deploy.yml")
	d.mustSay(first, err, true, "  192.0.2.4: the network of this host was not changed, the others go on: found a processor armv6l, wanted one of x86_64, aarch64", "Prepare the hosts\n", "  192.0.2.1: Apply: changed\n",
		"  192.0.2.3: not reached: connect to host 192.0.2.3", "\n  192.0.2.3: has no key yet", "\n  192.0.2.1, 192.0.2.2: new, 1 change\n  not deployed, the others work without them:\n  192.0.2.3: not reached: connect to host 192.0.2.3 port 22: No route to host\n  192.0.2.4: refused: found a processor armv6l", "  192.0.2.1, 192.0.2.2: done, ", "192.0.2.3                  : ok=")
	for i := 1; i <= 2; i++ {
		d.put(address(i), "unchanged", "")
		d.reportOf(address(i), key(i), "")
		d.put(address(i), "mesh.json", meshOf(2))
	}
	again, err := d.play("deploy.yml", "--limit", address(1)+","+address(2))
	d.mustSay(again, err, false, "\nDeploy the network\n  192.0.2.1, 192.0.2.2: done, ", "\nSum up\n  192.0.2.1, 192.0.2.2: unchanged\n  192.0.2.1 and 192.0.2.2 reach each other\n\nPLAY RECAP", "192.0.2.1                  : ok=")
	for _, never := range []string{"skipping:", "ok: [", "included:", "TASK ["} {
		if strings.Contains(again, never) {
			t.Errorf("it says %q\n%s", never, again)
		}
	}
	if lines := strings.Count(again, "\n"); lines > 17 {
		t.Errorf("%d lines of which nothing is new, wanted 17 at most\n%s", lines, again)
	}
	loud, err := d.play("deploy.yml", "-v", "--limit", address(1))
	d.mustSay(loud, err, false, "PLAY [Prepare the hosts]", "skipping: [192.0.2.1]", "ok: [192.0.2.1]")
}

// TestKeyThatIsBoundToACommand: the host says why it runs nothing else, and the others are
// deployed, whatever its status.
func TestKeyThatIsBoundToACommand(t *testing.T) {
	d := newDeployer(t, 3)
	d.put(address(1), "bound", "0")
	d.put(address(2), "bound", "142")
	out, err := d.play("deploy.yml", "-e", "allow_alone=1")
	const says = `: the network of this host was not changed, the others go on: found Please login as the user "debian" rather than the user "root"., wanted a shell`
	d.mustSay(out, err, true, address(1)+says, address(2)+says, address(2)+": refused: found Please login")
	if got := d.deployed(); got != address(3) {
		t.Errorf("deployed: %q\n%s", got, out)
	}
}

// TestCheckOfTheFiles asks no host.
func TestCheckOfTheFiles(t *testing.T) {
	d := newDeployer(t, 2)
	out, err := d.play("playbooks/check.yml")
	d.mustSay(out, err, false, "nothing is wrong with them, 2 hosts", "192.0.2.1: has no key yet")
	d.inventory("    wiregaurd_port: 7\n", address(1), address(2))
	out, err = d.play("playbooks/check.yml")
	d.mustSay(out, err, true, "nothing was changed", "wiregaurd_port")
	if got := d.read("order"); got != "" {
		t.Errorf("a host was touched: %s", got)
	}
}
