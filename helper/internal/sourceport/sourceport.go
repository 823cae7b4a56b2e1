// Package sourceport has the datagrams of a UDP port leave with another source port than that of
// their socket, so that NATs on the way take them for new flows.
package sourceport

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"mobula/helper/internal/netns"
	"mobula/helper/internal/spec"
)

const (
	// First and Last bound the ports: below those that the kernel gives to sockets
	// (ip_local_port_range, ip(7)) and NATs prefer to keep.
	First, Last = 16384, 32767
	// What leaves is written to behind all else, and what arrives before all else, so that
	// whoever filters, tracks or counts sees the socket's own port.
	lastPriority, firstPriority = 1000, -1000
)

// Rewriting is in force until it is closed, or somebody takes all tables away.
type Rewriting struct {
	// Port is the one that others see.
	Port      uint16
	namespace string
	reserved  net.PacketConn
}

// Begin has what the namespace's own sockets send from a UDP port, but for the loopback interface,
// leave with one that nobody has there, over both families, and what arrives at that go to the
// socket. What was begun there before ends. It fails where the kernel lacks nf_tables.
func Begin(namespace string, own uint16) (*Rewriting, error) {
	r := &Rewriting{namespace: namespace}
	err := netns.Do(namespace, func() (err error) {
		r.reserved, r.Port, err = reserve()
		return err
	})
	if err != nil {
		return nil, err
	}
	err = change(namespace, func(c *nftables.Conn, t *nftables.Table) {
		c.AddTable(t)
		add := func(name string, hook *nftables.ChainHook, priority nftables.ChainPriority, exprs []expr.Any) {
			chain := c.AddChain(&nftables.Chain{Name: name, Table: t, Type: nftables.ChainTypeFilter, Hooknum: hook, Priority: &priority})
			c.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: exprs})
		}
		add("leaving", nftables.ChainHookOutput, lastPriority, replace(expr.MetaKeyOIFNAME, 0, own, r.Port))
		add("arriving", nftables.ChainHookPrerouting, firstPriority, replace(expr.MetaKeyIIFNAME, 2, r.Port, own))
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("another source port: %w", err), r.reserved.Close())
	}
	return r, nil
}

// End takes away what a process that was killed has begun in a namespace.
func End(namespace string) error {
	return change(namespace, func(*nftables.Conn, *nftables.Table) {})
}

// change has the table anew with what fill puts into it; nothing: it is gone.
func change(namespace string, fill func(*nftables.Conn, *nftables.Table)) error {
	return netns.Do(namespace, func() error {
		c, err := nftables.New(nftables.AsLasting())
		if err != nil {
			return err
		}
		defer c.CloseLasting()
		t := &nftables.Table{Name: spec.SourcePortTable, Family: nftables.TableFamilyINet}
		c.AddTable(t) // what is not there cannot be deleted
		c.DelTable(t)
		fill(c, t)
		return c.Flush()
	})
}

// reserve has a port be nobody else's, whose answers would go to the socket.
func reserve() (reserved net.PacketConn, port uint16, err error) {
	for range 20 {
		port = First + rand.N[uint16](Last-First+1)
		if reserved, err = net.ListenPacket("udp", fmt.Sprintf(":%d", port)); err == nil {
			return reserved, port, nil
		}
	}
	return nil, 0, fmt.Errorf("no free UDP port: %w", err)
}

// replace has a UDP port at an offset (RFC 768), unless it is the loopback interface's, become
// another one: what nft(8) calls udp sport set, or udp dport set.
func replace(interfaceName expr.MetaKey, offset uint32, from, to uint16) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: interfaceName, Register: 1},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: append([]byte("lo"), make([]byte, unix.IFNAMSIZ-2)...)},
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Register: 1, Data: []byte{unix.IPPROTO_UDP}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: 2},
		&expr.Cmp{Register: 1, Data: binaryutil.BigEndian.PutUint16(from)},
		&expr.Immediate{Register: 1, Data: binaryutil.BigEndian.PutUint16(to)},
		&expr.Payload{OperationType: expr.PayloadWrite, SourceRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: 2,
			CsumType: expr.CsumTypeInet, CsumOffset: 6},
	}
}

// Close has all leave with the socket's own port again; nil is closed, and a namespace that is gone.
func (r *Rewriting) Close() (err error) {
	if r == nil {
		return nil
	}
	if r.namespace == "" || netns.Exists(r.namespace) {
		err = End(r.namespace)
	}
	return errors.Join(err, r.reserved.Close())
}
