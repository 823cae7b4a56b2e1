package mesh

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"mobula/helper/internal/report"
)

// ofAllKinds gives ways the kinds that they can be of, in turn, and tells how many have one.
func ofAllKinds(ways []report.Way) (all []report.Way, told int) {
	for i, w := range ways {
		var can []report.Kind
		for _, w.Kind = range report.Kinds {
			if !w.Contradictory() {
				can = append(can, w.Kind)
			}
		}
		if w.Kind = ""; len(can) > 0 {
			w.Kind, told = can[(i+i/10)%len(can)], told+1
		}
		all = append(all, w)
	}
	return all, told
}

// before returns the question and the answer of the version before, which tells no kinds: of
// someHost with 30 of someWays and 3 of someHeard. That version made testdata/before.txt, which
// is never written anew.
func before(t *testing.T) (asked, answered []byte) {
	t.Helper()
	data, err := os.ReadFile("testdata/before.txt")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Fields(string(data))
	if asked, err = hex.DecodeString(lines[0]); err != nil {
		t.Fatal(err)
	}
	if answered, err = hex.DecodeString(lines[1]); err != nil {
		t.Fatal(err)
	}
	return asked, answered
}

// readWayBefore is how the version before reads a way.
func readWayBefore(b []byte) (report.Way, error) {
	short := func(at int) uint16 { return binary.BigEndian.Uint16(b[at:]) }
	state := int(b[2] & 3)
	if state >= len(states) || short(6) > 1000 || short(8) > 1000 {
		return report.Way{}, fmt.Errorf("a way of state %d that loses %d and %d ‰", state, short(6), short(8))
	}
	w := report.Way{To: short(0), State: states[state], Via: short(4), LargeLost: b[2]&flagLargeLost != 0,
		Loss: float64(short(6)) / 1000, LossMinutes: float64(short(8)) / 1000, HandshakeSeconds: -1,
		RTT: float64(binary.BigEndian.Uint32(b[12:])) / 1000, SinceSeconds: binary.BigEndian.Uint32(b[16:])}
	if shaken := short(10); shaken != neverShaken {
		w.HandshakeSeconds = int32(shaken)
	}
	return w, nil
}

// TestKindsAndTheVersionBefore: its question is answered with all that it knows, byte for byte
// where it reads; its answer is read, with kinds that are not known.
func TestKindsAndTheVersionBefore(t *testing.T) {
	asked, answered := before(t)
	old, err := parsePage(answered)
	if err != nil || len(old.ways) != 30 || !old.tells || len(old.clients) != 3 || old.head.Version != someHost().Version {
		t.Fatalf("found %+v, %v", old, err)
	}
	for _, w := range old.ways {
		if w.Kind != "" {
			t.Errorf("found %+v, wanted that its kind is not known", w)
		}
	}

	q, err := parseQuestion(asked)
	if err != nil {
		t.Fatal(err)
	}
	ways, told := ofAllKinds(someWays(30))
	now := NewSnapshot(someHost(), ways, someHeard(3)).page(q)
	first := headerSize + int(binary.BigEndian.Uint16(now[16:]))
	for i, want := range old.ways {
		at := now[first+i*waySize:]
		if found, err := readWayBefore(at); err != nil || found != want {
			t.Errorf("it reads %+v, %v, wanted %+v", found, err, want)
		}
		if at[3] != 0 {
			told--
		}
		at[3] = 0
	}
	if told != 0 || !bytes.Equal(now, answered) {
		t.Errorf("%d kinds are elsewhere; but for kinds found\n%x\nwanted\n%x", told, now, answered)
	}
}

// TestKindsInPages: they arrive as they were; a later version's are as none.
func TestKindsInPages(t *testing.T) {
	ways, told := ofAllKinds(someWays(60))
	got, _ := readAll(t, NewSnapshot(someHost(), ways, nil), false)
	found := map[report.Kind]int{}
	for i, w := range got.Ways {
		if w.Kind != ways[i].Kind {
			t.Errorf("found %+v, wanted %+v", w, ways[i])
		}
		found[w.Kind]++
	}
	if len(found) != len(report.Kinds)+1 || found[""] != 60-told {
		t.Errorf("found %v, wanted all kinds", found)
	}
	later := appendWay(nil, report.Way{To: 2, State: report.Up, Via: 3, Kind: report.Carried})
	for _, kind := range []byte{byte(len(report.Kinds)) + 1, 255} {
		later[3] = kind
		if w, err := readWay(later); err != nil || w.Kind != "" || w.Via != 3 {
			t.Errorf("kind %d: found %+v, %v, wanted one that is not known", kind, w, err)
		}
	}
}

// TestNumbersOfKinds: what hosts tell each other stays.
func TestNumbersOfKinds(t *testing.T) {
	found := map[report.Kind]byte{}
	for _, k := range append([]report.Kind{"", "a later one"}, report.Kinds...) {
		found[k] = appendWay(nil, report.Way{Kind: k})[3]
	}
	if want := map[report.Kind]byte{"": 0, "a later one": 0, report.Direct: 1, report.DirectIPv6: 2, report.LAN: 3, report.LANIPv6: 4,
		report.Punched: 5, report.Relayed: 6, report.Carried: 7}; !reflect.DeepEqual(found, want) {
		t.Errorf("found %v, wanted %v", found, want)
	}
}
