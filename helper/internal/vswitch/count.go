package vswitch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"time"
)

// FlowCounts says how many flows of each kind a bridge has, so that one can tell
// cheaply whether somebody took some away or added some. What the switch itself
// learned is left out.
type FlowCounts struct{ Static, Dropping, Foreign uint32 }

// OpenFlow 1.4 message types and constants, sections 7.1 and 7.3.5.
const (
	ofVersion          = 0x05
	ofHello            = 0
	ofEchoRequest      = 2
	ofEchoReply        = 3
	ofMultipartRequest = 18
	ofMultipartReply   = 19
	ofAggregate        = 2
	ofHeaderSize       = 8
	ofRequestSize      = 56
	ofAggregateBody    = 24
)

// CountFlows asks the bridge in runDir over its OpenFlow socket. It starts no
// process, so it may be called every few seconds.
func CountFlows(runDir, bridge string, timeout time.Duration) (FlowCounts, error) {
	all, err := aggregates(runDir, bridge, timeout, []flowClass{
		{0, 0},
		{cookieTag | classStatic, 0xffff<<48 | classMask},
		{cookieTag | classDropped, 0xffff<<48 | classMask},
		{cookieTag | classLearned, 0xffff<<48 | classMask},
	})
	if err != nil {
		return FlowCounts{}, err
	}
	return FlowCounts{Static: all[1].flows, Dropping: all[2].flows, Foreign: all[0].flows - all[1].flows - all[2].flows - all[3].flows}, nil
}

// DroppedFrames counts frames since the bridge was made, by why they were dropped.
type DroppedFrames struct {
	Claimed uint64 // somebody else's address, or something else that is not theirs to say
	Beyond  uint64 // came from more stations or addresses than one port or host may have
}

// CountDropped counts the frames that were dropped. It asks as CountFlows does.
func CountDropped(runDir, bridge string, timeout time.Duration) (d DroppedFrames, err error) {
	all, err := aggregates(runDir, bridge, timeout, []flowClass{
		{cookieTag | classDropped, 0xffff<<48 | classMask},
		{cookieTag | classDropped | uint64(PinStations)<<36, 0xffff<<48 | classMask | 0xf<<36},
	})
	if err != nil {
		return d, err
	}
	return DroppedFrames{Claimed: all[0].packets - min(all[0].packets, all[1].packets), Beyond: all[1].packets}, nil
}

// flowClass are the flows whose cookies are this one as far as the mask says.
type flowClass struct{ cookie, mask uint64 }

// aggregate is what flows have in common.
type aggregate struct {
	packets uint64
	flows   uint32
}

// aggregates asks the bridge about each of the classes.
func aggregates(runDir, bridge string, timeout time.Duration, kinds []flowClass) ([]aggregate, error) {
	var requests []byte
	for i, k := range kinds {
		requests = append(requests, multipartRequest(ofAggregate, uint32(i+1), k.cookie, k.mask)...)
	}
	conn, err := ask(runDir, bridge, timeout, requests)
	if err != nil {
		return nil, err
	}
	defer leave(conn)
	counts := make([]aggregate, len(kinds))
	for got := 0; got < len(kinds); {
		m, err := readMessage(conn)
		if err == nil && m.number > 0 && len(m.body) < ofAggregateBody {
			err = errors.New("an OpenFlow aggregate that is too short")
		}
		if err != nil {
			return nil, fmt.Errorf("counting the flows of %s: %w", bridge, err)
		}
		if m.number >= 1 && int(m.number) <= len(kinds) {
			counts[m.number-1] = aggregate{binary.BigEndian.Uint64(m.body), binary.BigEndian.Uint32(m.body[16:])}
			got++
		}
	}
	return counts, nil
}

// ask sends requests to the bridge in runDir over its OpenFlow socket, of which all has to be
// over within the timeout. What it returns is to be left.
func ask(runDir, bridge string, timeout time.Duration, requests []byte) (net.Conn, error) {
	conn, err := net.DialTimeout("unix", filepath.Join(runDir, bridge+".mgmt"), timeout)
	if err != nil {
		return nil, err
	}
	if err = conn.SetDeadline(time.Now().Add(timeout)); err == nil {
		_, err = conn.Write(append(hello(), requests...))
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

func hello() []byte { return []byte{ofVersion, ofHello, 0, ofHeaderSize, 0, 0, 0, 0} }

// multipartRequest asks about the flows in all tables by cookie.
func multipartRequest(kind uint16, number uint32, cookie, mask uint64) []byte {
	b := make([]byte, ofRequestSize)
	b[0], b[1] = ofVersion, ofMultipartRequest
	binary.BigEndian.PutUint16(b[2:], ofRequestSize)
	binary.BigEndian.PutUint32(b[4:], number)
	binary.BigEndian.PutUint16(b[8:], kind)
	b[16] = 0xff                                      // all tables
	binary.BigEndian.PutUint32(b[20:], 0xffffffff)    // any output port
	binary.BigEndian.PutUint32(b[24:], 0xffffffff)    // any group
	binary.BigEndian.PutUint64(b[32:], cookie)        //
	binary.BigEndian.PutUint64(b[40:], mask)          //
	binary.BigEndian.PutUint32(b[48:], 0x00_01_00_04) // an empty OXM match
	return b
}

// message is an answer, or a part of one; number is 0 if it is something else.
type message struct {
	number uint32
	more   bool // parts follow
	body   []byte
}

// readMessage reads one message.
func readMessage(conn io.ReadWriter) (message, error) {
	header := make([]byte, ofHeaderSize)
	if _, err := io.ReadFull(conn, header); err != nil {
		return message{}, err
	}
	size := int(binary.BigEndian.Uint16(header[2:]))
	if size < ofHeaderSize {
		return message{}, errors.New("an OpenFlow message without a header")
	}
	body := make([]byte, size-ofHeaderSize)
	if _, err := io.ReadFull(conn, body); err != nil {
		return message{}, err
	}
	switch header[1] {
	case ofHello:
		return message{}, nil
	case ofEchoRequest:
		header[1] = ofEchoReply
		_, err := conn.Write(append(header, body...))
		return message{}, err
	case ofMultipartReply:
		if size < ofReplyBody {
			return message{}, errors.New("an OpenFlow answer that is too short")
		}
		more := binary.BigEndian.Uint16(body[2:])&ofReplyMore != 0
		return message{binary.BigEndian.Uint32(header[4:]), more, body[ofReplyBody-ofHeaderSize:]}, nil
	}
	return message{}, fmt.Errorf("OpenFlow message of type %d", header[1])
}
