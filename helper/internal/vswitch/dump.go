package vswitch

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"
)

// OpenFlow 1.4 sections 7.3.5.2 (flow statistics) and 7.2.3 (matches).
const (
	ofFlow          = 1
	ofReplyMore     = 1
	ofReplyBody     = 16
	ofFlowSize      = 48 // of a flow before its match
	ofCounters      = 32 // where its counters begin
	ofMatchHeader   = 4
	nxmTunnelSource = 0x00013e04 // NXM_NX_TUN_IPV4_SRC, without a mask (nicira-ext.h)
)

// installedFlow is a flow that somebody put into a bridge, in the switch's own words.
type installedFlow struct {
	table  int
	cookie uint64
	// text is all of it but what the switch counts.
	text []byte
	// match are its fields.
	match []byte
}

// installed are the flows that somebody put into a bridge.
type installed []installedFlow

// installedFlows reads the flows of a bridge without those it learned. There are tens of
// thousands of them, and to print and parse them takes ovs-ofctl and this program ten
// times as long as the switch takes to send them.
func (s *Switch) installedFlows(ctx context.Context, name string) (installed, error) {
	have, err := s.readFlows(ctx, name)
	s.tools.answered(err)
	if err != nil {
		return nil, fmt.Errorf("reading the flows of %s: %w", name, err)
	}
	return have, nil
}

func (s *Switch) readFlows(ctx context.Context, name string) (installed, error) {
	limit := s.tools.limit()
	conn, err := (&net.Dialer{Timeout: limit}).DialContext(ctx, "unix", s.socket(name+".mgmt"))
	if err != nil {
		return nil, err
	}
	defer leave(conn)
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	request := multipartRequest(ofFlow, 1, 0, 0)
	if _, err := conn.Write(append(hello(), request...)); err != nil {
		return nil, err
	}
	var all installed
	for {
		if err := errors.Join(ctx.Err(), conn.SetDeadline(time.Now().Add(limit))); err != nil {
			return nil, err
		}
		m, err := readMessage(conn)
		if err != nil {
			return nil, err
		}
		if m.number == 0 {
			continue
		}
		if all, err = all.add(m.body); err != nil || !m.more {
			return all, err
		}
	}
}

// add adds the flows of a part of the answer.
func (have installed) add(part []byte) (installed, error) {
	for len(part) > 0 {
		if len(part) < ofFlowSize+ofMatchHeader {
			return nil, errors.New("an OpenFlow flow that is too short")
		}
		size := int(binary.BigEndian.Uint16(part))
		matched := int(binary.BigEndian.Uint16(part[ofFlowSize+2:]))
		if size > len(part) || matched < ofMatchHeader || ofFlowSize+matched > size {
			return nil, errors.New("an OpenFlow flow that is longer than its message")
		}
		f := installedFlow{table: int(part[2]), cookie: binary.BigEndian.Uint64(part[24:]),
			match: part[ofFlowSize+ofMatchHeader : ofFlowSize+matched]}
		if f.table != tableLearned && f.table != tableAddressed || !isLearned(f.cookie) {
			f.text = make([]byte, 0, size-24)
			f.text = append(f.text, part[2])
			f.text = append(f.text, part[12:ofCounters]...) // from its priority to its cookie
			f.text = append(f.text, part[ofFlowSize:size]...)
			have = append(have, f)
		}
		part = part[size:]
	}
	return have, nil
}

// digest identifies the flows whatever their order.
func (have installed) digest() string {
	texts := make([][]byte, len(have))
	for i, f := range have {
		texts[i] = f.text
	}
	slices.SortFunc(texts, bytes.Compare)
	sum := sha256.New()
	for _, text := range texts {
		_, _ = sum.Write(binary.BigEndian.AppendUint16(nil, uint16(len(text))))
		_, _ = sum.Write(text)
	}
	return hex.EncodeToString(sum.Sum(nil)[:16])
}

// remotes returns the addresses that the flows accept on the tunnel.
func (have installed) remotes() map[string]bool {
	all := map[string]bool{}
	for _, f := range have {
		for m := f.match; f.table == tableAdmission && len(m) >= ofMatchHeader; {
			size := ofMatchHeader + int(m[3])
			if size > len(m) {
				break
			}
			if binary.BigEndian.Uint32(m) == nxmTunnelSource {
				all[netip.AddrFrom4([4]byte(m[ofMatchHeader:size])).String()] = true
			}
			m = m[size:]
		}
	}
	return all
}

// limit is how long the switch may take to answer.
func (t *tools) limit() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.within(0)
}

// answered notes whether the switch did in time.
func (t *tools) answered(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.hangs = errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded)
}
