//go:build ansible

package playbooks_test

import (
	"strings"
	"testing"
)

// TestStatus: all hosts say how they are; with mesh=1 the first one that can be reached says
// it of all, and one that is down is no error. Where none can be reached it is said.
func TestStatus(t *testing.T) {
	d := newDeployer(t, 3)
	if out, err := d.play("deploy.yml"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	out, err := d.play("playbooks/status.yml")
	d.mustSay(out, err, false, "status of 192.0.2.1: status", "status of 192.0.2.2: status", "status of 192.0.2.3: status")
	if strings.Contains(out, "--mesh") || strings.Contains(d.read("order"), "version 192.0.2.1\nversion 192.0.2.1") {
		t.Errorf("without mesh something else was asked\n%s", out)
	}
	d.put(address(1), "down", "")
	out, err = d.play("playbooks/status.yml", "-e", "mesh=1")
	d.mustSay(out, err, false, "status of 192.0.2.2: status --mesh")
	if strings.Count(out, "status of 192.") != 1 {
		t.Errorf("more than one host was asked about all\n%s", out)
	}
	d.put(address(2), "down", "")
	d.put(address(3), "down", "")
	out, err = d.play("playbooks/status.yml", "-e", "mesh=1")
	d.mustSay(out, err, true, "no host can be reached that has Mobula")
}
