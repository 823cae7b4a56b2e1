//go:build ansible

package playbooks_test

import (
	"strings"
	"testing"
)

// TestOtherRanges: wire_network and access_network go to every host and into the
// document; what is wrong with them, or another network later on, stops the deploy before
// any host is asked.
func TestOtherRanges(t *testing.T) {
	d := newDeployer(t, 2)
	const ranges = "    wire_network: 10.98.0.0/16\n    access_network: 172.20.0.0/16\n"
	untouched := func(what string, texts ...string) {
		t.Helper()
		before := d.order()
		out, err := d.play("deploy.yml")
		d.mustSay(out, err, true, append(texts, "nothing was changed")...)
		if got := d.order(); got != before {
			t.Errorf("%s: asked the hosts for %q", what, strings.TrimPrefix(got, before))
		}
	}
	d.inventory("    wire_network: 10.98.0.0/20\n    access_network: 10.31.1.0/16\n", address(1), address(2))
	untouched("no /16", `wire_network: found "10.98.0.0/20", wanted an IPv4 network of 16 bits such as 10.98.0.0/16`,
		`access_network: found "10.31.1.0/16", wanted an IPv4 network of 16 bits such as 10.98.0.0/16`)

	d.inventory(ranges, address(1), address(2))
	d.folder("host_vars")
	d.write("host_vars/"+address(2)+".yml", "wire_network: 10.99.0.0/16\n")
	untouched("two that differ", `192.0.2.2: wire_network: found "10.99.0.0/16", and "10.98.0.0/16" of 192.0.2.1, wanted the same for all hosts, under all: vars`)
	d.write("host_vars/"+address(2)+".yml", "---\n")

	d.report(address(2), "interface eth1: found address 10.98.7.7/24, wanted 10.98.0.0/16 to be free (the variable wire_network names another network for all hosts; uninstall those first that are deployed already)")
	out, err := d.play("deploy.yml", "--check")
	d.mustSay(out, err, true, "192.0.2.2: refused: interface eth1: found address 10.98.7.7/24, wanted 10.98.0.0/16 to be free (the variable wire_network names another network for all hosts; uninstall those first that are deployed already)")
	if got := d.read(address(1), "asked"); !strings.Contains(got, " --wire-network=10.98.0.0/16 --access-network=172.20.0.0/16 ") {
		t.Errorf("asked for %q", got)
	}
	if got := d.deployed(); got != "" {
		t.Errorf("deployed: %q", got)
	}

	d.report(address(2), "")
	if out, err := d.play("deploy.yml"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if got := d.read(address(1), "network.json"); !strings.Contains(got, `"wire_network":"10.98.0.0/16","access_network":"172.20.0.0/16"`) {
		t.Errorf("the document: %s", got)
	}
	for i := 1; i <= 2; i++ {
		d.reportOf(address(i), key(i), "")
	}
	d.inventory("", address(1), address(2))
	untouched("renumbering", "wire_network: found 10.30.0.0/16, wanted 10.98.0.0/16, with which these hosts are deployed: addresses in use do not change",
		"access_network: found 10.31.0.0/16, wanted 172.20.0.0/16, with which these hosts are deployed")
}
