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
	ofReplySize        = 40
)

// CountFlows asks the bridge in runDir over its OpenFlow socket. It starts no
// process, so it may be called every few seconds.
func CountFlows(runDir, bridge string, timeout time.Duration) (FlowCounts, error) {
	conn, err := net.DialTimeout("unix", filepath.Join(runDir, bridge+".mgmt"), timeout)
	if err != nil {
		return FlowCounts{}, err
	}
	defer leave(conn)
	if err := conn.SetDeadline(time.Now().Add(timeout)); err != nil {
		return FlowCounts{}, err
	}
	var requests []byte
	requests = append(requests, ofVersion, ofHello, 0, ofHeaderSize, 0, 0, 0, 0)
	kinds := []struct{ cookie, mask uint64 }{
		{0, 0},
		{cookieTag | classStatic, 0xffff<<48 | classMask},
		{cookieTag | classDropped, 0xffff<<48 | classMask},
		{cookieTag | classLearned, 0xffff<<48 | classMask},
	}
	for i, k := range kinds {
		requests = append(requests, aggregateRequest(uint32(i+1), k.cookie, k.mask)...)
	}
	if _, err := conn.Write(requests); err != nil {
		return FlowCounts{}, err
	}
	counts := make([]uint32, len(kinds))
	for got := 0; got < len(kinds); {
		number, count, err := readAggregate(conn)
		if err != nil {
			return FlowCounts{}, fmt.Errorf("counting the flows of %s: %w", bridge, err)
		}
		if number >= 1 && int(number) <= len(kinds) {
			counts[number-1] = count
			got++
		}
	}
	return FlowCounts{Static: counts[1], Dropping: counts[2], Foreign: counts[0] - counts[1] - counts[2] - counts[3]}, nil
}

// aggregateRequest asks for the number of flows in all tables by cookie.
func aggregateRequest(number uint32, cookie, mask uint64) []byte {
	b := make([]byte, ofRequestSize)
	b[0], b[1] = ofVersion, ofMultipartRequest
	binary.BigEndian.PutUint16(b[2:], ofRequestSize)
	binary.BigEndian.PutUint32(b[4:], number)
	binary.BigEndian.PutUint16(b[8:], ofAggregate)
	b[16] = 0xff                                      // all tables
	binary.BigEndian.PutUint32(b[20:], 0xffffffff)    // any output port
	binary.BigEndian.PutUint32(b[24:], 0xffffffff)    // any group
	binary.BigEndian.PutUint64(b[32:], cookie)        //
	binary.BigEndian.PutUint64(b[40:], mask)          //
	binary.BigEndian.PutUint32(b[48:], 0x00_01_00_04) // an empty OXM match
	return b
}

// readAggregate reads one message; its number is 0 if it is of another kind.
func readAggregate(conn io.ReadWriter) (number, count uint32, err error) {
	header := make([]byte, ofHeaderSize)
	if _, err := io.ReadFull(conn, header); err != nil {
		return 0, 0, err
	}
	size := int(binary.BigEndian.Uint16(header[2:]))
	if size < ofHeaderSize {
		return 0, 0, errors.New("an OpenFlow message without a header")
	}
	body := make([]byte, size-ofHeaderSize)
	if _, err := io.ReadFull(conn, body); err != nil {
		return 0, 0, err
	}
	switch header[1] {
	case ofHello:
		return 0, 0, nil
	case ofEchoRequest:
		header[1] = ofEchoReply
		_, err := conn.Write(append(header, body...))
		return 0, 0, err
	case ofMultipartReply:
		if size < ofReplySize {
			return 0, 0, errors.New("an OpenFlow aggregate that is too short")
		}
		return binary.BigEndian.Uint32(header[4:]), binary.BigEndian.Uint32(body[24:]), nil
	}
	return 0, 0, fmt.Errorf("OpenFlow message of type %d", header[1])
}
