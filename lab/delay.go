package lab

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Delays are made here and not by tc-netem(8), which not every kernel has: while the bridge
// drops what goes from one port to the other, packet sockets on the ports pick the same
// frames up and put them out later.

// virtioHeader stands before each frame (PACKET_VNET_HDR), so that unfinished checksums and
// segmentation, which the frame may rely on, survive the detour.
const virtioHeader = 10

type delayedFrame struct {
	due  time.Time
	data []byte
}

// station is one end of a delayed path.
type station struct {
	socket *os.File
	mu     sync.Mutex
	macs   map[[6]byte]bool // the hardware addresses behind this port
}

func (l *Lab) startDelay(ctx context.Context, a, b string, f Fault) (stop func(), err error) {
	ends := make([]*station, 2)
	for i, port := range []string{a, b} {
		if ends[i], err = l.openStation(ctx, port); err != nil {
			if i == 1 {
				ends[0].socket.Close()
			}
			return nil, fmt.Errorf("delaying %s: %w", port, err)
		}
	}
	go ends[0].relay(ends[1], f.Delay)
	if f.OneWay {
		go ends[1].relay(nil, 0) // only learns
	} else {
		go ends[1].relay(ends[0], f.Delay)
	}
	return func() { ends[0].socket.Close(); ends[1].socket.Close() }, nil
}

// openStation opens a socket on a port of the bridge and learns what the bridge already knows.
func (l *Lab) openStation(ctx context.Context, port string) (*station, error) {
	s := &station{macs: map[[6]byte]bool{}}
	known, err := output(ctx, "bridge", "-n", l.Namespace(), "fdb", "show", "brport", port)
	if err != nil {
		return nil, err
	}
	for _, line := range strings.Split(known, "\n") {
		if mac, err := net.ParseMAC(strings.SplitN(line, " ", 2)[0]); err == nil && !strings.Contains(line, "permanent") {
			s.macs[[6]byte(mac)] = true
		}
	}
	err = inNamespace(l.Namespace(), func() error {
		fd, err := openPacket(port, unix.SOCK_NONBLOCK, unix.PACKET_VNET_HDR)
		if err == nil {
			s.socket = os.NewFile(uintptr(fd), port)
		}
		return err
	})
	return s, err
}

// relay takes what the machine behind s sends and hands the part for to over, delay later.
func (s *station) relay(to *station, delay time.Duration) {
	queue := make(chan delayedFrame, 10000)
	defer close(queue)
	go func() {
		for frame := range queue {
			time.Sleep(time.Until(frame.due))
			_, _ = to.socket.Write(frame.data) // an error is a lost frame
		}
	}()
	buf := make([]byte, 1<<17)
	for {
		n, err := s.socket.Read(buf)
		if err != nil {
			return
		}
		if n < virtioHeader+14 {
			continue
		}
		frame := buf[virtioHeader:n]
		s.learn([6]byte(frame[6:12]))
		isARP := binary.BigEndian.Uint16(frame[12:14]) == unix.ETH_P_ARP
		if to == nil || isARP || !to.knows([6]byte(frame[:6])) {
			continue
		}
		select {
		case queue <- delayedFrame{time.Now().Add(delay), append([]byte(nil), buf[:n]...)}:
		default: // full: lost, as in a router
		}
	}
}

func (s *station) learn(mac [6]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.macs[mac] = true
}

func (s *station) knows(mac [6]byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.macs[mac]
}

// inNamespace runs f in a network namespace. The thread is thrown away afterwards; what f
// opened stays in the namespace.
func inNamespace(name string, f func() error) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread()
		ns, err := os.Open("/run/netns/" + name)
		if err == nil {
			defer ns.Close()
			if err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err == nil {
				err = f()
			}
		}
		result <- err
	}()
	return <-result
}
