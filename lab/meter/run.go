package meter

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sort"
	"sync"
	"syscall"
	"time"
)

// A packet: magic, run, sequence number, the flow's two addresses as 16 bytes each, the nanoseconds
// between two packets, then padding.
const (
	magic      = 0x6d657465
	headerSize = 4 + 4 + 8 + 16 + 16 + 8
)

// Process is a running meter.
type Process struct {
	config Config
	run    uint32 // tells packets of an older process with the same flows apart

	mu       sync.Mutex
	sent     []*Sent
	received map[string]*account
	tcp      map[string]*TCPReceived
	sending  bool

	sockets   map[string]*net.UDPConn // by local address
	listeners []net.Listener
	ctx       context.Context // of the senders
	stopSend  context.CancelFunc
}

// Start begins to receive. Addresses that this machine does not have yet are no error: they
// may come.
func Start(c Config) (*Process, error) {
	if c.Size < headerSize {
		c.Size = headerSize
	}
	p := &Process{
		config: c, run: uint32(time.Now().UnixNano()),
		received: map[string]*account{}, tcp: map[string]*TCPReceived{}, sockets: map[string]*net.UDPConn{},
	}
	listen := net.ListenConfig{Control: freeBind}
	addresses := append([]string(nil), c.Listen...)
	for _, f := range c.Send {
		addresses = append(addresses, f.From)
	}
	for _, a := range addresses {
		if p.sockets[a] != nil {
			continue
		}
		conn, err := listen.ListenPacket(context.Background(), "udp", net.JoinHostPort(a, fmt.Sprint(UDPPort)))
		if err != nil {
			return nil, err
		}
		p.sockets[a] = conn.(*net.UDPConn)
		go p.receive(p.sockets[a])
		if c.TCP {
			l, err := listen.Listen(context.Background(), "tcp", net.JoinHostPort(a, fmt.Sprint(TCPPort)))
			if err != nil {
				return nil, err
			}
			p.listeners = append(p.listeners, l)
			go p.acceptStreams(l)
		}
	}
	p.ctx, p.stopSend = context.WithCancel(context.Background())
	return p, nil
}

// StartSending begins the flows that begin here; by then the other side should receive.
func (p *Process) StartSending() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.sending {
		return
	}
	p.sending = true
	for _, f := range p.config.Send {
		s := &Sent{Flow: f.Flow}
		p.sent = append(p.sent, s)
		if p.config.TCP {
			go p.sendStream(p.ctx, s)
		}
	}
	go p.send(p.ctx, p.targets())
}

// freeBind allows addresses that are not there (yet).
func freeBind(_, _ string, c syscall.RawConn) error {
	var err error
	controlErr := c.Control(func(fd uintptr) {
		err = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IP, syscall.IP_FREEBIND, 1)
	})
	if controlErr != nil {
		return controlErr
	}
	return err
}

// target is where the packets of a flow go.
type target struct {
	sent   *Sent
	conn   *net.UDPConn
	to     netip.AddrPort
	packet []byte
	nth    uint64 // tick that counts
}

func (p *Process) targets() []target {
	var all []target
	for i, f := range p.config.Send {
		every := max(f.Every, p.config.Every)
		from, to := netip.MustParseAddr(f.From), netip.MustParseAddr(f.To)
		packet := make([]byte, p.config.Size)
		binary.BigEndian.PutUint32(packet, magic)
		binary.BigEndian.PutUint32(packet[4:], p.run)
		a, b := from.As16(), to.As16()
		copy(packet[16:], a[:])
		copy(packet[32:], b[:])
		binary.BigEndian.PutUint64(packet[48:], uint64(every))
		all = append(all, target{p.sent[i], p.sockets[f.From], netip.AddrPortFrom(to, UDPPort), packet, uint64(every / p.config.Every)})
	}
	return all
}

// send is the one clock for all flows.
func (p *Process) send(ctx context.Context, targets []target) {
	tick := time.NewTicker(p.config.Every)
	defer tick.Stop()
	for n := uint64(0); ; n++ {
		for _, t := range targets {
			if n%t.nth != 0 {
				continue
			}
			p.mu.Lock()
			seq := t.sent.Packets
			t.sent.Packets++
			p.mu.Unlock()
			binary.BigEndian.PutUint64(t.packet[8:], seq)
			if _, err := t.conn.WriteToUDPAddrPort(t.packet, t.to); err != nil {
				p.mu.Lock()
				t.sent.Errors++
				t.sent.LastError = err.Error()
				p.mu.Unlock()
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (p *Process) receive(conn *net.UDPConn) {
	buf := make([]byte, 1<<16)
	for {
		n, _, err := conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			continue // ICMP errors about packets sent from here show up as read errors
		}
		now := time.Now()
		if n < headerSize || binary.BigEndian.Uint32(buf) != magic {
			continue
		}
		run, seq := binary.BigEndian.Uint32(buf[4:]), binary.BigEndian.Uint64(buf[8:])
		f := Flow{
			netip.AddrFrom16([16]byte(buf[16:32])).Unmap().String(),
			netip.AddrFrom16([16]byte(buf[32:48])).Unmap().String(),
		}
		key := fmt.Sprint(f, run)
		p.mu.Lock()
		a := p.received[key]
		if a == nil {
			a = newAccount(f, time.Duration(binary.BigEndian.Uint64(buf[48:])))
			p.received[key] = a
		}
		a.arrive(seq, now)
		p.mu.Unlock()
	}
}

// StopSending ends the flows that begin here; what is on its way still counts.
func (p *Process) StopSending() {
	p.mu.Lock()
	// The silence from here on is nobody's fault.
	now := time.Now()
	for _, a := range p.received {
		if p.sending && now.Sub(a.last) >= a.threshold {
			a.silence(now, 0)
			a.last = now
		}
	}
	p.sending = false
	p.mu.Unlock()
	p.stopSend()
}

// Close stops everything.
func (p *Process) Close() {
	p.stopSend()
	for _, s := range p.sockets {
		s.Close()
	}
	for _, l := range p.listeners {
		l.Close()
	}
}

// Report returns the state of the books.
func (p *Process) Report() Report {
	p.mu.Lock()
	defer p.mu.Unlock()
	var r Report
	now := time.Now()
	for _, s := range p.sent {
		r.Sent = append(r.Sent, *s)
	}
	for _, a := range p.received {
		r.Received = append(r.Received, a.report(now, p.sending))
	}
	for _, t := range p.tcp {
		r.TCP = append(r.TCP, *t)
	}
	sort.Slice(r.Received, func(i, j int) bool { return fmt.Sprint(r.Received[i].Flow) < fmt.Sprint(r.Received[j].Flow) })
	sort.Slice(r.TCP, func(i, j int) bool { return fmt.Sprint(r.TCP[i].Flow) < fmt.Sprint(r.TCP[j].Flow) })
	return r
}
