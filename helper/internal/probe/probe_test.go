package probe

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"

	"mobula/helper/internal/network"
)

func messages() []Traffic {
	generation := Generation{1, 2, 3, 4, 5, 6, 7, 8}
	return []Traffic{
		{Type: Request, Sequence: 1, Session: 2, Generation: generation, Size: TrafficSize},
		{Type: Request, Sequence: 1 << 31, Session: 1 << 63, Size: 1412},
		{Type: Echo, Sequence: 7, Session: 9, Generation: generation, Size: TrafficSize + 1},
		{Type: Query, Target: 32767, Sequence: 3, Session: 4, Size: TrafficSize},
		{Type: Answer, Target: 256, Sequence: 3, Session: 4, Size: TrafficSize,
			Verdict: Verdict{Reachable: true, FullSize: true, RTTMicroseconds: 1 << 31, LossPermille: 1000}},
		{Type: Answer, Target: 1, Size: TrafficSize},
		{Type: Goodbye, Session: 2, Generation: generation, Size: TrafficSize},
	}
}

// TestAside: every message says it, whatever its type and size, and zeros say nothing.
func TestAside(t *testing.T) {
	for _, m := range messages() {
		m.Aside = Aside{Dead: 32767, Busy: 3000}
		sent := m.Append(nil)
		if got, err := ParseTraffic(sent); err != nil || got != m {
			t.Errorf("found %+v, %v, wanted %+v", got, err, m)
		}
		if m.Type == Query || m.Type == Answer {
			got, err := ParseTraffic(m.AppendMore(nil, []Entry{{Target: 3}}))
			if err != nil || got.Aside != m.Aside {
				t.Errorf("with further targets found %+v, %v", got, err)
			}
		}
	}
}

func TestTraffic(t *testing.T) {
	for _, m := range messages() {
		got, err := ParseTraffic(m.Append(nil))
		if err != nil || got != m {
			t.Errorf("found %+v, %v, wanted %+v", got, err, m)
		}
	}
}

// TestMore: questions and answers with many targets. What does not fit is left out.
func TestMore(t *testing.T) {
	var more []Entry
	for i := uint16(1); i <= MaxMore; i++ {
		more = append(more, Entry{Target: 1000 * i, Verdict: Verdict{Reachable: i%2 == 0, FullSize: i%3 == 0, RTTMicroseconds: 1 << i, LossPermille: 30 * i}})
	}
	for _, want := range [][]Entry{nil, more[:1], more} {
		m := Traffic{Type: Answer, Target: 7, Sequence: 1, Session: 2, Lists: true, Verdict: Verdict{Reachable: true, RTTMicroseconds: 5}}
		b := m.AppendMore([]byte("before"), want)[6:]
		m.Size = len(b)
		if got, err := ParseTraffic(b); err != nil || got != m {
			t.Errorf("found %+v, %v, wanted %+v", got, err, m)
		}
		if got := More(b); !slices.Equal(got, want) {
			t.Errorf("found %+v, wanted %+v", got, want)
		}
	}
	b := Traffic{Type: Query, Target: 7}.AppendMore(nil, []Entry{{Target: 1}, {}, {Target: 3, Verdict: Verdict{LossPermille: 1001}}, {Target: 4}})
	b[25] = 0xff
	if got := More(b); !slices.Equal(got, []Entry{{Target: 1}, {Target: 4}}) {
		t.Errorf("found %+v, wanted 1 and 4", got)
	}
	if got := More(b[:TrafficSize+entrySize+1]); len(got) != 1 {
		t.Errorf("of a message that is cut off found %+v, wanted one", got)
	}
}

func TestTrafficRefuses(t *testing.T) {
	change := func(at int, to byte) []byte {
		b := Traffic{Type: Request, Size: 40}.Append(nil)
		b[at] = to
		return b
	}
	for name, b := range map[string][]byte{
		"nothing": nil, "short": make([]byte, TrafficSize-1), "long": make([]byte, MaxSize+1),
		"version": change(0, 2), "no version": change(0, 0), "type": change(1, 6),
		"loss":      Traffic{Type: Answer, Target: 1, Verdict: Verdict{LossPermille: 1001}}.Append(nil),
		"no target": Traffic{Type: Answer}.Append(nil),
	} {
		if m, err := ParseTraffic(b); err == nil {
			t.Errorf("%s: found %+v, wanted an error", name, m)
		}
	}
}

// TestLaterVersions: what a later version may put where this one has zeros is
// ignored, and what it knows is read.
func TestLaterVersions(t *testing.T) {
	for _, m := range messages() {
		want, sent := m, m.Append(nil)
		sent[24] |= ^byte(flagReachable | flagFullSize | flagLists | flagCarries | flagCarrier)
		sent[25], sent[32], sent[35] = 0xff, 1, 0xff
		sent = append(sent, 1, 2, 3, 0xff)
		want.Size += 4
		want.Aside = Aside{Dead: 0x100, Busy: 0xff}
		switch m.Type {
		case Request, Echo:
			copy(sent[2:4], "xy")
			copy(sent[26:32], "abcdef")
		case Query:
			copy(sent[26:32], "abcdef")
		case Goodbye:
			copy(sent[2:8], "xyzxyz")
		}
		if got, err := ParseTraffic(sent); err != nil || got != want {
			t.Errorf("found %+v, %v, wanted %+v", got, err, want)
		}
	}
	a, _ := pair(t)
	secretOf := func(uint16) []Secret { return []Secret{a} }
	m := Direct{Type: Request, From: 1, To: 2, Sequence: 3, Session: 4, Size: DirectSize + 8}
	sent := m.Append(nil, &a)
	copy(sent[DirectSize:], "\x01more\xff")
	if _, err := ParseDirect(sent, 2, secretOf); err == nil {
		t.Error("took bytes that the MAC does not cover")
	}
	copy(sent[directHeader:], a.mac(sent))
	if got, err := ParseDirect(sent, 2, secretOf); err != nil || got != m {
		t.Errorf("found %+v, %v, wanted %+v", got, err, m)
	}
}

// pair returns the secret of two hosts as each of them derives it.
func pair(t testing.TB) (a, b Secret) {
	t.Helper()
	// RFC 7748 section 6.1.
	key := func(s string) (k network.Key) {
		if err := k.UnmarshalText([]byte(s)); err != nil {
			t.Fatal(err)
		}
		return k
	}
	alicePrivate, alicePublic := key("dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo="), key("hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=")
	bobPrivate, bobPublic := key("XasIfmJKikt54X+Lg4AO5m87sSkmGLb9HC+LJ/+I4Os="), key("3p7bfXt9wbTTW2HC7OQ1Nz+DQ8hbeGdNrfx+FG+IK08=")
	a, err := NewSecret(alicePrivate, bobPublic)
	if err == nil {
		b, err = NewSecret(bobPrivate, alicePublic)
	}
	if err != nil {
		t.Fatal(err)
	}
	return a, b
}

func TestSecret(t *testing.T) {
	a, b := pair(t)
	if a != b || a == (Secret{}) {
		t.Errorf("found %x and %x, wanted the same", a, b)
	}
	if _, err := NewSecret(network.Key{1}, network.Key{1}); err == nil {
		t.Error("a public key of low order was accepted") // u = 1, see RFC 7748 section 6.1
	}
}

func TestDirect(t *testing.T) {
	a, b := pair(t)
	secretOf := func(from uint16) []Secret {
		if from == 1 {
			return []Secret{{1}, b} // of another key, and of the one that is used
		}
		return nil
	}
	for _, m := range []Direct{
		{Type: Request, From: 1, To: 2, Sequence: 3, Session: 4, Size: DirectSize},
		{Type: Echo, From: 1, To: 2, Sequence: 3, Session: 4, Size: 1472},
	} {
		sent := m.Append(nil, &a)
		got, err := ParseDirect(sent, 2, secretOf)
		if err != nil || got != m {
			t.Errorf("found %+v, %v, wanted %+v", got, err, m)
		}
		if _, err := ParseDirect(sent, 3, secretOf); err == nil {
			t.Error("a message for somebody else was accepted")
		}
		for i := range sent {
			forged := bytes.Clone(sent)
			forged[i] ^= 1
			if _, err := ParseDirect(forged, 2, secretOf); err == nil {
				t.Fatalf("accepted with a flipped bit in byte %d", i)
			}
		}
		if _, err := ParseDirect(sent[:len(sent)-1], 2, secretOf); err == nil {
			t.Error("a cut message was accepted")
		}
	}
	stranger := Direct{Type: Request, From: 9, To: 2}.Append(nil, &a)
	if _, err := ParseDirect(stranger, 2, secretOf); err == nil {
		t.Error("a stranger was accepted")
	}
}

func TestWindow(t *testing.T) {
	var w Window
	for i, step := range []struct {
		session  uint64
		sequence uint32
		want     bool
	}{
		{5, 1, true}, {5, 1, false}, {5, 3, true}, {5, 2, true}, {5, 2, false},
		{5, 100, true}, {5, 36, false}, {5, 37, true}, {5, 37, false},
		{4, 200, false}, {6, 1, true}, {5, 101, false}, {6, 1 << 31, true}, {6, 1, false}, {6, 1<<31 - 1, true},
	} {
		if got := w.Accept(Direct{Session: step.session, Sequence: step.sequence, Size: DirectSize}); got != step.want {
			t.Errorf("step %d: session %d, sequence %d: found %v, wanted %v", i, step.session, step.sequence, got, step.want)
		}
	}
	// Those of full size come seldom, and are far behind the small ones.
	full := Direct{Session: 6, Sequence: 1, Size: DirectSize + 1}
	if !w.Accept(full) || w.Accept(full) {
		t.Error("the first padded request must be accepted once")
	}
	w.Adopt(2)
	small := Direct{Session: 2, Sequence: 1, Size: DirectSize}
	if !w.Accept(small) || w.Accept(small) {
		t.Error("an adopted session must be accepted once")
	}
}

func FuzzTraffic(f *testing.F) {
	for _, m := range messages() {
		f.Add(m.Append(nil))
	}
	f.Add(Traffic{Type: Sighting, Target: 7, At: netip.MustParseAddrPort("203.0.113.7:4000")}.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseTraffic(b)
		if err != nil {
			return
		}
		if again, err := ParseTraffic(m.Append(nil)); err != nil || again != m || m.Size != len(b) {
			t.Errorf("%x was read as %+v, which is written and read as %+v, %v", b, m, again, err)
		}
	})
}

func FuzzDirect(f *testing.F) {
	a, _ := pair(f)
	f.Add(Direct{Type: Request, From: 1, To: 2, Sequence: 3, Session: 4}.Append(nil, &a))
	f.Add(Direct{Type: Echo, From: 1, To: 2, Size: 1472}.Append(nil, &a))
	f.Add(Direct{Type: Query, From: 1, To: 2}.Append(nil, &a))
	f.Add([]byte("MOBU"))
	f.Add(append(Direct{Type: Request, From: 1, To: 2}.Append(nil, &a), 0)) // another length than it says
	f.Fuzz(func(t *testing.T, b []byte) {
		secretOf := func(uint16) []Secret { return []Secret{a} }
		check := func(b []byte) {
			m, err := ParseDirect(b, 2, secretOf)
			if err != nil {
				return
			}
			if again, err := ParseDirect(m.Append(nil, &a), 2, secretOf); err != nil || again != m || m.Size != len(b) {
				t.Errorf("%x was read as %+v, which is written and read as %+v, %v", b, m, again, err)
			}
		}
		check(b)
		if len(b) >= DirectSize { // what a member could send: chance finds no MAC
			signed := bytes.Clone(b)
			copy(signed[directHeader:], a.mac(signed))
			check(signed)
		}
	})
}
