package wireguardtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"golang.zx2c4.com/wireguard/conn"

	"mobula/helper/internal/netns"
)

// kernelBind is a device's UDP sockets in a network namespace. What comes out of them leaves by the
// address that the kernel chooses, as with Linux' own device when the one before is gone
// (drivers/net/wireguard/socket.c). wireguard-go's own, conn.StdNetBind, sends to stale addresses
// where both families are in use: it keeps the four bytes of one as the beginning of the other.
type kernelBind struct {
	namespace string
	sockets   []*net.UDPConn // of IPv4, and of IPv6
}

func (b *kernelBind) Open(port uint16) (receive []conn.ReceiveFunc, actual uint16, err error) {
	err = netns.Do(b.namespace, func() error {
		for _, family := range []string{"udp4", "udp6"} {
			socket, err := new(net.ListenConfig).ListenPacket(context.Background(), family, fmt.Sprintf(":%d", port))
			if err != nil {
				return errors.Join(err, b.Close())
			}
			b.sockets = append(b.sockets, socket.(*net.UDPConn))
			port = uint16(socket.LocalAddr().(*net.UDPAddr).Port)
		}
		return nil
	})
	for _, socket := range b.sockets {
		receive = append(receive, func(packets [][]byte, sizes []int, from []conn.Endpoint) (int, error) {
			n, at, err := socket.ReadFromUDPAddrPort(packets[0])
			if err != nil {
				return 0, err
			}
			sizes[0], from[0] = n, liveEndpoint(netip.AddrPortFrom(at.Addr().Unmap(), at.Port()))
			return 1, nil
		})
	}
	return receive, port, err
}

func (b *kernelBind) Send(packets [][]byte, to conn.Endpoint) error {
	at := netip.AddrPort(to.(liveEndpoint))
	family := 0
	if at.Addr().Is6() {
		family = 1
	}
	if len(b.sockets) <= family {
		return net.ErrClosed
	}
	for _, p := range packets {
		if _, err := b.sockets[family].WriteToUDPAddrPort(p, at); err != nil {
			return err
		}
	}
	return nil
}

func (b *kernelBind) ParseEndpoint(s string) (conn.Endpoint, error) {
	at, err := netip.ParseAddrPort(s)
	return liveEndpoint(at), err
}

func (b *kernelBind) Close() (err error) {
	for _, socket := range b.sockets {
		err = errors.Join(err, socket.Close())
	}
	b.sockets = nil
	return err
}

func (b *kernelBind) SetMark(uint32) error { return nil }
func (b *kernelBind) BatchSize() int       { return 1 }
