package probe

import (
	"bytes"
	"net/netip"
	"testing"
)

func TestCarry(t *testing.T) {
	data := []byte{1, 0, 0, 0, 9, 9}
	for _, c := range []Carry{{Host: 1, Datagram: data}, {On: true, Host: 32767, Datagram: data}} {
		if got, err := ParseCarry(c.Append(nil)); err != nil || got.On != c.On || got.Host != c.Host || !bytes.Equal(got.Datagram, data) {
			t.Errorf("%+v became %+v, %v", c, got, err)
		}
	}
	good := Carry{Host: 1, Datagram: data}.Append(nil)
	for at, wrong := range map[int]byte{0: version + 1, 1: 2, 3: 0, 4: 5, 7: 1} {
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
		if c, err := ParseCarry(b); err == nil && !bytes.Equal(c.Append(nil), append([]byte{version}, b[1:]...)) {
			t.Errorf("%x was read as %+v", b, c)
		}
	})
}
