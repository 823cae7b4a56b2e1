package linkstest

import (
	"fmt"
	"net/netip"
	"strings"
	"syscall"

	"mobula/helper/internal/links"
	"mobula/helper/internal/spec"
)

// AddLink implements links.Kernel.
func (k *Kernel) AddLink(link spec.Link, peer *spec.Link) error {
	for _, l := range []*spec.Link{&link, peer} {
		if l == nil {
			continue
		}
		if l.NS != "" && !k.namespaces[l.NS] {
			return syscall.ENOENT
		}
		if err := k.DeleteLink(links.LinkKey{NS: l.NS, Name: l.Name}); err != nil {
			return err
		}
	}
	k.Changes++
	switch link.Kind {
	case spec.Veth:
		a, b := k.addDevice(link), k.addDevice(*peer)
		a.other, b.other = b, a
		if err := k.SetLink(*peer); err != nil {
			return err
		}
	case spec.Bridge, spec.WireGuardDevice:
		k.addDevice(link)
		if link.Underlay && link.Kind == spec.WireGuardDevice {
			return k.bornInHost(link)
		}
	default:
		return fmt.Errorf("link %s: a link of kind %q cannot be made", link.Name, link.Kind)
	}
	return k.SetLink(link)
}

// bornInHost finishes a WireGuard device that was made from the host's own namespace.
func (k *Kernel) bornInHost(link spec.Link) error {
	key := links.LinkKey{NS: link.NS, Name: link.Name}
	k.devices[key].born = ""
	if k.Killed != nil && k.Killed() {
		return syscall.EINTR
	}
	k.SetAlias(key, links.UnderlayAlias)
	return k.SetLink(link)
}

// SetAlias does what `ip link set … alias` does.
func (k *Kernel) SetAlias(key links.LinkKey, alias string) {
	if d := k.devices[key]; d != nil {
		k.Changes++
		d.alias = alias
	}
}

// Socket returns the namespace where the UDP socket of a WireGuard device is: where it
// was made, wherever it has moved (creating_net in drivers/net/wireguard/device.c).
func (k *Kernel) Socket(key links.LinkKey) (namespace string, found bool) {
	d := k.devices[key]
	if d == nil || d.Kind != spec.WireGuardDevice {
		return "", false
	}
	return d.born, true
}

// AddInternal makes the port of a switch that is an interface of the host.
func (k *Kernel) AddInternal(link spec.Link) error {
	if !k.namespaces[link.NS] {
		return syscall.ENOENT
	}
	if d := k.devices[links.LinkKey{NS: link.NS, Name: link.Name}]; d != nil {
		d.MAC, d.MTU = link.MAC, link.MTU
		return nil
	}
	link.Kind = spec.Internal
	k.addDevice(link)
	return nil
}

// SetLink implements links.Kernel.
func (k *Kernel) SetLink(link spec.Link) error {
	k.Changes++
	if link.Kind == spec.Physical && (link.NS == "" || k.devices[links.LinkKey{NS: link.NS, Name: link.Name}] == nil) {
		for _, ns := range []string{"", spec.Namespace} {
			if d := k.devices[links.LinkKey{NS: ns, Name: link.Name}]; d != nil && ns != link.NS {
				if link.NS != "" && !k.namespaces[link.NS] {
					return syscall.ENOENT
				}
				if err := k.move(d, link.NS); err != nil {
					return err
				}
			}
		}
	}
	d, err := k.device(links.LinkKey{NS: link.NS, Name: link.Name})
	if err != nil {
		return err
	}
	if link.MTU != 0 && d.MTU != link.MTU && d.Kind != spec.Internal {
		d.MTU, d.chosen = link.MTU, true
		k.follow(d.NS, d.Master)
	}
	if link.MAC != nil {
		d.MAC = link.MAC
	}
	if err := k.setMaster(d, link); err != nil {
		return err
	}
	if !d.up && !link.Down {
		d.up = true
		for _, a := range d.addresses { // fib_netdev_event
			k.addPrefixRoute(d, a)
		}
	}
	return nil
}

func (k *Kernel) setMaster(d *device, link spec.Link) error {
	if link.Master == d.Master || link.Master == "" && link.Free {
		return nil
	}
	if link.Master != "" {
		bridge := k.devices[links.LinkKey{NS: d.NS, Name: link.Master}]
		if bridge == nil || bridge.Kind != spec.Bridge {
			return syscall.ENODEV
		}
	}
	before := d.Master
	d.Master = link.Master
	k.follow(d.NS, before)
	k.follow(d.NS, d.Master)
	return nil
}

// RenameLink implements links.Kernel: dev_change_name of kernels before 6.3, after
// the link was taken down.
func (k *Kernel) RenameLink(key links.LinkKey, name string) error {
	d, err := k.device(key)
	if err != nil {
		return err
	}
	if k.devices[links.LinkKey{NS: key.NS, Name: name}] != nil {
		return syscall.EEXIST
	}
	k.Changes++
	k.SetDown(key)
	delete(k.devices, key)
	for i := range d.addresses {
		d.addresses[i].Link = name
	}
	for setting, value := range k.settings {
		if isOf(setting.Key, d.Name) && setting.NS == d.NS {
			delete(k.settings, setting)
			k.settings[links.SettingKey{NS: d.NS, Key: strings.Replace(setting.Key, "/"+d.Name+"/", "/"+name+"/", 1)}] = value
		}
	}
	d.Name = name
	k.devices[d.key()] = d
	return nil
}

// DeleteLink implements links.Kernel.
func (k *Kernel) DeleteLink(key links.LinkKey) error {
	d := k.devices[key]
	if d == nil {
		return nil
	}
	if d.Kind == spec.Physical || d.Kind == spec.Loopback {
		return syscall.EOPNOTSUPP
	}
	k.Changes++
	k.remove(d)
	return nil
}

// SetDown takes a link down, as `ip link set … down` does.
func (k *Kernel) SetDown(key links.LinkKey) {
	if d := k.devices[key]; d != nil {
		d.up = false
		k.flush(d)
	}
}

// SetNeighbors implements links.Kernel.
func (k *Kernel) SetNeighbors(key links.LinkKey, come, leave []spec.Neighbor) error {
	d, err := k.device(key)
	if err != nil {
		return err
	}
	k.Changes++
	if d.neighbors == nil {
		d.neighbors = map[netip.Addr][6]byte{}
	}
	for _, n := range leave {
		delete(d.neighbors, n.Address)
	}
	for _, n := range come {
		d.neighbors[n.Address] = n.MAC
	}
	return nil
}

// Flush takes a link down and all addresses off it, as `ip addr flush` does.
func (k *Kernel) Flush(name string) {
	k.SetDown(links.LinkKey{Name: name})
	if d := k.devices[links.LinkKey{Name: name}]; d != nil {
		gone := d.addresses
		d.addresses = nil
		k.forgetSource("", gone)
	}
}

// Own returns the names of the links in the host's own namespace, and the addresses
// of one.
func (k *Kernel) Own(of string) (names []string, addresses []netip.Prefix, err error) {
	for _, d := range k.in("") {
		names = append(names, d.Name)
	}
	d, err := k.device(links.LinkKey{Name: of})
	if err != nil {
		return names, nil, err
	}
	for _, a := range d.addresses {
		addresses = append(addresses, a.Prefix)
	}
	return names, addresses, nil
}

// AddRule implements links.Kernel. Rules of one priority may differ.
func (k *Kernel) AddRule(r spec.Rule) error {
	k.Changes++
	k.rules[r] = true
	return nil
}

// DeleteRule implements links.Kernel.
func (k *Kernel) DeleteRule(r spec.Rule) error {
	k.Changes++
	delete(k.rules, r)
	return nil
}

// DeleteInternal removes what AddInternal made.
func (k *Kernel) DeleteInternal(ns, name string) error {
	return k.DeleteLink(links.LinkKey{NS: ns, Name: name})
}
