package linkstest

import (
	"strings"
	"syscall"

	"mobula/helper/internal/links"
	"mobula/helper/internal/spec"
)

var ipv6Off = links.SettingKey{Key: "net/ipv6/conf/default/disable_ipv6"}

// defaults are the settings of a new namespace.
func (k *Kernel) defaults(ns string) {
	k.settings[links.SettingKey{NS: ns, Key: "net/ipv4/ip_forward"}] = "0"
	for _, conf := range []string{"all", "default"} {
		k.settings[links.SettingKey{NS: ns, Key: "net/ipv6/conf/" + conf + "/disable_ipv6"}] = "0"
		for _, name := range []string{"arp_ignore", "arp_announce", "rp_filter", "forwarding"} {
			k.settings[links.SettingKey{NS: ns, Key: "net/ipv4/conf/" + conf + "/" + name}] = "0"
		}
		for _, name := range []string{"accept_redirects", "send_redirects"} {
			k.settings[links.SettingKey{NS: ns, Key: "net/ipv4/conf/" + conf + "/" + name}] = "1"
		}
	}
}

// inherit gives a link the settings of a new interface of its namespace
// (inetdev_init and ipv6_add_dev; also after a move, addrconf and devinet see an
// interface unregistered and registered).
func (k *Kernel) inherit(d *device) {
	k.forgetSettings(d)
	for key, value := range k.settings {
		if isOf(key.Key, "default") && key.NS == d.NS {
			k.settings[links.SettingKey{NS: d.NS, Key: strings.Replace(key.Key, "/default/", "/"+d.Name+"/", 1)}] = value
		}
	}
}

// forgetSettings removes those of a link that leaves its namespace.
func (k *Kernel) forgetSettings(d *device) {
	for key := range k.settings {
		if isOf(key.Key, d.Name) && key.NS == d.NS {
			delete(k.settings, key)
		}
	}
}

// isOf reports that a setting is that of an interface.
func isOf(key, name string) bool {
	parts := strings.Split(key, "/")
	return len(parts) == 5 && parts[3] == name
}

// Set implements links.Kernel.
func (k *Kernel) Set(s spec.Setting) error {
	key := links.SettingKey{NS: s.NS, Key: s.Key}
	if _, ok := k.settings[key]; !ok {
		return syscall.ENOENT
	}
	k.Changes++
	before := k.settings[key]
	k.settings[key] = s.Value
	if s.Key == ipForward || s.Key == forwardAll {
		k.forward(s.NS, s.Value, before != s.Value)
	}
	return nil
}

// net/ipv4/ip_forward is another name of the other one (devinet_init_net).
const ipForward, forwardAll = "net/ipv4/ip_forward", "net/ipv4/conf/all/forwarding"

// forward does what follows on a change of either (inet_forward_change): a router does
// not accept redirects, and each interface there is and will be does the same.
func (k *Kernel) forward(ns, value string, changed bool) {
	k.settings[links.SettingKey{NS: ns, Key: ipForward}], k.settings[links.SettingKey{NS: ns, Key: forwardAll}] = value, value
	k.settings[links.SettingKey{NS: ns, Key: "net/ipv4/conf/all/accept_redirects"}] = map[string]string{"0": "1", "1": "0"}[value]
	for key := range k.settings {
		if changed && key.NS == ns && strings.HasPrefix(key.Key, "net/ipv4/conf/") && strings.HasSuffix(key.Key, "/forwarding") {
			k.settings[key] = value
		}
	}
}
