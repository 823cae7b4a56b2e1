package nameserver

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/miekg/dns"
)

// maxForged is how many datagrams that do not answer the question are skipped
// before the question moves to TCP: an attacker gets that many guesses at the
// ID, and has to find the port first.
const maxForged = 16

// upstreamUDPBytes is the largest datagram read whole: more than was asked for.
const upstreamUDPBytes = 4096

// errNeedsTCP says that UDP cannot bring the answer.
var errNeedsTCP = errors.New("the answer does not come over UDP")

// try asks one resolver once, and once more without EDNS if it knows none (RFC
// 6891 section 7).
func (f *forwarder) try(ctx context.Context, u *upstream, q question, timeout time.Duration) (*dns.Msg, error) {
	r, err := f.send(ctx, u, q, true, timeout)
	if err != nil || r.IsEdns0() != nil || r.Rcode != dns.RcodeFormatError && r.Rcode != dns.RcodeNotImplemented {
		return r, err
	}
	return f.send(ctx, u, q, false, timeout)
}

// send asks over UDP, and over TCP if the answer is too large for that or
// somebody sends forged ones.
func (f *forwarder) send(ctx context.Context, u *upstream, q question, edns bool, timeout time.Duration) (*dns.Msg, error) {
	r, err := f.exchange(ctx, "udp", u, q, edns, timeout)
	if errors.Is(err, errNeedsTCP) {
		return f.exchange(ctx, "tcp", u, q, edns, timeout)
	}
	return r, err
}

// exchange sends the question from a new socket with a new ID and returns the
// first message that answers it.
func (f *forwarder) exchange(ctx context.Context, transport string, u *upstream, q question, edns bool, timeout time.Duration) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	conn, err := f.server.cfg.Dial(ctx, transport, u.address.String())
	if err != nil {
		return nil, fmt.Errorf("dialing: %w", err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()

	id := dns.Id() // from crypto/rand
	wire, err := packQuery(q, id, edns)
	if err != nil {
		return nil, fmt.Errorf("packing the question: %w", err)
	}
	if transport == "tcp" {
		return exchangeTCP(conn, wire, id, q)
	}
	return f.exchangeUDP(conn, wire, id, q)
}

func packQuery(q question, id uint16, edns bool) ([]byte, error) {
	m := dns.Msg{MsgHdr: dns.MsgHdr{Id: id, RecursionDesired: true, CheckingDisabled: q.cd}}
	m.Question = []dns.Question{{Name: q.name, Qtype: q.qtype, Qclass: dns.ClassINET}}
	if edns {
		m.SetEdns0(ednsUDPBytes, q.do)
	}
	return m.Pack()
}

func exchangeTCP(conn net.Conn, wire []byte, id uint16, q question) (*dns.Msg, error) {
	if err := writeFrame(conn, wire); err != nil {
		return nil, fmt.Errorf("sending over TCP: %w", err)
	}
	packet, err := readFrame(conn, maxTCPBytes)
	if err != nil {
		return nil, fmt.Errorf("receiving over TCP: %w", err)
	}
	r, whole := match(packet, id, q)
	if r == nil || !whole || r.Truncated {
		return nil, errors.New("receiving over TCP: not an answer to the question")
	}
	return r, nil
}

// exchangeUDP relies on conn being connected: the kernel drops what comes from
// another address or port.
func (f *forwarder) exchangeUDP(conn net.Conn, wire []byte, id uint16, q question) (*dns.Msg, error) {
	if _, err := conn.Write(wire); err != nil {
		return nil, fmt.Errorf("sending over UDP: %w", err)
	}
	buffer := make([]byte, upstreamUDPBytes)
	for skipped := 0; skipped < maxForged; {
		n, err := conn.Read(buffer)
		if err != nil {
			return nil, fmt.Errorf("receiving over UDP: %w", err)
		}
		r, whole := match(buffer[:n], id, q)
		switch {
		case r != nil && r.Truncated:
			return nil, errNeedsTCP
		case r != nil && whole:
			return r, nil
		}
		skipped++
		f.server.stats.forged.Add(1)
	}
	return nil, errNeedsTCP
}

// match returns the message if it answers the question that was sent with id,
// and whether all of it could be read: a truncated one may end anywhere.
func match(packet []byte, id uint16, q question) (r *dns.Msg, whole bool) {
	if len(packet) < headerBytes || be16(packet) != id {
		return nil, false
	}
	r = new(dns.Msg)
	whole = unpackWhole(r, packet)
	if !r.Response || r.Opcode != dns.OpcodeQuery {
		return nil, false
	}
	if len(r.Question) == 0 && r.Rcode != dns.RcodeSuccess && r.Rcode != dns.RcodeNameError {
		return r, whole // an error may come as a bare header; it says nothing that is kept
	}
	if len(r.Question) != 1 {
		return nil, false
	}
	asked := r.Question[0]
	if dns.CanonicalName(asked.Name) != q.name || asked.Qtype != q.qtype || asked.Qclass != dns.ClassINET {
		return nil, false
	}
	return r, whole
}

// readFrame reads one message of at most limit bytes from a stream (RFC 1035
// section 4.2.2).
func readFrame(r io.Reader, limit int) ([]byte, error) {
	var length [2]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	n := int(be16(length[:]))
	if n > limit {
		return nil, fmt.Errorf("found a message of %d bytes, wanted at most %d", n, limit)
	}
	message := make([]byte, n)
	_, err := io.ReadFull(r, message)
	return message, err
}

// writeFrame writes one message to a stream, in one segment where it fits.
func writeFrame(w io.Writer, message []byte) error {
	frame := make([]byte, 2, 2+len(message))
	binary.BigEndian.PutUint16(frame, uint16(len(message)))
	_, err := w.Write(append(frame, message...))
	return err
}
