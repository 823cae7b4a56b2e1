// Package wireguardtest has a WireGuard device for tests that holds state.
package wireguardtest

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sort"
	"strings"
	"syscall"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"mobula/helper/internal/network"
)

// Kernel implements wireguard.Kernel for one device.
type Kernel struct {
	// Link returns a value that is another one for each link of the device's
	// name; nil if there is none. What the device was told goes with its link.
	Link func() any
	// Made, if it is set, tells whether the link has spec.Link.Underlay; nil: it has not.
	Made func() bool
	// Bound, if it is set, tells that another socket has a UDP port where the device has
	// its own.
	Bound func(port int) bool
	// Woken are the peers that were made to shake hands, in order: a keepalive
	// interval that was none is sent at once.
	Woken []network.Key
	// Shakes, if it is set, is called when the private key was set, with the peers as
	// they are then: from there on WireGuard shakes hands for packets that wait.
	// (wg_set_device sets the key before it comes to the peers of the same message.)
	Shakes func(peers []wgtypes.Peer)

	link   any
	device *wgtypes.Device
}

// Device implements wireguard.Kernel.
func (k *Kernel) Device(name string) (*wgtypes.Device, error) {
	link := k.Link()
	if link == nil {
		return nil, os.ErrNotExist
	}
	if link != k.link {
		k.link, k.device = link, &wgtypes.Device{Name: name}
	}
	copied := *k.device
	copied.Peers = append([]wgtypes.Peer{}, k.device.Peers...)
	return &copied, nil
}

// Underlay implements wireguard.Kernel.
func (k *Kernel) Underlay(string) (bool, error) {
	return k.Link() != nil && k.Made != nil && k.Made(), nil
}

// ConfigureDevice implements wireguard.Kernel.
func (k *Kernel) ConfigureDevice(name string, c wgtypes.Config) error {
	if _, err := k.Device(name); err != nil {
		return err
	}
	if c.PrivateKey != nil {
		k.device.PrivateKey, k.device.PublicKey = *c.PrivateKey, c.PrivateKey.PublicKey()
		if k.Shakes != nil {
			k.Shakes(append([]wgtypes.Peer{}, k.device.Peers...))
		}
	}
	if c.ListenPort != nil && k.Bound != nil && k.Bound(*c.ListenPort) { // wg_socket_init
		return syscall.EADDRINUSE
	}
	if c.ListenPort != nil {
		k.device.ListenPort = *c.ListenPort
	}
	if c.ReplacePeers {
		k.device.Peers = nil
	}
	for _, p := range batched(c.Peers) {
		k.configurePeer(p)
	}
	return nil
}

// What wgctrl puts into one message at most: peers, and allowed IPs of all of them
// (shouldBatch in its internal/wglinux/configure_linux.go, 2024).
const (
	maxPeers      = 32
	maxAllowedIPs = 256
)

// batched returns peers as wgctrl hands them to the kernel. What is too much for one
// message becomes a message a peer, and of those about one key only the first carries
// more than flags and allowed IPs (buildBatches, ibid.).
func batched(peers []wgtypes.PeerConfig) []wgtypes.PeerConfig {
	ips := 0
	for _, p := range peers {
		ips += len(p.AllowedIPs)
	}
	if len(peers) <= maxPeers && ips <= maxAllowedIPs {
		return peers
	}
	seen := map[wgtypes.Key]bool{}
	var all []wgtypes.PeerConfig
	for _, p := range peers {
		if seen[p.PublicKey] {
			p.PresharedKey, p.Endpoint, p.PersistentKeepaliveInterval, p.ReplaceAllowedIPs = nil, nil, nil, false
		}
		seen[p.PublicKey] = true
		all = append(all, p)
	}
	return all
}

func (k *Kernel) configurePeer(c wgtypes.PeerConfig) {
	p := k.peer(c.PublicKey)
	switch {
	case c.Remove:
		k.removePeer(c.PublicKey)
		return
	case p == nil && c.UpdateOnly:
		return
	case p == nil:
		k.device.Peers = append(k.device.Peers, wgtypes.Peer{PublicKey: c.PublicKey})
		p = k.peer(c.PublicKey)
	}
	if c.Endpoint != nil {
		p.Endpoint = c.Endpoint
	}
	if c.PresharedKey != nil {
		p.PresharedKey = *c.PresharedKey
	}
	if c.PersistentKeepaliveInterval != nil {
		if p.PersistentKeepaliveInterval == 0 && *c.PersistentKeepaliveInterval > 0 {
			k.Woken = append(k.Woken, network.Key(c.PublicKey))
		}
		p.PersistentKeepaliveInterval = *c.PersistentKeepaliveInterval
	}
	if c.ReplaceAllowedIPs {
		p.AllowedIPs = nil
	}
	for _, ip := range c.AllowedIPs {
		k.takeAway(ip)
		p.AllowedIPs = append(p.AllowedIPs, ip)
	}
}

// takeAway frees allowed IPs: only one peer can have them.
func (k *Kernel) takeAway(ip net.IPNet) {
	for i := range k.device.Peers {
		p := &k.device.Peers[i]
		var left []net.IPNet
		for _, other := range p.AllowedIPs {
			if other.String() != ip.String() {
				left = append(left, other)
			}
		}
		p.AllowedIPs = left
	}
}

func (k *Kernel) peer(key wgtypes.Key) *wgtypes.Peer {
	for i := range k.device.Peers {
		if k.device.Peers[i].PublicKey == key {
			return &k.device.Peers[i]
		}
	}
	return nil
}

func (k *Kernel) removePeer(key wgtypes.Key) {
	for i, p := range k.device.Peers {
		if p.PublicKey == key {
			k.device.Peers = append(k.device.Peers[:i:i], k.device.Peers[i+1:]...)
			return
		}
	}
}

// Roam does what a valid packet of the peer from another endpoint does.
func (k *Kernel) Roam(peer network.Key, to netip.AddrPort) {
	if p := k.peer(wgtypes.Key(peer)); p != nil {
		p.Endpoint = net.UDPAddrFromAddrPort(to)
	}
}

// Preshared returns the preshared key with a peer; zero: none.
func (k *Kernel) Preshared(peer network.Key) network.Key {
	if p := k.peer(wgtypes.Key(peer)); p != nil {
		return network.Key(p.PresharedKey)
	}
	return network.Key{}
}

// String renders the device as wg(8) would, without the private key.
func (k *Kernel) String() string {
	if link := k.Link(); link == nil || link != k.link {
		return ""
	}
	peers := append([]wgtypes.Peer{}, k.device.Peers...)
	sort.Slice(peers, func(i, j int) bool { return bytes.Compare(peers[i].PublicKey[:], peers[j].PublicKey[:]) < 0 })
	var b strings.Builder
	fmt.Fprintf(&b, "public key %s port %d\n", k.device.PublicKey, k.device.ListenPort)
	for _, p := range peers {
		var ips []string
		for _, ip := range p.AllowedIPs {
			ips = append(ips, ip.String())
		}
		sort.Strings(ips)
		fmt.Fprintf(&b, "peer %s endpoint %v allowed %s keepalive %v preshared %v\n", p.PublicKey, p.Endpoint, strings.Join(ips, ","), p.PersistentKeepaliveInterval, p.PresharedKey)
	}
	return b.String()
}
