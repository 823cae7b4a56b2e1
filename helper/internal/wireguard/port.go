package wireguard

import (
	"errors"
	"fmt"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"golang.org/x/sys/unix"
)

// Where the device has its UDP socket beside the host's own, a resolver that asks may have
// the port for a moment: it lies among those that the kernel, and some resolvers by
// themselves, give to clients.
const (
	portPatience = 2 * time.Second
	portPause    = 100 * time.Millisecond
)

// send has the kernel take one message, and waits for the port.
func (d *Device) send(message wgtypes.Config) error {
	for deadline := time.Now().Add(portPatience); ; time.Sleep(portPause) {
		err := d.kernel.ConfigureDevice(d.link, message)
		switch {
		case message.ListenPort == nil || !errors.Is(err, unix.EADDRINUSE):
			return err
		case time.Now().After(deadline):
			return fmt.Errorf("%w: another program has UDP port %d in the namespace where the device has its socket (ss -ulnp): stop it, or set wireguard_port to another one for this host", err, *message.ListenPort)
		}
	}
}
