//go:build ansible

package playbooks_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// helperOn puts the helper on a host, as a deploy did.
func (d *deployer) helperOn(host string) {
	d.Helper()
	program, err := os.ReadFile(filepath.Join(d.tools, "helper"))
	if err != nil {
		d.Fatal(err)
	}
	const path = "usr/local/sbin/mobula"
	d.put(host, path, string(program))
	if err := os.Chmod(filepath.Join(d.hosts, host, path), 0o755); err != nil {
		d.Fatal(err)
	}
}

// contacted are the hosts on which something ran since the last call, by their names.
func (d *deployer) contacted() string {
	d.Helper()
	names := map[string]bool{}
	all := []string{}
	for _, line := range strings.Split(strings.TrimSpace(d.read("order")), "\n") {
		if what, host, _ := strings.Cut(line, " "); what == "status" && !names[host] {
			names[host], all = true, append(all, host)
		}
	}
	d.put("", "order", "")
	return strings.Join(all, " ")
}

// TestStatus: the first host that answers says how the network is, and nobody else is
// contacted; who is down is no error. Where none answers it is said.
func TestStatus(t *testing.T) {
	d := newDeployer(t, 7)
	for i := 1; i <= 7; i++ {
		d.helperOn(address(i))
	}
	out, err := d.play("playbooks/status.yml")
	d.mustSay(out, err, false, "Show how the network is\n  status of 192.0.2.1: status --mesh\n\nPLAY RECAP")
	if got := d.contacted(); got != address(1) || strings.Count(out, "192.0.2.1") != 2 {
		t.Errorf("contacted %s\n%s", got, out)
	}

	d.put(address(1), "down", "")
	d.put(address(2), "mute", "")
	d.put(address(3), "down", "")
	d.put(address(5), "mesh.json", meshOf(3))
	out, err = d.play("playbooks/status.yml", "-e", "mesh=1") // as it was called when it was not the default
	d.mustSay(out, err, false, "  192.0.2.1: not reached: connect to host 192.0.2.1", "  192.0.2.2: no answer: mobula status: asking this host's agent about the network: no such file",
		"  192.0.2.3: not reached: ", "\n  status of 192.0.2.4: status --mesh\n")
	if got := d.contacted(); strings.Contains(got, address(6)) || strings.Contains(got, address(7)) || strings.Count(out, "status of 192.") != 1 || strings.Count(out, "Show how") != 1 {
		t.Errorf("contacted %s\n%s", got, out)
	}

	d.put(address(4), "down", "")
	out, err = d.play("playbooks/status.yml", "-e", "json=1")
	d.mustSay(out, err, false, "\n{\n  \"", "\n      \"host_id\": 3", "\n}\n")

	for i := 5; i <= 7; i++ {
		d.put(address(i), "down", "")
	}
	d.contacted()
	out, err = d.play("playbooks/status.yml")
	d.mustSay(out, err, true, "  192.0.2.7: not reached: ", "no host answers that has Mobula")
}

// TestStatusOfEachHost: all hosts say how they are themselves.
func TestStatusOfEachHost(t *testing.T) {
	d := newDeployer(t, 3)
	for i := 1; i <= 3; i++ {
		d.helperOn(address(i))
	}
	d.put(address(2), "down", "")
	out, err := d.play("playbooks/status.yml", "-e", "each_host=1")
	d.mustSay(out, err, true, "  192.0.2.1: status of 192.0.2.1: status\n", "  192.0.2.2: not reached: ", "  192.0.2.3: status of 192.0.2.3: status\n")
	if strings.Contains(out, "--mesh") {
		t.Errorf("the network was asked about\n%s", out)
	}
}
