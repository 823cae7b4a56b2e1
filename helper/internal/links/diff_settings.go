package links

import (
	"errors"
	"fmt"
	"strings"

	"mobula/helper/internal/reconcile"
	"mobula/helper/internal/spec"
)

// withLikes are the settings with those whose values others get.
func withLikes(all []spec.Setting) []spec.Setting {
	for _, s := range all {
		if s.Like != "" {
			all = append(all[:len(all):len(all)], spec.Setting{NS: s.NS, Key: s.Like})
		}
	}
	return all
}

// like returns the plan with the values of settings that are to be like others.
func like(want *spec.Host, have *State) *spec.Host {
	with := *want
	with.Settings = nil
	for _, s := range want.Settings {
		if s.Like != "" {
			s.Value, s.Like = have.Settings[SettingKey{s.NS, s.Like}], ""
		}
		with.Settings = append(with.Settings, s)
	}
	return &with
}

// interfaceOf returns the name of the interface whose setting it is, such as eth0 of
// net/ipv4/conf/eth0/forwarding; "" where it is none of a single one.
func interfaceOf(key string) string {
	parts := strings.Split(key, "/")
	if len(parts) != 5 || parts[3] == "all" || parts[3] == "default" {
		return ""
	}
	return parts[3]
}

// settings are those of namespaces, and then those of interfaces that are not the
// plan's: for one that is nowhere there is nothing to do.
func (d *differ) settings() {
	var single []spec.Setting
	for _, s := range d.want.Settings {
		switch {
		case interfaceOf(s.Key) != "" || s.NIC != "":
			single = append(single, s)
		case d.found(s) != s.Value:
			d.changeSetting(reconcile.StepSettings, s)
			d.reforwarded[s.NS] = d.reforwarded[s.NS] || forwardsAll(s.Key)
		}
	}
	for _, s := range single {
		_, there := d.have.Settings[SettingKey{s.NS, s.Key}]
		if !d.isOfLink(s) && !d.isOfNIC(s) && (there || s.NIC == "") && (d.found(s) != s.Value || d.isReset(s)) {
			d.changeSetting(reconcile.StepSettings, s)
		}
	}
}

// linkSettings are those of the plan's own links. A new link has none of them.
func (d *differ) linkSettings() {
	for _, s := range d.want.Settings {
		anew := d.remade[LinkKey{s.NS, interfaceOf(s.Key)}]
		if d.isOfLink(s) && (anew || d.found(s) != s.Value || d.isReset(s)) {
			d.changeSetting(reconcile.StepAddresses, s)
		}
	}
}

// found returns the value of a setting, "" where there is none.
func (d *differ) found(s spec.Setting) string { return d.have.Settings[SettingKey{s.NS, s.Key}] }

func (d *differ) changeSetting(step reconcile.Step, s spec.Setting) {
	detail := "→ " + s.Value
	if found := d.found(s); found != "" && found != s.Value {
		detail = found + " " + detail
	}
	d.add(step, reconcile.Change, "setting "+s.Key, detail, func() error { return d.kernel.Set(s) })
}

// isOfLink reports a setting of a link that the plan makes.
func (d *differ) isOfLink(s spec.Setting) bool {
	for _, l := range d.want.Links {
		if l.NS == s.NS && l.Name == interfaceOf(s.Key) && l.Kind != spec.Physical {
			return true
		}
	}
	return false
}

// isOfNIC reports a setting of a NIC of the plan, see nicSettings.
func (d *differ) isOfNIC(s spec.Setting) bool {
	for _, l := range d.want.Links {
		if l.Name == s.NIC && l.Kind == spec.Physical {
			return true
		}
	}
	return false
}

// forwardsAll reports a setting whose change sets forwarding of each interface
// (inet_forward_change and addrconf_fixup_forwarding in the kernel).
func forwardsAll(key string) bool {
	return key == "net/ipv4/ip_forward" || key == "net/ipv4/conf/all/forwarding" || key == "net/ipv6/conf/all/forwarding"
}

// isReset reports a setting of an interface that another change of this run overwrites.
func (d *differ) isReset(s spec.Setting) bool {
	return d.reforwarded[s.NS] && interfaceOf(s.Key) != "" && strings.HasSuffix(s.Key, "/forwarding")
}

// nicSettings gives the NIC its own settings back: moving resets them (inetdev_init,
// ipv6_add_dev in the kernel). All but one before it is set up.
func (d *differ) nicSettings(link spec.Link, there bool) {
	all := d.lostSettings(link, there, func(s spec.Setting) bool { return !isIPv6MTU(s.Key) })
	if len(all) == 0 {
		return
	}
	moved := link
	moved.Down = true
	if !there {
		d.add(reconcile.StepUplink, reconcile.Change, "link "+link.Name, "moves into "+namespaceName(link.NS)+", still down", func() error { return d.kernel.SetLink(moved) })
		d.ops[len(d.ops)-1].Reconnects = true
	}
	d.set(link, all, fmt.Sprintf("%d as they were", len(all)))
}

// lateNICSettings are for a NIC that is up: the kernel gives IPv6 the link's MTU again
// when the link is ready (addrconf_notify).
func (d *differ) lateNICSettings(link spec.Link, there bool) {
	if all := d.lostSettings(link, there, func(s spec.Setting) bool { return isIPv6MTU(s.Key) }); len(all) > 0 {
		d.set(link, all, "IPv6's MTU as it was")
	}
}

// lostSettings are the settings of the NIC that it lacks, or will when it has moved.
func (d *differ) lostSettings(link spec.Link, there bool, those func(spec.Setting) bool) (all []spec.Setting) {
	for _, s := range d.want.Settings {
		if found, ok := d.have.Settings[SettingKey{s.NS, s.Key}]; s.NIC == link.Name && those(s) && (!there || ok && (found != s.Value || d.isReset(s))) {
			all = append(all, s)
		}
	}
	return all
}

func isIPv6MTU(key string) bool {
	return strings.HasPrefix(key, "net/ipv6/conf/") && strings.HasSuffix(key, "/mtu")
}

func (d *differ) set(link spec.Link, all []spec.Setting, detail string) {
	d.add(reconcile.StepUplink, reconcile.Change, "settings of "+link.Name, detail, func() (err error) {
		for _, s := range all {
			err = errors.Join(err, d.kernel.Set(s))
		}
		return err
	})
}
