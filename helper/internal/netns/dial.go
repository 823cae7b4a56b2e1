package netns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// makers bounds the threads that make sockets at the same time: entering a
// namespace takes a thread of its own, and a service may have few (TasksMax= in
// systemd.resource-control(5)). Each is needed for some ten microseconds.
var makers = make(chan struct{}, 4)

// Dial connects to an address from inside the named namespace, as net.Dialer
// does. The network is "tcp" or "udp", the address an IP address with a port.
// Only the socket is made in the namespace: however long the other side keeps
// silent, and however many connections are waited for, no thread waits.
func Dial(ctx context.Context, namespace, network, address string) (net.Conn, error) {
	conn, err := dial(ctx, namespace, network, address)
	if err != nil {
		return nil, fmt.Errorf("connecting to %s/%s from network namespace %q: %w", address, network, namespace, err)
	}
	return conn, nil
}

func dial(ctx context.Context, namespace, network, address string) (net.Conn, error) {
	// What is canceled before it begins never connects, however near the other side is.
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, err
	}
	kind, ok := map[string]int{"tcp": unix.SOCK_STREAM, "udp": unix.SOCK_DGRAM}[network]
	if !ok {
		return nil, net.UnknownNetworkError(network)
	}
	family, target := socketAddress(to)
	fd, err := makeSocket(ctx, namespace, family, kind)
	if err != nil {
		return nil, err
	}
	// Not blocking, so the runtime's poller waits for it.
	file := os.NewFile(uintptr(fd), address)
	defer file.Close() // FileConn has its own
	if err := connect(ctx, file, target); err != nil {
		return nil, err
	}
	return net.FileConn(file)
}

func socketAddress(a netip.AddrPort) (family int, to unix.Sockaddr) {
	if ip := a.Addr().Unmap(); ip.Is4() {
		return unix.AF_INET, &unix.SockaddrInet4{Port: int(a.Port()), Addr: ip.As4()}
	}
	return unix.AF_INET6, &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

func makeSocket(ctx context.Context, namespace string, family, kind int) (fd int, err error) {
	select {
	case makers <- struct{}{}:
		defer func() { <-makers }()
	case <-ctx.Done():
		return -1, ctx.Err()
	}
	err = Do(namespace, func() (err error) {
		fd, err = unix.Socket(family, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		return os.NewSyscallError("socket", err)
	})
	return fd, err
}

// connect waits until a socket is connected, has failed, or ctx is done.
func connect(ctx context.Context, file *os.File, to unix.Sockaddr) error {
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { file.SetWriteDeadline(time.Unix(1, 0)) })
	defer stop()
	begun := false
	var outcome error
	err = raw.Write(func(fd uintptr) (done bool) {
		if !begun {
			begun = true
			outcome = unix.Connect(int(fd), to)
			// One that a signal interrupts goes on by itself, see connect(2).
			return outcome != unix.EINPROGRESS && outcome != unix.EINTR
		}
		outcome, done = connected(int(fd))
		return done
	})
	if err != nil { // the deadline
		return errors.Join(ctx.Err(), err)
	}
	return os.NewSyscallError("connect", outcome)
}

// connected tells how a connection that is writable ended, and whether it did: a
// socket can be woken before that.
func connected(fd int) (outcome error, done bool) {
	code, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	switch {
	case err != nil:
		return err, true
	case code != 0:
		return unix.Errno(code), true
	}
	_, err = unix.Getpeername(fd)
	return nil, err == nil
}
