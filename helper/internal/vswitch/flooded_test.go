package vswitch

import (
	"encoding/binary"
	"testing"
)

// TestMetered: the bands of several meters are added up, and what is no list of meters is
// an error.
func TestMetered(t *testing.T) {
	meter := func(bands ...uint64) []byte {
		b := make([]byte, ofMeterStats+len(bands)*ofBandStats)
		binary.BigEndian.PutUint32(b, 7)
		binary.BigEndian.PutUint16(b[4:], uint16(len(b)))
		binary.BigEndian.PutUint64(b[16:], 1000) // packets that came
		for i, n := range bands {
			binary.BigEndian.PutUint64(b[ofMeterStats+i*ofBandStats:], n)
		}
		return b
	}
	long, short := meter(1), meter(1)
	long[5]++
	short[5] = 8
	for name, c := range map[string]struct {
		body []byte
		want uint64
		ok   bool
	}{
		"none": {nil, 0, true}, "two": {append(meter(5), meter(6, 7)...), 18, true}, "without bands": {meter(), 0, true},
		"cut": {meter(5)[:30], 0, false}, "too long": {long, 0, false}, "too short": {short, 0, false},
	} {
		if got, err := metered(c.body); got != c.want || (err == nil) != c.ok {
			t.Errorf("%s: found %d, %v, wanted %d", name, got, err, c.want)
		}
	}
}
