package wireguard

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sort"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"mobula/helper/internal/links"
	"mobula/helper/internal/netns"
	"mobula/helper/internal/network"
	"mobula/helper/internal/reconcile"
	"mobula/helper/internal/spec"
)

// KeyStore finds the private half of a public key.
type KeyStore interface {
	PrivateKey(public network.Key) (private network.Key, err error)
}

// Kernel is what the hand needs of a kernel, the way wgctrl offers it.
type Kernel interface {
	// Device returns an error that is os.ErrNotExist if there is no such device.
	Device(name string) (*wgtypes.Device, error)
	ConfigureDevice(name string, config wgtypes.Config) error
	// Underlay reports whether the device has spec.Link.Underlay; false if there is none.
	Underlay(name string) (bool, error)
}

// Device is the hand for the WireGuard device in the gateway's namespace.
type Device struct {
	kernel Kernel
	link   string
	keys   KeyStore
}

// New returns the hand for the named device.
func New(namespace, link string, keys KeyStore) *Device { return On(control{namespace}, link, keys) }

// On is New with another kernel.
func On(kernel Kernel, link string, keys KeyStore) *Device { return &Device{kernel, link, keys} }

// Name implements reconcile.Subject.
func (d *Device) Name() string { return "wireguard" }

// Diff implements reconcile.Subject. The device itself comes and goes with the
// links.
func (d *Device) Diff(_ context.Context, want, previous *spec.Host) ([]reconcile.Operation, error) {
	if want.WireGuard == nil {
		return nil, nil
	}
	have, err := d.lasting(want)
	if err != nil {
		return nil, err
	}
	var before *spec.WireGuard
	if previous != nil {
		before = previous.WireGuard
	}
	preshared, err := d.preshared(want.WireGuard)
	if err != nil {
		return nil, err
	}
	var ops []reconcile.Operation
	for _, c := range diff(have, want.WireGuard, before, preshared) {
		ops = append(ops, reconcile.Operation{
			Step: reconcile.StepWireGuard, Verb: reconcile.Verb(c.verb), Object: c.object, Detail: c.detail, Interrupts: c.interrupts,
			Do: func(context.Context) error { return d.do(c, want.WireGuard.PublicKey) },
		})
	}
	return ops, nil
}

// presharedLabel tells preshared keys from whatever else two hosts derive.
const presharedLabel = "mobula preshared key 1"

// preshared derives the preshared keys of the pairs that have one. They belong
// to this host's key: another one means others.
func (d *Device) preshared(want *spec.WireGuard) (secrets, error) {
	all := secrets{}
	var own network.Key
	for _, p := range want.Peers {
		if !p.Preshared {
			continue
		}
		var err error
		if own.IsZero() {
			if own, err = d.keys.PrivateKey(want.PublicKey); err != nil {
				return nil, err
			}
		}
		secret, err := network.SharedSecret(own, p.PublicKey, presharedLabel)
		if err != nil {
			return nil, fmt.Errorf("preshared key with %s: %w", p.Name, err)
		}
		all[p.PublicKey] = secret
	}
	return all, nil
}

// device returns the kernel's device, or nil if there is none.
func (d *Device) device() (*wgtypes.Device, error) {
	device, err := d.kernel.Device(d.link)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return device, err
}

// lasting returns the kernel's device, or nil if there is none or the links make it
// anew in the same run: where its UDP socket is cannot change.
func (d *Device) lasting(want *spec.Host) (*wgtypes.Device, error) {
	device, err := d.device()
	if err != nil || device == nil {
		return nil, err
	}
	for _, l := range want.Links {
		if l.Name != d.link || l.Kind != spec.WireGuardDevice {
			continue
		}
		if underlay, err := d.kernel.Underlay(d.link); err != nil || underlay != l.Underlay {
			return nil, err
		}
	}
	return device, nil
}

func (d *Device) do(c change, public network.Key) error {
	steps := []wgtypes.Config{c.config}
	if c.setKey {
		private, err := d.keys.PrivateKey(public)
		if err != nil {
			return err
		}
		key := wgtypes.Key(private)
		steps = append(steps, wgtypes.Config{PrivateKey: &key}, c.wake)
	}
	for _, step := range steps {
		if err := d.configure(step); err != nil {
			return err
		}
	}
	return nil
}

// configure changes the device, in as many messages as that takes.
func (d *Device) configure(config wgtypes.Config) error {
	for _, message := range messages(config) {
		if err := d.send(message); err != nil {
			return err
		}
	}
	return nil
}

// GiveAllowedIPs lets a peer have allowed IPs, which no other one has then. No
// packet falls between. A peer that is not there does not get them.
func (d *Device) GiveAllowedIPs(peer network.Key, ips []netip.Prefix) error {
	return d.configure(wgtypes.Config{Peers: []wgtypes.PeerConfig{
		{PublicKey: wgtypes.Key(peer), UpdateOnly: true, AllowedIPs: ipNets(ips)}}})
}

// SetEndpoint sends what is for a peer to another underlay endpoint.
func (d *Device) SetEndpoint(peer network.Key, endpoint netip.AddrPort) error {
	return d.configure(wgtypes.Config{Peers: []wgtypes.PeerConfig{
		{PublicKey: wgtypes.Key(peer), UpdateOnly: true, Endpoint: udpAddr(endpoint)}}})
}

// ShakeAgain makes peers anew, as long as they are as they were seen: one of which
// anything was received since then, or that has other allowed IPs, stays. WireGuard
// shakes hands with new peers at once; by itself it would try again after 5 s. Where
// they are, their secrets and their allowed IPs stay; their sessions end, and packets
// that wait for a handshake are lost.
func (d *Device) ShakeAgain(seen []PeerState) error {
	device, err := d.device()
	if err != nil || device == nil {
		return err
	}
	wanted := make(map[network.Key]PeerState, len(seen))
	for _, s := range seen {
		wanted[s.PublicKey] = s
	}
	var config wgtypes.Config
	for i := range device.Peers {
		p := &device.Peers[i]
		s, found := wanted[network.Key(p.PublicKey)]
		if !found || s.ReceiveBytes != p.ReceiveBytes || prefixes(s.AllowedIPs) != prefixes(fromIPNets(p.AllowedIPs)) {
			continue
		}
		config.Peers = append(config.Peers, wgtypes.PeerConfig{PublicKey: p.PublicKey, UpdateOnly: true, Remove: true},
			wgtypes.PeerConfig{PublicKey: p.PublicKey, Endpoint: p.Endpoint, PresharedKey: &p.PresharedKey,
				PersistentKeepaliveInterval: &p.PersistentKeepaliveInterval, AllowedIPs: p.AllowedIPs})
	}
	if len(config.Peers) == 0 {
		return nil
	}
	return d.configure(config)
}

// PeerState is what the kernel knows of a peer.
type PeerState struct {
	PublicKey     network.Key
	Endpoint      netip.AddrPort // zero: none yet
	LastHandshake time.Time      // zero: never
	ReceiveBytes  int64
	TransmitBytes int64
	AllowedIPs    []netip.Prefix
	Own           network.Key // of the device, with which it shakes hands
}

// Join returns the two peers that WireGuard has for a host whose key rotates as
// one: where it is reached is what the one with the allowed IPs says.
func (p PeerState) Join(o PeerState) PeerState {
	if len(o.AllowedIPs) > 0 {
		p, o = o, p
	}
	if o.LastHandshake.After(p.LastHandshake) {
		p.LastHandshake = o.LastHandshake
	}
	p.ReceiveBytes += o.ReceiveBytes
	p.TransmitBytes += o.TransmitBytes
	return p
}

// Peers returns the state of all peers in the order of their keys; none if there
// is no device.
func (d *Device) Peers() ([]PeerState, error) {
	device, err := d.device()
	if err != nil || device == nil {
		return nil, err
	}
	states := make([]PeerState, len(device.Peers))
	for i, p := range device.Peers {
		states[i] = PeerState{network.Key(p.PublicKey), addrPort(p.Endpoint), p.LastHandshakeTime, p.ReceiveBytes, p.TransmitBytes, fromIPNets(p.AllowedIPs), network.Key(device.PublicKey)}
	}
	sort.Slice(states, func(i, j int) bool { return bytes.Compare(states[i].PublicKey[:], states[j].PublicKey[:]) < 0 })
	return states, nil
}

// control is the real kernel, as a namespace sees it.
type control struct{ namespace string }

func (k control) Device(name string) (device *wgtypes.Device, err error) {
	if !netns.Exists(k.namespace) {
		return nil, os.ErrNotExist
	}
	err = k.with(name, func(c *wgctrl.Client) error {
		device, err = c.Device(name)
		return err
	})
	return device, err
}

func (k control) ConfigureDevice(name string, config wgtypes.Config) error {
	return k.with(name, func(c *wgctrl.Client) error { return c.ConfigureDevice(name, config) })
}

func (k control) Underlay(name string) (bool, error) {
	return links.Underlay(links.LinkKey{NS: k.namespace, Name: name})
}

func (k control) with(name string, f func(*wgctrl.Client) error) error {
	return netns.Do(k.namespace, func() error {
		client, err := wgctrl.New()
		if err != nil {
			return fmt.Errorf("WireGuard: %w", err)
		}
		defer client.Close()
		if err := f(client); err != nil {
			return fmt.Errorf("WireGuard device %s: %w", name, err)
		}
		return nil
	})
}

// GenerateKey makes a private key from the kernel's random numbers.
func GenerateKey() (network.Key, error) {
	key, err := wgtypes.GeneratePrivateKey()
	return network.Key(key), err
}

// PublicKey returns the public half of a private key.
func PublicKey(private network.Key) network.Key {
	return network.Key(wgtypes.Key(private).PublicKey())
}
