package wireguard

import (
	"fmt"

	"golang.zx2c4.com/wireguard/wgctrl"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"mobula/helper/internal/netns"
)

// Kept is a Kernel with one lasting connection, for who asks often. It belongs
// to the namespace as it was when Keep was called.
type Kept struct {
	client    *wgctrl.Client
	namespace string
}

// Keep connects to the kernel in the named namespace.
func Keep(namespace string) (*Kept, error) {
	k := Kept{namespace: namespace}
	err := netns.Do(namespace, func() (err error) {
		k.client, err = wgctrl.New()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("WireGuard: %w", err)
	}
	return &k, nil
}

// Device implements Kernel.
func (k *Kept) Device(name string) (*wgtypes.Device, error) { return k.client.Device(name) }

// ConfigureDevice implements Kernel.
func (k *Kept) ConfigureDevice(name string, config wgtypes.Config) error {
	if err := k.client.ConfigureDevice(name, config); err != nil {
		return fmt.Errorf("WireGuard device %s: %w", name, err)
	}
	return nil
}

// Underlay implements Kernel. It looks where the namespace's name leads now.
func (k *Kept) Underlay(name string) (bool, error) { return control{k.namespace}.Underlay(name) }

// Close ends the connection.
func (k *Kept) Close() error { return k.client.Close() }
