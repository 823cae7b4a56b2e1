package lab

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A DHCP server for the hosts that ask for their address (HostSpec.DHCP): just enough of
// RFC 2131 for them to get the one that is theirs, and with it router and resolver.

const (
	dhcpDiscover = 1
	dhcpOffer    = 2
	dhcpRequest  = 3
	dhcpAck      = 5
	dhcpNak      = 6
	bootpSize    = 236
)

var dhcpCookie = []byte{99, 130, 83, 99}

// lease is what a host is to have.
type lease struct {
	address, router, server net.IP
	lifetime                time.Duration
	hostRoute               bool // see HostSpec.HostRoute
}

// SetLease has DHCP give the host another address, or its own for another time. A host that
// has one hears of it when it asks again: at first after half of the lifetime, where it is to
// keep the address; where it is not, at the latest after seven eighths (RFC 2131, 4.4.5).
func (h *Host) SetLease(address string, lifetime time.Duration) error {
	if ip := net.ParseIP(address); ip.To4() == nil {
		return fmt.Errorf("found %q, wanted an IPv4 address", address)
	}
	file := h.leaseFile()
	if err := os.WriteFile(file+".new", fmt.Appendf(nil, "%s %d", address, int(lifetime.Seconds())), 0o600); err != nil {
		return err
	}
	return os.Rename(file+".new", file) // the server reads it at any time
}

func (h *Host) leaseFile() string { return h.lab.path(h.Name + ".lease") }

func (h *Host) lease() (*lease, error) {
	l := &lease{
		address: net.ParseIP(h.Address), router: net.ParseIP(h.Router()), server: net.ParseIP(DeployerAddress),
		lifetime: time.Hour, hostRoute: h.HostRoute,
	}
	if h.Site {
		l.server = net.ParseIP(siteDeployerAddress)
	}
	data, err := os.ReadFile(h.leaseFile())
	if errors.Is(err, fs.ErrNotExist) {
		return l, nil
	}
	address, lifetime, _ := strings.Cut(string(data), " ")
	seconds, convErr := strconv.Atoi(lifetime)
	l.address, l.lifetime = net.ParseIP(address), time.Duration(seconds)*time.Second
	return l, errors.Join(err, convErr)
}

// ServeDHCP answers the hosts of the lab in dir until the process ends.
func ServeDHCP(dir string) error {
	l, err := Open(dir)
	if err != nil {
		return err
	}
	failed := make(chan error)
	go func() { failed <- serveDHCP(dir, "deployer") }()
	if l.hasSite() {
		go func() { failed <- serveDHCP(dir, "deployer-site") }()
	}
	return <-failed
}

// serveDHCP answers those that are beyond an interface.
func serveDHCP(dir, device string) error {
	listen := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		controlErr := c.Control(func(fd uintptr) {
			if err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_BROADCAST, 1); err == nil {
				err = syscall.SetsockoptString(int(fd), syscall.SOL_SOCKET, syscall.SO_BINDTODEVICE, device)
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
		reply, to := dhcpAnswer(buf[:n], l.leaseOf)
		if reply == nil {
			continue
		}
		fmt.Printf("%s %d to %v: %v\n", time.Now().Format(time.TimeOnly), dhcpMessageType(reply[bootpSize+4:]), to, net.IP(reply[16:20]))
		if _, err := conn.WriteTo(reply, &net.UDPAddr{IP: to, Port: 68}); err != nil {
			fmt.Println("answering:", err)
		}
	}
}

// leaseOf is what the host with a MAC address is to have, nil if DHCP has nothing for it.
func (l *Lab) leaseOf(mac net.HardwareAddr) *lease {
	for _, h := range l.Hosts {
		if h.DHCP && h.MAC() == mac.String() {
			its, err := h.lease()
			if err == nil {
				return its
			}
			fmt.Println("reading a lease:", err)
		}
	}
	return nil
}

// dhcpAnswer returns the answer to a message and where it goes, nil if there is none to give.
func dhcpAnswer(message []byte, lookup func(net.HardwareAddr) *lease) (reply []byte, to net.IP) {
	if len(message) < bootpSize+4 || message[0] != 1 || !bytes.Equal(message[bootpSize:bootpSize+4], dhcpCookie) {
		return nil, nil
	}
	its := lookup(net.HardwareAddr(message[28:34]))
	if its == nil {
		return nil, nil
	}
	options, current := message[bootpSize+4:], net.IP(slices.Clone(message[12:16]))
	to = net.IPv4bcast
	switch dhcpMessageType(options) {
	case dhcpDiscover:
		return its.answer(message, dhcpOffer), to
	case dhcpRequest:
		wanted := current
		if asked := dhcpOption(options, 50); len(asked) == 4 {
			wanted = asked
		}
		if !wanted.Equal(its.address) {
			return its.answer(message, dhcpNak), to
		}
		if !current.IsUnspecified() { // who has an address hears of nothing else (4.1)
			to = current
		}
		return its.answer(message, dhcpAck), to
	}
	return nil, nil
}

// answer is one of a kind, with all that the host is to have.
func (l *lease) answer(message []byte, kind byte) []byte {
	reply := append([]byte(nil), message[:bootpSize]...)
	reply[0] = 2
	clear(reply[12:28]) // addresses
	reply = append(reply, dhcpCookie...)
	option := func(code byte, value ...byte) { reply = append(append(reply, code, byte(len(value))), value...) }
	option(53, kind)
	option(54, l.server.To4()...)
	if kind == dhcpNak {
		return append(reply, 255)
	}
	if kind == dhcpAck {
		copy(reply[12:16], message[12:16])
	}
	copy(reply[16:20], l.address.To4())
	copy(reply[20:24], l.server.To4())
	option(51, binary.BigEndian.AppendUint32(nil, uint32(l.lifetime.Seconds()))...)
	router := l.router.To4()
	if l.hostRoute {
		option(1, 255, 255, 255, 255)
		onLink, byRouter := append(append([]byte{32}, router...), 0, 0, 0, 0), append([]byte{0}, router...)
		option(121, append(onLink, byRouter...)...)
	} else {
		option(1, 255, 255, 255, 0)
	}
	option(3, router...)
	option(6, net.ParseIP(ResolverAddress).To4()...)
	return append(reply, 255)
}

func dhcpMessageType(options []byte) byte {
	if kind := dhcpOption(options, 53); len(kind) == 1 {
		return kind[0]
	}
	return 0
}

// dhcpOption is the value of an option, nil if it is not there.
func dhcpOption(options []byte, code byte) []byte {
	for len(options) >= 2 && options[0] != 255 {
		if options[0] == 0 {
			options = options[1:]
			continue
		}
		length := int(options[1])
		if len(options) < 2+length {
			return nil
		}
		if options[0] == code {
			return options[2 : 2+length]
		}
		options = options[2+length:]
	}
	return nil
}
