//go:build ansible

package playbooks_test

import (
	"strings"
	"testing"
)

// TestRolesTakeWhatTheHelperTakes: nothing refuses what the helper accepts (null, numbers
// in strings, one item for a list), or looks at it once more for each host and role.
func TestRolesTakeWhatTheHelperTakes(t *testing.T) {
	d := newDeployer(t, 2)
	d.inventory(`    endpoint: ~
    wireguard_port: '51000'
    uplink: ~
    uplink_mode: ~
    open_firewall: 'No'
    resolver: ~
    access_address: ~
    upstream_dns: 198.51.100.53
    publish: 443
    underlay_mtu: '1500'
    confirm_timeout: 90
    preshared_keys: 'TRUE'
    metrics: 'no'
    metrics_per_peer: ~
    map_for_guests: 'no'
    mobula_packages: ~
    wire_network: ~
    access_network: 10.31.0.0/16
`, address(1), address(2))
	out, err := d.play("deploy.yml")
	d.mustSay(out, err, false)
	if got := d.deployed(); got != address(1)+" "+address(2) {
		t.Errorf("deployed: %q\n%s", got, out)
	}
	if strings.Contains(out, "Validating arguments") {
		t.Errorf("Ansible checks the roles' arguments again, a task a role and host\n%s", out)
	}
}
