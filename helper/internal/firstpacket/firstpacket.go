// Package firstpacket tells to which addresses packets begin to leave by an interface,
// by a table of nftables and netfilter's log (NFLOG) in its network namespace.
package firstpacket

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/florianl/go-nflog/v2"
	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"mobula/helper/internal/netns"
)

const (
	// table is the watcher's own, of IPv4. Whoever watches next begins with another.
	table = "mobula_first_packets"
	// group is that of the log, of which each network namespace has its own.
	group = 51820
	// bufferBytes is how much the kernel keeps for a slow reader: some hundred packets.
	bufferBytes = 1 << 20
	// headerBytes of a packet are read: an IPv4 header without options (RFC 791).
	headerBytes = 20
)

// Config says what is watched.
type Config struct {
	// Namespace and Device are where packets leave.
	Namespace, Device string
	// OwnPorts are the UDP ports of messages that do not count.
	OwnPorts []uint16
	// Again is after how long an address to which packets still leave is told once
	// more, at least a millisecond.
	Again time.Duration
}

// Watcher is at work until it is closed.
type Watcher struct {
	namespace string
	stop      context.CancelFunc
	log       *nflog.Nflog
	lost      atomic.Uint64
}

// Lost counts how often the kernel could not keep packets for a slow reader.
func (w *Watcher) Lost() uint64 { return w.lost.Load() }

// Watch has began called with an address when a packet leaves for it and none did for
// Config.Again, 1,000 times a second at most. The packets are not held up. It fails where
// the kernel lacks nf_tables with logs (nft_log, nfnetlink_log), or the namespace.
func Watch(c Config, began func(netip.Addr)) (*Watcher, error) {
	w := &Watcher{namespace: c.Namespace}
	var ctx context.Context
	ctx, w.stop = context.WithCancel(context.Background())
	err := netns.Do(c.Namespace, func() (err error) {
		// Otherwise the kernel keeps up to 100 packets back for a second (nfnetlink_log.c).
		w.log, err = nflog.Open(&nflog.Config{Group: group, Copymode: nflog.CopyPacket, Bufsize: headerBytes, QThresh: 1})
		if err == nil {
			err = w.log.Con.SetReadBuffer(bufferBytes)
		}
		return err
	})
	if err != nil {
		w.stop()
		return nil, fmt.Errorf("netfilter's log: %w", err)
	}
	err = w.log.RegisterWithErrorFunc(ctx, func(a nflog.Attribute) int {
		if a.Payload != nil {
			if to, ok := destination(*a.Payload); ok {
				began(to)
			}
		}
		return 0
	}, w.goesOn)
	if err == nil {
		err = c.load()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("netfilter's log: %w", err), w.Close())
	}
	return w, nil
}

// goesOn returns 0 for errors after which the kernel says more: what it could not keep
// for a slow reader (ENOBUFS) is lost.
func (w *Watcher) goesOn(err error) int {
	if errors.Is(err, unix.ENOBUFS) {
		w.lost.Add(1)
	}
	var of interface{ Timeout() bool }
	if errors.As(err, &of) && of.Timeout() || errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.EINTR) {
		return 0
	}
	return 1
}

// destination returns that of an IPv4 packet (RFC 791).
func destination(packet []byte) (netip.Addr, bool) {
	if len(packet) < headerBytes || packet[0]>>4 != 4 {
		return netip.Addr{}, false
	}
	return netip.AddrFrom4([4]byte(packet[16:20])), true
}

// Close ends the watch and takes the table away, unless its namespace is gone.
func (w *Watcher) Close() error {
	w.stop()
	err := w.log.Close()
	if netns.Exists(w.namespace) {
		err = errors.Join(err, change(w.namespace, func(*nftables.Conn, *nftables.Table) error { return nil }))
	}
	return err
}

// change has the table anew with what fill puts into it; nothing: it is gone.
func change(namespace string, fill func(*nftables.Conn, *nftables.Table) error) error {
	return netns.Do(namespace, func() error {
		c, err := nftables.New(nftables.AsLasting())
		if err != nil {
			return err
		}
		defer c.CloseLasting()
		t := &nftables.Table{Name: table, Family: nftables.TableFamilyIPv4}
		c.AddTable(t) // what is not there cannot be deleted
		c.DelTable(t)
		if err := fill(c, t); err != nil {
			return err
		}
		return c.Flush()
	})
}
