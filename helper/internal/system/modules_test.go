package system

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestMissingModules: what depmod(8) lists, /sys/module and generic netlink say.
func TestMissingModules(t *testing.T) {
	const release = "6.1.0-38-amd64"
	dep := "kernel/net/openvswitch/openvswitch.ko: kernel/net/nsh/nsh.ko\nkernel/net/openvswitch/vport-geneve.ko.xz:\nkernel/net/netfilter/nf_tables.ko:\nkernel/drivers/net/veth.ko:\n"
	lists := map[string]string{
		"lib/modules/" + release + "/modules.dep":     dep + "kernel/drivers/net/wireguard/wireguard.ko:\n",
		"lib/modules/" + release + "/modules.builtin": "kernel/net/ipv4/tunnel4.ko\n",
	}
	with := func(more map[string]string) map[string]string {
		all := map[string]string{}
		for _, some := range []map[string]string{lists, more} {
			for path, content := range some {
				all[path] = content
			}
		}
		return all
	}
	for name, c := range map[string]struct {
		files    map[string]string
		families string
		want     string // "": nothing is missing
	}{
		"as Debian has it":             {lists, "", ""},
		"without WireGuard":            {with(map[string]string{"lib/modules/" + release + "/modules.dep": dep}), "", "found no wireguard for the kernel " + release},
		"WireGuard of another's hands": {with(map[string]string{"lib/modules/" + release + "/modules.dep": dep}), "wireguard", ""},
		"built in": {with(map[string]string{"lib/modules/" + release + "/modules.dep": dep,
			"lib/modules/" + release + "/modules.builtin": "kernel/drivers/net/wireguard/wireguard.ko\n"}), "", ""},
		"none may be loaded": {with(map[string]string{"proc/sys/kernel/modules_disabled": "1\n"}), "", "wireguard, openvswitch, vport_geneve, nf_tables, veth"},
		"none more may be loaded": {with(map[string]string{"proc/sys/kernel/modules_disabled": "1\n", "sys/module/wireguard/refcnt": "", "sys/module/openvswitch/refcnt": "",
			"sys/module/vport_geneve/refcnt": "", "sys/module/nf_tables/refcnt": "", "sys/module/veth/refcnt": ""}), "", ""},
		"a kernel of one piece":               {map[string]string{}, "wireguard ovs_datapath", ""},
		"a container":                         {map[string]string{}, "", "found no wireguard, openvswitch and no "},
		"a container, and WireGuard is there": {map[string]string{"sys/module/wireguard/version": "1.0.0"}, "", "found no openvswitch and no "},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			for path, content := range c.files {
				path = filepath.Join(root, path)
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			known := func(family string) bool { return strings.Contains(c.families, family) }
			err := missingModules(root, release, known)
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("found %v, wanted %q", err, c.want)
			}
		})
	}
}
