package mesh

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"mobula/helper/internal/report"
)

// someWays returns ways to hosts 2 and up, of which every tenth is an exception.
func someWays(n int) (all []report.Way) {
	for i := 0; i < n; i++ {
		w := report.Way{To: uint16(i + 2), State: report.Up, RTT: float64(i) / 8, SinceSeconds: uint32(i), HandshakeSeconds: int32(i) - 1}
		if i%10 == 9 {
			w.Via, w.Loss, w.LossMinutes, w.LargeLost = 7, 0.25, 0.125, i%20 == 9
		}
		if i%30 == 29 {
			w = report.Way{To: w.To, State: report.Down, Loss: 1, LossMinutes: 0.5, HandshakeSeconds: 100_000}
		}
		all = append(all, w)
	}
	return all
}

func someHost() report.Host {
	return report.Host{Generation: "0123456789abcdef", Version: "v1-2-gabcdef, ID 0123456789ab", SinceSeconds: 77, Problems: []string{"one thing", "another"}}
}

// readAll puts the pages of a snapshot together, as who asks does.
func readAll(t *testing.T, s *Snapshot, exceptions bool) (h report.Host, pages int) {
	t.Helper()
	for q := (question{exceptions: exceptions, nonce: 5}); ; pages++ {
		b := s.page(q)
		if len(b) > MaxPage {
			t.Fatalf("a page of %d bytes, wanted %d at most", len(b), MaxPage)
		}
		p, err := parsePage(b)
		if err != nil || p.nonce != 5 || p.after != q.after {
			t.Fatalf("found %+v, %v", p, err)
		}
		ways := h.Ways
		if p.head != nil {
			h = *p.head
		}
		h.Ways = append(ways, p.ways...)
		if !p.more {
			return h, pages + 1
		}
		q.after = p.ways[len(p.ways)-1].To
	}
}

// TestPages: a report arrives as it was, in as many pages as it takes.
func TestPages(t *testing.T) {
	for n, wantPages := range map[int]int{0: 1, 1: 1, 99: 2, 3000: 52} {
		h, ways := someHost(), someWays(n)
		got, pages := readAll(t, NewSnapshot(h, ways, nil), false)
		want := h
		want.Answer = report.Answered
		want.Count(ways)
		want.MaxRTT, want.MedianRTT = got.MaxRTT, got.MedianRTT // to a microsecond
		for _, w := range ways {
			if w.HandshakeSeconds > 65534 {
				w.HandshakeSeconds = 65534
			}
			want.Ways = append(want.Ways, w)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%d ways: found\n%+v\nwanted\n%+v", n, got, want)
		}
		if pages != wantPages {
			t.Errorf("%d ways: found %d pages, wanted %d", n, pages, wantPages)
		}
		exceptions, _ := readAll(t, NewSnapshot(h, ways, nil), true)
		if len(exceptions.Ways) != n/10 || exceptions.Direct+exceptions.Relayed+exceptions.Down+exceptions.Unknown != n {
			t.Errorf("%d ways: found %d exceptions, %+v, wanted %d and the counts of all", n, len(exceptions.Ways), exceptions, n/10)
		}
	}
}

// TestLongTexts: what is too long or too much is cut, at a whole character, and counted.
func TestLongTexts(t *testing.T) {
	h := report.Host{Version: strings.Repeat("é", 200)}
	for i := 0; i < 7; i++ {
		h.Problems = append(h.Problems, fmt.Sprint(i, strings.Repeat("ß", 500)))
	}
	got, _ := readAll(t, NewSnapshot(h, someWays(99), nil), false)
	if len(got.Version) > maxVersion || len(got.Problems) != maxProblems || got.MoreProblems != 3 || len(got.Ways) != 99 {
		t.Errorf("found a version of %d bytes, %d problems, %d more and %d ways", len(got.Version), len(got.Problems), got.MoreProblems, len(got.Ways))
	}
	for _, text := range append(got.Problems, got.Version) {
		if !utf8.ValidString(text) || !strings.HasSuffix(text, "…") || len(text) > maxText {
			t.Errorf("found %q, wanted a text that was cut", text)
		}
	}
}

// TestBadPages: what no agent says is not taken.
func TestBadPages(t *testing.T) {
	good := func() []byte { return NewSnapshot(someHost(), someWays(9), nil).page(question{nonce: 1}) }
	if _, err := parsePage(good()); err != nil {
		t.Fatal(err)
	}
	first := headerSize + int(good()[17])
	for what, change := range map[string]func([]byte) []byte{
		"too short":         func(b []byte) []byte { return b[:len(b)-1] },
		"a head elsewhere":  func(b []byte) []byte { b[5] = 1; return b },
		"ways out of order": func(b []byte) []byte { copy(b[first+waySize:], b[first:first+waySize]); return b },
		"short ways":        func(b []byte) []byte { b[3] = waySize - 1; return b },
		"no such state":     func(b []byte) []byte { b[first+2] = 3; return b },
		"no such relay":     func(b []byte) []byte { b[first+3] = 7; return b },
		"too much loss":     func(b []byte) []byte { b[first+6] = 255; return b },
		"escape sequences":  func(b []byte) []byte { return bytes.Replace(b, []byte("v1-2"), []byte("\x1b[2J"), 1) },
		"a text too long":   func(b []byte) []byte { b[headerSize+32] = 255; return b },
		"endless":           func(b []byte) []byte { b = b[:first]; b[7], b[2] = 0, flagMore; return b },
	} {
		if p, err := parsePage(change(good())); err == nil {
			t.Errorf("%s: found %+v, wanted an error", what, p)
		}
	}
}

// TestPagesOfALaterVersion: bytes at the ends, and bits that this version does not know, are
// not read.
func TestPagesOfALaterVersion(t *testing.T) {
	want, _ := parsePage(NewSnapshot(someHost(), someWays(3), nil).page(question{}))
	b := NewSnapshot(someHost(), someWays(3), nil).page(question{})
	head := int(b[17])
	later := append([]byte{}, b[:headerSize+head]...)
	later = append(later, "a field after the texts"...)
	later[17] += byte(len("a field after the texts"))
	for w := b[headerSize+head:]; len(w) > 0; w = w[waySize:] {
		later = append(append(later, w[:waySize]...), 1, 2, 3, 4)
	}
	later[3] = waySize + 4
	later[2] |= 0xf0
	got, err := parsePage(append(later, "more"...))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("found %+v, %v, wanted %+v", got, err, want)
	}
}

// FuzzMesh: no message makes this host fail, and what is taken can be printed.
func FuzzMesh(f *testing.F) {
	f.Add(question{after: 3, nonce: 4}.append(nil))
	f.Add(NewSnapshot(someHost(), someWays(99), nil).page(question{nonce: 4}))
	f.Add(NewSnapshot(someHost(), someWays(99), nil).page(question{after: 60, exceptions: true}))
	s := NewSnapshot(someHost(), someWays(99), someHeard(300))
	f.Add(question{clients: true, after: 100, afterClient: 0x8010}.append(nil))
	f.Add(s.page(question{clients: true, after: 80, nonce: 4}))
	kinds, _ := ofAllKinds(someWays(30))
	f.Add(NewSnapshot(someHost(), kinds, nil).page(question{nonce: 4}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if q, err := parseQuestion(b); err == nil && len(s.page(q)) > MaxPage {
			t.Errorf("%x: a long answer", b)
		}
		p, err := parsePage(b)
		if err != nil {
			return
		}
		h := report.Host{Answer: report.Answered}
		if p.head != nil {
			h = *p.head
		}
		h.Ways = p.ways
		if err := h.Validate(); err != nil {
			t.Errorf("%x: %v", b, err)
		}
	})
}
