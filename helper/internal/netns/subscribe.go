package netns

import (
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Subscription receives a kernel's multicast messages of one netlink(7) family.
type Subscription struct {
	file *os.File
	buf  []byte
}

// receiveBytes is how much the kernel keeps for a Subscription that is not read
// at once, as it counts: some thousand messages.
const receiveBytes = 4 << 20

// Subscribe joins multicast groups (numbers from 1, such as unix.RTNLGRP_LINK)
// of a netlink family in the named namespace; "" is the caller's own.
func Subscribe(namespace string, family int, groups ...uint) (*Subscription, error) {
	fd := -1
	err := Do(namespace, func() (err error) {
		fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, family)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("netlink socket: %w", err)
	}
	err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	for _, g := range groups {
		if err == nil {
			err = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, int(g))
		}
	}
	if err == nil && unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBytes) != nil {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBytes) // what everybody may have
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("joining netlink groups: %w", err)
	}
	return &Subscription{os.NewFile(uintptr(fd), "netlink"), make([]byte, 1<<16)}, nil
}

// Receive waits for messages, which are good until it is called again. When the kernel had more to say than the socket
// could hold, the error is unix.ENOBUFS and the subscription goes on.
func (s *Subscription) Receive() ([]syscall.NetlinkMessage, error) {
	n, err := s.file.Read(s.buf)
	if err != nil {
		return nil, err
	}
	return syscall.ParseNetlinkMessage(s.buf[:n])
}

// Close ends the subscription; a waiting Receive returns an error.
func (s *Subscription) Close() error { return s.file.Close() }
