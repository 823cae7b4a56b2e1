package lab

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"syscall"
)

// A DHCP server for the hosts that ask for their address (HostSpec.DHCP): just enough of
// RFC 2131 for them to get it, always the same one, and with it router and resolver.

const (
	dhcpDiscover = 1
	dhcpOffer    = 2
	dhcpRequest  = 3
	dhcpAck      = 5
	bootpSize    = 236
)

var dhcpCookie = []byte{99, 130, 83, 99}

// ServeDHCP answers the hosts of the lab in dir until the process ends.
func ServeDHCP(dir string) error {
	listen := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		controlErr := c.Control(func(fd uintptr) {
			if err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_BROADCAST, 1); err == nil {
				err = syscall.SetsockoptString(int(fd), syscall.SOL_SOCKET, syscall.SO_BINDTODEVICE, "deployer")
			}
		})
		if controlErr != nil {
			return controlErr
		}
		return err
	}}
	conn, err := listen.ListenPacket(context.Background(), "udp4", ":67")
	if err != nil {
		return err
	}
	defer conn.Close()
	buf := make([]byte, 1500)
	for {
		n, _, err := conn.ReadFrom(buf)
		if err != nil {
			return err
		}
		l, err := Open(dir) // each time: hosts may have been added
		if err != nil {
			return err
		}
		reply := dhcpAnswer(buf[:n], func(mac net.HardwareAddr) net.IP {
			for _, h := range l.Hosts {
				if h.DHCP && h.MAC() == mac.String() {
					return net.ParseIP(h.Address)
				}
			}
			return nil
		})
		if reply == nil {
			continue
		}
		if _, err := conn.WriteTo(reply, &net.UDPAddr{IP: net.IPv4bcast, Port: 68}); err != nil {
			fmt.Println("answering:", err)
		}
	}
}

// dhcpAnswer returns the answer to a message, nil if there is none to give.
func dhcpAnswer(message []byte, lookup func(net.HardwareAddr) net.IP) []byte {
	if len(message) < bootpSize+4 || message[0] != 1 || !bytes.Equal(message[bootpSize:bootpSize+4], dhcpCookie) {
		return nil
	}
	address := lookup(net.HardwareAddr(message[28:34])).To4()
	if address == nil {
		return nil
	}
	var kind byte
	switch dhcpMessageType(message[bootpSize+4:]) {
	case dhcpDiscover:
		kind = dhcpOffer
	case dhcpRequest:
		kind = dhcpAck
	default:
		return nil
	}
	reply := append([]byte(nil), message[:bootpSize]...)
	reply[0] = 2
	copy(reply[16:20], address)
	copy(reply[20:24], net.ParseIP(RepositoryAddress).To4())
	reply = append(reply, dhcpCookie...)
	option := func(code byte, value ...byte) { reply = append(append(reply, code, byte(len(value))), value...) }
	option(53, kind)
	option(54, net.ParseIP(RepositoryAddress).To4()...)
	option(51, binary.BigEndian.AppendUint32(nil, 3600)...)
	option(1, 255, 255, 255, 0)
	option(3, net.ParseIP(RouterAddress).To4()...)
	option(6, net.ParseIP(ResolverAddress).To4()...)
	return append(reply, 255)
}

func dhcpMessageType(options []byte) byte {
	for len(options) >= 2 && options[0] != 255 {
		if options[0] == 0 {
			options = options[1:]
			continue
		}
		length := int(options[1])
		if len(options) < 2+length {
			return 0
		}
		if options[0] == 53 && length == 1 {
			return options[2]
		}
		options = options[2+length:]
	}
	return 0
}
