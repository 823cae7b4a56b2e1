package vswitch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// OpenFlow 1.4, section 7.3.5: the statistics of meters.
const (
	ofMeter        = 9
	ofMeterRequest = 24 // bytes
	ofEveryMeter   = 0xffffffff
	ofMeterStats   = 40 // bytes of a meter before its bands
	ofBandStats    = 16 // of a band: packets and bytes
)

// CountFlooded returns how many frames the bridge's meters dropped since they were set. It
// asks as CountFlows does, and fails where the datapath has no meters.
func CountFlooded(runDir, bridge string, timeout time.Duration) (frames uint64, err error) {
	conn, err := ask(runDir, bridge, timeout, meterRequest())
	if err != nil {
		return 0, err
	}
	defer leave(conn)
	for {
		m, err := readMessage(conn)
		if err == nil && m.number == 0 {
			continue
		}
		part, parseErr := metered(m.body)
		if err = errors.Join(err, parseErr); err != nil {
			return 0, fmt.Errorf("counting what the meters of %s dropped: %w", bridge, err)
		}
		if frames += part; !m.more {
			return frames, nil
		}
	}
}

// meterRequest asks about all meters.
func meterRequest() []byte {
	b := make([]byte, ofMeterRequest)
	b[0], b[1] = ofVersion, ofMultipartRequest
	binary.BigEndian.PutUint16(b[2:], ofMeterRequest)
	binary.BigEndian.PutUint32(b[4:], 1)
	binary.BigEndian.PutUint16(b[8:], ofMeter)
	binary.BigEndian.PutUint32(b[16:], ofEveryMeter)
	return b
}

// metered adds up the packets of all bands, which are those that drop.
func metered(body []byte) (packets uint64, err error) {
	for len(body) > 0 {
		if len(body) < ofMeterStats {
			return 0, errors.New("an OpenFlow meter that is too short")
		}
		size := int(binary.BigEndian.Uint16(body[4:]))
		if size < ofMeterStats || size > len(body) {
			return 0, errors.New("an OpenFlow meter of a wrong length")
		}
		for bands := body[ofMeterStats:size]; len(bands) >= ofBandStats; bands = bands[ofBandStats:] {
			packets += binary.BigEndian.Uint64(bands)
		}
		body = body[size:]
	}
	return packets, nil
}
