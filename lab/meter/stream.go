package meter

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// A stream is a line "from to" and then blocks: a number that counts up from 0, and padding
// that repeats its lowest byte.
const blockSize = 512

// sendStream keeps one connection: when it breaks, that is the result, it is not replaced.
func (p *Process) sendStream(ctx context.Context, s *Sent) {
	err := p.writeBlocks(ctx, s)
	if err != nil && ctx.Err() == nil {
		p.mu.Lock()
		s.TCPError = err.Error()
		p.mu.Unlock()
	}
}

func (p *Process) writeBlocks(ctx context.Context, s *Sent) error {
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(s.From)}, Timeout: 10 * time.Second}
	conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(s.To, fmt.Sprint(TCPPort)))
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := fmt.Fprintf(conn, "%s %s\n", s.From, s.To); err != nil {
		return err
	}
	tick := time.NewTicker(TCPEvery)
	defer tick.Stop()
	block := make([]byte, blockSize)
	for n := uint64(0); ; n++ {
		fillBlock(block, n)
		if _, err := conn.Write(block); err != nil {
			return err
		}
		p.mu.Lock()
		s.Blocks++
		p.mu.Unlock()
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func fillBlock(block []byte, n uint64) {
	for i := range block {
		block[i] = byte(n)
	}
	binary.BigEndian.PutUint64(block, n)
}

func (p *Process) acceptStreams(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go p.readBlocks(conn)
	}
}

func (p *Process) readBlocks(conn net.Conn) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	line, err := in.ReadString('\n')
	from, to, ok := strings.Cut(strings.TrimSpace(line), " ")
	if err != nil || !ok {
		return
	}
	r := &TCPReceived{Flow: Flow{from, to}}
	p.mu.Lock()
	p.tcp[fmt.Sprint(r.Flow, conn.RemoteAddr())] = r
	p.mu.Unlock()
	block, want := make([]byte, blockSize), make([]byte, blockSize)
	last := time.Now()
	for n := uint64(0); ; n++ {
		_, err := io.ReadFull(in, block)
		now := time.Now()
		fillBlock(want, n)
		p.mu.Lock()
		switch {
		case errors.Is(err, io.EOF):
		case err != nil:
			r.Error = err.Error()
		case string(block) != string(want):
			r.Error = fmt.Sprintf("block %d is not what was sent", n)
		default:
			r.Blocks++
			if gap := now.Sub(last); gap > r.LongestGap {
				r.LongestGap = gap
			}
			last = now
			p.mu.Unlock()
			continue
		}
		p.mu.Unlock()
		return
	}
}
