package inventory

import (
	"bytes"
	"fmt"
	"testing"

	"gopkg.in/yaml.v3"
)

// TestLiterals: what Ansible's parser makes of a plain scalar was asked of PyYAML
// 6.0 itself.
func TestLiterals(t *testing.T) {
	tests := []struct{ literal, kind string }{
		{"10", ""}, {"0", ""}, {"-3", ""}, {"51820", ""}, {"alice.example.com", ""}, {"192.0.2.1", ""}, {"udp/53", ""},
		{"08", ""}, {"09_1", ""}, {"1:99", ""}, {"0:30", ""}, // texts, refused where a number is wanted
		{"'010'", ""}, {`"53:53"`, ""}, {"!!str 010", ""}, {"120s", ""}, {"1e3", ""}, {"0o10", ""}, {"eth0", ""}, {"y", ""}, {"auto", ""},
		{"010", "an octal number"}, {"0443", "an octal number"}, {"00", "an octal number"}, {"-010", "an octal number"},
		{"0x1f", "a hexadecimal number"}, {"0b11", "a binary number"},
		{"53:53", "a number to the base of 60"}, {"1:2:3", "a number to the base of 60"}, {"1:30.5", "a number to the base of 60"},
		{"1_000", "a number with a sign or underscores"}, {"+5", "a number with a sign or underscores"},
		{"1.0", "a fraction"}, {"1.", "a fraction"}, {".5", "a fraction"}, {"1.5e+3", "a fraction"}, {".inf", "a fraction"}, {".nan", "a fraction"},
		{"yes", "a truth value"}, {"On", "a truth value"}, {"FALSE", "a truth value"},
		{"2026-11-28", "a date"}, {"2026-11-28 10:00:00", "a date"},
	}
	for _, tt := range tests {
		for _, form := range []string{"a: %s", "a: [%s]"} {
			var root yaml.Node
			if err := yaml.Unmarshal([]byte(fmt.Sprintf(form, tt.literal)), &root); err != nil {
				t.Fatal(err)
			}
			n := root.Content[0].Content[1]
			if n.Kind == yaml.SequenceNode {
				n = n.Content[0]
			}
			if got := misread(n); got != tt.kind {
				t.Errorf("%s: %q, wanted %q", n.Value, got, tt.kind)
			}
		}
	}
}

func TestMisreadLiteralsAreRefused(t *testing.T) {
	dir := t.TempDir()
	source := write(t, dir, "hosts.yml", `all:
  vars: {wireguard_port: 0x1F90, preshared_keys: yes}
  hosts:
    192.0.2.1:
      host_id: 010
      hostname: 'h1.example.com'
      publish: 0443
    192.0.2.2: &two
      host_id: 2
      hostname: 'h2.example.com'
      publish: [80, 53:53, "udp/53"]
      underlay_mtu: 1_500
    192.0.2.8:
      <<: *two
      host_id: 8
      uplink: on
`)
	write(t, dir, "group_vars/all/timeouts.yml", "confirm_timeout: 2:30\n")
	write(t, dir, "host_vars/192.0.2.2.yml", "# of this host\nhost_id: 02\n")
	write(t, dir, "host_vars/192.0.2.9/vars", "publish: 0x50\n")
	write(t, dir, "group_vars/broken.yml", "a: [\n")
	write(t, dir, "group_vars/secret.yml", "$ANSIBLE_VAULT;1.1;AES256\n3132\n")
	host := func(name string, id int, publish any) vars {
		return vars{"name": name, "vars": vars{"host_id": id, "hostname": fmt.Sprintf("h%d.example.com", id), "publish": publish,
			"wireguard_port": 8080, "confirm_timeout": 150, "preshared_keys": true}}
	}
	resolved := resolvedHosts(host("192.0.2.1", 8, 291), host("192.0.2.2", 2, []any{80, 3233, "udp/53"}), host("192.0.2.8", 8, 80))
	resolved = bytes.Replace(resolved, []byte("h8."), []byte("h1."), 1)
	const want = ", wanted a plain decimal number, or the text in quotes"
	wantLines(t, mustFail(t, dir, Input{Resolved: resolved, Sources: []string{source}}), []string{
		"group_vars/all/timeouts.yml:1: confirm_timeout: found 2:30, which Ansible reads as a number to the base of 60" + want,
		"host_vars/192.0.2.2.yml:2: 192.0.2.2: host_id: found 02, which Ansible reads as an octal number" + want,
		"host_vars/192.0.2.9/vars:1: 192.0.2.9: publish: found 0x50, which Ansible reads as a hexadecimal number" + want,
		"hosts.yml:2: wireguard_port: found 0x1F90, which Ansible reads as a hexadecimal number" + want,
		"hosts.yml:5: 192.0.2.1: host_id: found 010, which Ansible reads as an octal number" + want,
		"hosts.yml:7: 192.0.2.1: publish: found 0443, which Ansible reads as an octal number" + want,
		"hosts.yml:11: 192.0.2.2: publish: found 53:53, which Ansible reads as a number to the base of 60" + want,
		"hosts.yml:11: 192.0.2.8: publish: found 53:53, which Ansible reads as a number to the base of 60" + want,
		"hosts.yml:12: 192.0.2.2: underlay_mtu: found 1_500, which Ansible reads as a number with a sign or underscores" + want,
		"hosts.yml:12: 192.0.2.8: underlay_mtu: found 1_500, which Ansible reads as a number with a sign or underscores" + want,
		"hosts.yml:16: 192.0.2.8: uplink: found on, which Ansible reads as a truth value, wanted the text in quotes",
	})
}

func TestMisreadLiteralsInINI(t *testing.T) {
	dir := t.TempDir()
	source := write(t, dir, "hosts.ini", "# host_id=0x1\n[all]\n192.0.2.1 host_id=0x10 hostname=h16.example.com publish=\"1_443\"\n192.0.2.2 host_id=2 my_host_id=0x2\n[all:vars]\nwireguard_port = 0b11\n")
	resolved := resolvedHosts(vars{"name": "192.0.2.1", "vars": vars{"host_id": 16, "hostname": "h16.example.com"}})
	wantLines(t, mustFail(t, dir, Input{Resolved: resolved, Sources: []string{source}}), []string{
		"hosts.ini:3: host_id: found 0x10, which Ansible reads as another number, wanted a plain decimal number",
		"hosts.ini:3: publish: found 1_443, which Ansible reads as another number, wanted a plain decimal number",
		"hosts.ini:6: wireguard_port: found 0b11, which Ansible reads as another number, wanted a plain decimal number",
	})
}
