package probe

import (
	"bytes"
	"net/netip"
	"testing"
)

func TestCarry(t *testing.T) {
	data := []byte{1, 0, 0, 0, 9, 9}
	for _, c := range []Carry{{Host: 1, Datagram: data}, {On: true, Host: 32767, Datagram: data}, {Host: 7, Part: 1, Number: 65535, Datagram: data}, {On: true, Host: 7, Part: 2, Number: 1, Datagram: []byte("half")}} {
		if got, err := ParseCarry(c.Append(nil)); err != nil || got.On != c.On || got.Host != c.Host || got.Part != c.Part || got.Number != c.Number || !bytes.Equal(got.Datagram, c.Datagram) {
			t.Errorf("%+v became %+v, %v", c, got, err)
		}
	}
	good := Carry{Host: 1, Datagram: data}.Append(nil)
	for at, wrong := range map[int]byte{0: version + 1, 1: 6, 3: 0, 8: 5, 11: 1} {
		b := bytes.Clone(good)
		if b[at] = wrong; at == 3 {
			b[2] = 0
		}
		if got, err := ParseCarry(b); err == nil {
			t.Errorf("byte %d is %d: it was read as %+v", at, wrong, got)
		}
	}
	for _, size := range []int{0, carrySize, carrySize + 3, MaxSize + 1} {
		if got, err := ParseCarry(append(bytes.Clone(good), make([]byte, MaxSize)...)[:size]); err == nil {
			t.Errorf("%d bytes were read as %+v", size, got)
		}
	}
}

// TestCut: no message is longer than it may be, and all of the datagram is in two.
func TestCut(t *testing.T) {
	for _, size := range []int{4, 1400, 1404, 1405, 1472, 1473} {
		data := bytes.Repeat([]byte{4, 0, 0, 0}, 400)[:size]
		var all []byte
		parts := Carry{Host: 1, Number: 7, Datagram: data}.Cut(1412)
		for _, m := range parts {
			all = append(all, m.Datagram...)
			if n := len(m.Append(nil)); n > 1412 {
				t.Errorf("%d bytes: a message of %d", size, n)
			}
		}
		if !bytes.Equal(all, data) || len(parts) > 2 || (len(parts) == 1) != (size+carrySize <= 1412) {
			t.Errorf("%d bytes became %d messages with %d bytes", size, len(parts), len(all))
		}
	}
}

// TestCarrierTells: of itself in each message, and of a target in an answer.
func TestCarrierTells(t *testing.T) {
	for _, m := range []Traffic{
		{Type: Request, Sequence: 1, Session: 2, Carrier: true, Size: TrafficSize},
		{Type: Answer, Target: 7, Sequence: 1, Session: 2, Carrier: true, Verdict: Verdict{Carries: true, FullSize: true, RTTMicroseconds: 5}, Size: TrafficSize},
		{Type: Answer, Target: 7, Sequence: 1, Session: 2, Verdict: Verdict{Carries: true}, Size: TrafficSize},
		{Type: Sighting, Target: 7, Session: 2, At: netip.MustParseAddrPort("203.0.113.7:4000"), Size: sightingSize},
		{Type: Sighting, Target: 7, Session: 2, At: netip.MustParseAddrPort("[2001:db8::7]:65535"), Size: sightingSize + 4},
	} {
		if got, err := ParseTraffic(m.Append(nil)); err != nil || got != m {
			t.Errorf("%+v became %+v, %v", m, got, err)
		}
	}
	for _, size := range []int{TrafficSize, sightingSize - 1} {
		if got, err := ParseTraffic(Traffic{Type: Sighting, Target: 7, At: netip.MustParseAddrPort("203.0.113.7:1")}.Append(nil)[:size]); err == nil {
			t.Errorf("%d bytes of a sighting were read as %+v", size, got)
		}
	}
	entry := Entry{9, Verdict{Carries: true}}
	if got := More(Traffic{Type: Answer, Target: 7}.AppendMore(nil, []Entry{entry})); len(got) != 1 || got[0] != entry {
		t.Errorf("%+v became %+v", entry, got)
	}
}

func FuzzCarry(f *testing.F) {
	f.Add(Carry{Host: 1, Datagram: []byte{1, 0, 0, 0}}.Append(nil))
	f.Add(Carry{On: true, Host: 2, Datagram: make([]byte, 1472)}.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := ParseCarry(b); err == nil && !bytes.Equal(c.Append(nil), append(append([]byte{version}, b[1:6]...), append([]byte{0, 0}, b[8:]...)...)) {
			t.Errorf("%x was read as %+v", b, c)
		}
	})
}
