// Package linkstest has a kernel for tests: it holds state, keeps the rules that
// matter to Mobula as strictly as Linux does, and renders itself as text.
package linkstest

import (
	"net"
	"net/netip"
	"strconv"
	"syscall"

	"mobula/helper/internal/links"
	"mobula/helper/internal/plan"
	"mobula/helper/internal/spec"
)

// Kernel implements links.Kernel. It starts with the host's own namespace and a
// loopback in it.
type Kernel struct {
	// Occupied tells that processes live in a namespace: what is in it then
	// outlives its name.
	Occupied func(namespace string) bool
	// Changes counts the calls that changed something.
	Changes int
	// Killed, if it is set, tells that whoever makes a WireGuard device is killed before
	// its alias is set.
	Killed func() bool

	namespaces map[string]bool
	devices    map[links.LinkKey]*device
	routes     []spec.Route // in the order in which they count
	rules      map[spec.Rule]bool
	settings   map[links.SettingKey]string
	lost       int // namespaces that have lost their name
}

type device struct {
	spec.Link
	up        bool
	addresses []address
	other     *device                // end of a veth pair
	neighbors map[netip.Addr][6]byte // permanent ones
	// chosen tells that the MTU of a bridge does not follow its ports any more.
	chosen bool
	alias  string
	// born is the namespace in which it was made, and moves is how often it left one.
	born  string
	moves int
}

type address struct {
	spec.Address
	secondary bool
}

func (d *device) key() links.LinkKey { return links.LinkKey{NS: d.NS, Name: d.Name} }

// New returns a kernel that has just booted.
func New() *Kernel {
	k := &Kernel{Occupied: func(string) bool { return false }}
	k.forget()
	return k
}

func (k *Kernel) forget() {
	k.namespaces, k.devices = map[string]bool{}, map[links.LinkKey]*device{}
	k.routes, k.rules, k.settings = nil, map[spec.Rule]bool{}, map[links.SettingKey]string{}
	k.defaults("")
	lo := k.addDevice(spec.Link{Name: "lo", Kind: spec.Loopback, MTU: 65536})
	lo.up, lo.addresses = true, []address{{Address: spec.Address{Link: "lo", Prefix: netip.MustParsePrefix("127.0.0.1/8")}}}
}

// Reboot leaves the physical links only, in the host's own namespace, down and
// without any configuration.
func (k *Kernel) Reboot() {
	old := k.devices
	k.forget()
	for _, d := range old {
		if d.Kind == spec.Physical {
			k.addDevice(spec.Link{Name: d.Name, Kind: spec.Physical, MAC: d.MAC, MTU: 1500, NIC: d.NIC})
		}
	}
}

// Replace makes a NIC appear with another name or as another card in the same place,
// as after a reboot; "" is one that was not there, or is not any more.
func (k *Kernel) Replace(old, name string, card net.HardwareAddr) {
	device := "0000:00:04.0"
	if d := k.devices[links.LinkKey{Name: old}]; d != nil {
		device = d.NIC.Device
		delete(k.devices, d.key())
	}
	if name != "" {
		k.addDevice(spec.Link{Name: name, Kind: spec.Physical, MAC: card, MTU: 1500, NIC: spec.NIC{MAC: card, Device: device}})
	}
}

// Configure does what a host's network manager does with the NIC; it makes the
// NIC if there is none. If the NIC is not in the host's own namespace it fails.
func (k *Kernel) Configure(f *spec.Facts) error {
	if k.find(f.Uplink) == nil {
		k.addDevice(spec.Link{Name: f.Uplink, Kind: spec.Physical, MAC: f.MAC, MTU: 1500, NIC: spec.NIC{MAC: f.MAC, Device: "0000:00:03.0"}})
	}
	d, err := k.device(links.LinkKey{Name: f.Uplink})
	if err != nil {
		return err
	}
	d.MTU, d.up = f.MTU, true
	h := plan.Without(*f)
	for _, s := range h.Settings {
		if err := k.Set(s); err != nil {
			return err
		}
	}
	for _, a := range h.Addresses {
		a.Uplink = false
		if err := k.AddAddress(a); err != nil {
			return err
		}
	}
	for _, r := range h.Routes {
		if err := k.AddRoute(r); err != nil {
			return err
		}
	}
	for _, r := range h.Absent {
		if err := k.DeleteRoute(r); err != nil {
			return err
		}
	}
	return nil
}

func (k *Kernel) addDevice(link spec.Link) *device {
	d := &device{Link: link, born: link.NS}
	d.Free, d.Down, d.Underlay, d.Master, d.Peer = false, false, false, "", ""
	k.devices[d.key()] = d
	k.inherit(d)
	return d
}

func (k *Kernel) device(key links.LinkKey) (*device, error) {
	if key.NS != "" && !k.namespaces[key.NS] {
		return nil, syscall.ENOENT
	}
	if d := k.devices[key]; d != nil {
		return d, nil
	}
	return nil, syscall.ENODEV
}

// find returns the named link wherever it is, first in the gateway's namespace.
func (k *Kernel) find(name string) *device {
	if d := k.devices[links.LinkKey{NS: spec.Namespace, Name: name}]; d != nil {
		return d
	}
	for key, d := range k.devices {
		if key.Name == name {
			return d
		}
	}
	return nil
}

// flush removes the routes over a link, and its neighbors, permanent ones too
// (neigh_ifdown).
func (k *Kernel) flush(d *device) {
	d.neighbors = nil
	k.deleteRoutes(func(r spec.Route) bool { return r.NS == d.NS && r.Link == d.Name })
}

func (k *Kernel) deleteRoutes(which func(spec.Route) bool) (deleted int) {
	var kept []spec.Route
	for _, r := range k.routes {
		if which(r) {
			deleted++
		} else {
			kept = append(kept, r)
		}
	}
	k.routes = kept
	return deleted
}

// remove deletes a link with everything on it.
func (k *Kernel) remove(d *device) {
	k.flush(d)
	k.forgetSettings(d)
	delete(k.devices, d.key())
	k.forgetSources(d)
	for _, port := range k.devices {
		if port.NS == d.NS && port.Master == d.Name {
			port.Master = ""
		}
	}
	k.follow(d.NS, d.Master)
	if d.other != nil {
		other := d.other
		d.other, other.other = nil, nil
		k.remove(other)
	}
}

// move brings a link into another namespace, where it has no configuration.
func (k *Kernel) move(d *device, ns string) error {
	if d.NS == ns {
		return nil
	}
	if k.devices[links.LinkKey{NS: ns, Name: d.Name}] != nil {
		return syscall.EEXIST
	}
	k.flush(d)
	delete(k.devices, d.key())
	from, master := d.NS, d.Master
	k.forgetSettings(d)
	k.forgetSources(d)
	d.NS, d.Master, d.up, d.addresses = ns, "", false, nil
	d.moves++
	k.devices[d.key()] = d
	k.inherit(d)
	k.follow(from, master)
	return nil
}

// follow gives a bridge the smallest MTU of its ports, unless somebody chose one.
func (k *Kernel) follow(ns, bridge string) {
	b := k.devices[links.LinkKey{NS: ns, Name: bridge}]
	if bridge == "" || b == nil || b.chosen {
		return
	}
	least := 0
	for _, port := range k.devices {
		if port.NS == ns && port.Master == bridge && (least == 0 || port.MTU < least) {
			least = port.MTU
		}
	}
	if b.MTU = least; least == 0 {
		b.MTU = 1500
	}
}

// AddNamespace implements links.Kernel.
func (k *Kernel) AddNamespace(name string) error {
	if !k.namespaces[name] {
		k.Changes++
		k.namespaces[name] = true
		k.defaults(name)
		k.addDevice(spec.Link{Name: "lo", NS: name, Kind: spec.Loopback, MTU: 65536})
	}
	return nil
}

// DeleteNamespace implements links.Kernel. If processes live in it, its links are
// out of reach until Abandon.
func (k *Kernel) DeleteNamespace(name string) error {
	if !k.namespaces[name] {
		return nil
	}
	k.Changes++
	k.lost++
	limbo := "lost " + strconv.Itoa(k.lost)
	occupied := k.Occupied(name)
	for _, d := range k.in(name) {
		if err := k.move(d, limbo); err != nil {
			return err
		}
	}
	delete(k.namespaces, name)
	for key := range k.settings {
		if key.NS == name {
			delete(k.settings, key)
		}
	}
	if !occupied {
		k.die(limbo)
	}
	return nil
}

// Abandon ends the last processes in namespaces that lost their names.
func (k *Kernel) Abandon() {
	for i := 1; i <= k.lost; i++ {
		k.die("lost " + strconv.Itoa(i))
	}
}

func (k *Kernel) die(ns string) {
	for _, d := range k.in(ns) {
		if d.Kind == spec.Physical {
			_ = k.move(d, "")
		} else if k.devices[d.key()] == d {
			k.remove(d)
		}
	}
}

func (k *Kernel) in(ns string) (all []*device) {
	for _, d := range k.devices {
		if d.NS == ns {
			all = append(all, d)
		}
	}
	return all
}

// Identity returns a value that is another one for each link that ever had the
// name; nil if there is none.
func (k *Kernel) Identity(ns, name string) any {
	if d := k.devices[links.LinkKey{NS: ns, Name: name}]; d != nil {
		return d
	}
	return nil
}
