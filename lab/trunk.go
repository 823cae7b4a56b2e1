package lab

import (
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A trunk leads from a machine's NIC, whose frames have a VLAN tag, to the bridge, where
// they have none. It is made here, as not every kernel's bridge knows VLANs.

// VLAN is the one that a bridged host's network has on the wire.
const VLAN = 42

const vlanTag = 4 // bytes

// wire and plain are the ends of the trunk between a machine's NIC and the bridge.
func (n nic) wire() string  { return "w" + strings.TrimPrefix(n.tap, "tap") }
func (n nic) plain() string { return "v" + strings.TrimPrefix(n.tap, "tap") }

// ServeTrunk passes frames on between two interfaces of this namespace, until the process
// ends: tagged on the first, without a tag on the second. Others are dropped.
func ServeTrunk(tagged, plain string) error {
	// The kernel takes the tag out of what arrives and tells it beside (packet(7)).
	wire, err := openPacket(tagged, 0, unix.PACKET_AUXDATA)
	if err != nil {
		return err
	}
	bridge, err := openPacket(plain, 0)
	if err != nil {
		return err
	}
	failed := make(chan error, 2)
	go func() {
		failed <- passOn(wire, bridge, func(frame []byte, tag uint16) []byte {
			if tag&0xfff != VLAN {
				return nil
			}
			return frame
		})
	}()
	go func() {
		failed <- passOn(bridge, wire, func(frame []byte, _ uint16) []byte {
			out := append(make([]byte, 0, len(frame)+vlanTag), frame[:12]...)
			out = binary.BigEndian.AppendUint16(out, unix.ETH_P_8021Q)
			out = binary.BigEndian.AppendUint16(out, VLAN)
			return append(out, frame[12:]...)
		})
	}()
	return <-failed
}

// openPacket opens an interface of this namespace for all frames that arrive there.
func openPacket(name string, flags int, options ...int) (fd int, err error) {
	link, err := net.InterfaceByName(name)
	if err != nil {
		return 0, err
	}
	if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|flags, 0); err != nil {
		return 0, err
	}
	defer func() {
		if err != nil {
			_ = unix.Close(fd)
		}
	}()
	for _, option := range append(options, unix.PACKET_IGNORE_OUTGOING) {
		if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, option, 1); err != nil {
			return 0, fmt.Errorf("packet socket option %d: %w", option, err)
		}
	}
	all := binary.BigEndian.Uint16([]byte{byte(unix.ETH_P_ALL), byte(unix.ETH_P_ALL >> 8)})
	return fd, unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: link.Index})
}

// passOn hands each frame that from receives, changed, to to; nil: not at all.
func passOn(from, to int, change func(frame []byte, tag uint16) []byte) error {
	buf, beside := make([]byte, 1<<16), make([]byte, 256)
	for {
		n, nBeside, _, _, err := unix.Recvmsg(from, buf, beside, 0)
		switch {
		case err == unix.EINTR, err == unix.ENETDOWN:
			continue
		case err != nil:
			return err
		}
		if n < 14 {
			continue
		}
		if out := change(buf[:n], tagBeside(beside[:nBeside])); out != nil {
			if _, err := unix.Write(to, out); err != nil {
				fmt.Fprintln(os.Stderr, "a frame is lost:", err)
			}
		}
	}
}

// tagBeside is the tag control information that the kernel took out of a frame, 0 for none.
func tagBeside(beside []byte) uint16 {
	messages, err := unix.ParseSocketControlMessage(beside)
	if err != nil {
		return 0
	}
	for _, m := range messages {
		if m.Header.Level == unix.SOL_PACKET && m.Header.Type == unix.PACKET_AUXDATA && len(m.Data) >= int(unsafe.Sizeof(unix.TpacketAuxdata{})) {
			if data := (*unix.TpacketAuxdata)(unsafe.Pointer(&m.Data[0])); data.Status&unix.TP_STATUS_VLAN_VALID != 0 {
				return data.Vlan_tci
			}
		}
	}
	return 0
}
