// Package wireguard compares and changes the kernel's WireGuard device.
package wireguard

import (
	"fmt"
	"net"
	"net/netip"
	"sort"
	"strings"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"mobula/helper/internal/network"
	"mobula/helper/internal/spec"
)

// change is one difference of the device, as data.
type change struct {
	verb           byte // '+', '~' or '-'
	object, detail string
	interrupts     int
	config         wgtypes.Config
	setKey         bool           // the private key has to be set as well, after config
	wake           wgtypes.Config // what has to follow on that
}

// devicePeers are the peers of the device, which diff may change in its own copy.
type devicePeers map[network.Key]*wgtypes.Peer

func peersOf(d *wgtypes.Device) devicePeers {
	all := devicePeers{}
	for i := range d.Peers {
		p := d.Peers[i]
		all[network.Key(p.PublicKey)] = &p
	}
	return all
}

// has reports that the peer is there and has exactly these allowed IPs.
func (d devicePeers) has(key network.Key, ips []netip.Prefix) bool {
	p := d[key]
	return p != nil && prefixes(fromIPNets(p.AllowedIPs)) == prefixes(ips)
}

// secrets are the preshared keys of peers that have one, by public key.
type secrets map[network.Key]wgtypes.Key

// diff returns what leads from the device as it is to want. have is nil where
// there is no device yet. previous tells endpoints that the document changed
// from endpoints that moved by roaming or by the agent's choice; those stay. An
// endpoint that was spec.AnyEndpoint before is set.
func diff(have *wgtypes.Device, want, previous *spec.WireGuard, preshared secrets) []change {
	if have == nil {
		have = &wgtypes.Device{}
	}
	var changes []change
	present := peersOf(have)
	if previous == nil {
		previous = &spec.WireGuard{}
	}
	if network.Key(have.PublicKey) != want.PublicKey {
		changes = append(changes, newKey(present, want, previous, preshared))
	}
	if port := int(want.ListenPort); have.ListenPort != port {
		changes = append(changes, change{verb: '~', object: "WireGuard port", detail: fmt.Sprintf("%d → %d", have.ListenPort, port),
			interrupts: len(have.Peers), config: wgtypes.Config{ListenPort: &port}})
	}
	before := map[network.Key]spec.Peer{}
	for _, p := range previous.Peers {
		before[p.PublicKey] = p
	}
	wanted := settle(want.Peers, present)
	superseded := peersOf(have)
	for _, p := range wanted {
		if c, differs := diffPeer(present[p.PublicKey], p, before[p.PublicKey], preshared[p.PublicKey]); differs {
			changes = append(changes, c)
		}
		delete(superseded, p.PublicKey)
	}
	return append(changes, removals(superseded, present, wanted, before)...)
}

// settle returns the wanted peers as this device may have them: of the two of a
// host whose key rotates either may have the allowed IPs. A look at the device
// while they move can find them at both.
func settle(want []spec.Peer, present devicePeers) []spec.Peer {
	settled := append([]spec.Peer{}, want...)
	at := map[network.Key]int{}
	for i, p := range want {
		at[p.PublicKey] = i
	}
	for i, p := range want {
		other, paired := at[p.OtherKey]
		if !paired {
			continue
		}
		sibling := present[p.OtherKey]
		if present[p.PublicKey] == nil && sibling != nil && sibling.Endpoint != nil {
			settled[i].Endpoint = addrPort(sibling.Endpoint) // where the host is reached now
		}
		if len(p.AllowedIPs) > 0 && present.has(p.OtherKey, p.AllowedIPs) {
			settled[other].AllowedIPs = p.AllowedIPs
			if !present.has(p.PublicKey, p.AllowedIPs) {
				settled[i].AllowedIPs = nil
			}
		}
	}
	return settled
}

// newKey gives the device another private key, once it has the preshared keys that follow
// from it: packets that wait have WireGuard shake hands as soon as the private key
// is there, and an answer that does not fit the preshared key is dropped and held
// back for 5 s. Nothing more can be sent over the sessions there are, only
// received; so the keepalive of the hosts is taken off before and put on after,
// which makes WireGuard shake hands with those, too, for which nothing waits. Which
// of its keys a rotating host uses now is not known. Handshakes that cross would stop
// both hosts for 5 s, so only the host with the lower ID tries both, first the one in use.
func newKey(present devicePeers, want, previous *spec.WireGuard, preshared secrets) change {
	c := change{verb: '~', object: "WireGuard key", detail: "now " + want.PublicKey.String(), setKey: true}
	announced := previous.AlsoKey == want.PublicKey
	var active, other []wgtypes.PeerConfig
	for _, p := range want.Peers {
		have := present[p.PublicKey]
		if have == nil {
			continue
		}
		if !announced || p.HostID == 0 {
			c.interrupts++
		}
		config := wgtypes.PeerConfig{PublicKey: have.PublicKey, UpdateOnly: true}
		if secret := preshared[p.PublicKey]; secret != have.PresharedKey {
			config.PresharedKey = &secret
			have.PresharedKey = secret
		}
		wake := wgtypes.PeerConfig{PublicKey: have.PublicKey, UpdateOnly: true, PersistentKeepaliveInterval: seconds(p.KeepaliveSeconds)}
		switch {
		case p.KeepaliveSeconds == 0:
		case len(have.AllowedIPs) > 0:
			config.PersistentKeepaliveInterval = seconds(0)
			active = append(active, wake)
		case want.HostID < p.HostID:
			config.PersistentKeepaliveInterval = seconds(0)
			other = append(other, wake)
		}
		c.config.Peers = append(c.config.Peers, config)
	}
	c.wake.Peers = append(active, other...)
	return c
}

// removals takes superseded peers away. One that makes room for another key of
// its host leaves its allowed IPs to that one in the same message.
func removals(superseded, present devicePeers, wanted []spec.Peer, before map[network.Key]spec.Peer) []change {
	heirs := map[uint16]spec.Peer{}
	for _, p := range wanted {
		if p.HostID != 0 && p.OtherKey.IsZero() {
			heirs[p.HostID] = p
		}
	}
	var changes []change
	for key, have := range superseded {
		name := before[key].Name
		if name == "" {
			name = key.String()
		}
		c := change{verb: '-', object: "peer " + name}
		heir, replaced := heirs[before[key].HostID]
		if replaced {
			c.config.Peers = append(c.config.Peers, wgtypes.PeerConfig{PublicKey: wgtypes.Key(heir.PublicKey), UpdateOnly: true,
				ReplaceAllowedIPs: true, AllowedIPs: ipNets(heir.AllowedIPs)})
		}
		if len(have.AllowedIPs) > 0 && present[heir.PublicKey] == nil {
			c.interrupts = 1
		}
		c.config.Peers = append(c.config.Peers, wgtypes.PeerConfig{PublicKey: have.PublicKey, Remove: true})
		changes = append(changes, c)
	}
	sort.Slice(changes, func(i, j int) bool { return changes[i].object < changes[j].object })
	return changes
}

// diffPeer compares one peer; have is nil for a new one. secret is its preshared
// key; zero: none.
func diffPeer(have *wgtypes.Peer, want, before spec.Peer, secret wgtypes.Key) (change, bool) {
	keepalive := seconds(want.KeepaliveSeconds)
	config := wgtypes.PeerConfig{PublicKey: wgtypes.Key(want.PublicKey)}
	if have == nil {
		config.ReplaceAllowedIPs, config.AllowedIPs = true, ipNets(want.AllowedIPs)
		config.Endpoint, config.PersistentKeepaliveInterval, config.PresharedKey = udpAddr(want.Endpoint), keepalive, &secret
		detail := "allowed IPs " + prefixes(want.AllowedIPs)
		if want.Endpoint.IsValid() {
			detail = "endpoint " + want.Endpoint.String() + ", " + detail
		}
		return change{verb: '+', object: "peer " + want.Name, detail: detail,
			config: wgtypes.Config{Peers: []wgtypes.PeerConfig{config}}}, true
	}
	config.UpdateOnly = true
	c := change{verb: '~', object: "peer " + want.Name}
	var details []string
	moved := before.Endpoint.IsValid() && before.Endpoint != want.Endpoint
	if at := addrPort(have.Endpoint); want.Endpoint.IsValid() && (moved || !at.IsValid()) && at != want.Endpoint {
		config.Endpoint = udpAddr(want.Endpoint)
		details = append(details, fmt.Sprintf("endpoint %s → %s", at, want.Endpoint))
		c.interrupts = 1
	}
	if found, wanted := prefixes(fromIPNets(have.AllowedIPs)), prefixes(want.AllowedIPs); found != wanted {
		config.ReplaceAllowedIPs, config.AllowedIPs = true, ipNets(want.AllowedIPs)
		details = append(details, fmt.Sprintf("allowed IPs %s → %s", found, wanted))
		c.interrupts = 1
	}
	if have.PersistentKeepaliveInterval != *keepalive {
		config.PersistentKeepaliveInterval = keepalive
		details = append(details, fmt.Sprintf("keepalive %v → %v", have.PersistentKeepaliveInterval, *keepalive))
	}
	if have.PresharedKey != secret {
		config.PresharedKey = &secret
		details = append(details, "preshared key "+presharedChange(have.PresharedKey, secret))
	}
	c.detail = strings.Join(details, ", ")
	c.config = wgtypes.Config{Peers: []wgtypes.PeerConfig{config}}
	return c, len(details) > 0
}

// presharedChange says what happens to a preshared key, of which nothing shows.
func presharedChange(from, to wgtypes.Key) string {
	switch (wgtypes.Key{}) {
	case from:
		return "added"
	case to:
		return "removed"
	}
	return "replaced"
}

func seconds(n int) *time.Duration {
	d := time.Duration(n) * time.Second
	return &d
}

func addrPort(a *net.UDPAddr) netip.AddrPort {
	if a == nil {
		return netip.AddrPort{}
	}
	ap := a.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

func udpAddr(a netip.AddrPort) *net.UDPAddr {
	if !a.IsValid() {
		return nil
	}
	return net.UDPAddrFromAddrPort(a)
}

func ipNets(all []netip.Prefix) []net.IPNet {
	nets := make([]net.IPNet, len(all))
	for i, p := range all {
		nets[i] = net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
	}
	return nets
}

func fromIPNets(all []net.IPNet) []netip.Prefix {
	found := make([]netip.Prefix, 0, len(all))
	for _, n := range all {
		addr, _ := netip.AddrFromSlice(n.IP)
		bits, _ := n.Mask.Size()
		found = append(found, netip.PrefixFrom(addr.Unmap(), bits))
	}
	return found
}

func prefixes(all []netip.Prefix) string {
	if len(all) == 0 {
		return "none"
	}
	texts := make([]string, len(all))
	for i, p := range all {
		texts[i] = p.String()
	}
	sort.Strings(texts)
	return strings.Join(texts, " ")
}
