package probe

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"os"
	"testing"
)

// TestMessagesOfTheVersionBefore: what commit 4978688 sends is read, and what this
// one sends is the same, so that both understand each other. testdata/before.txt is
// made by that commit and never written anew.
func TestMessagesOfTheVersionBefore(t *testing.T) {
	file, err := os.Open("testdata/before.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	a, _ := pair(t)
	secretOf := func(uint16) []Secret { return []Secret{a} }
	direct := []Direct{{Type: Request, From: 1, To: 2, Sequence: 3, Session: 4, Size: DirectSize}, {Type: Echo, From: 1, To: 2, Sequence: 3, Session: 4, Size: 60}}
	traffic := messages()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		sent, err := hex.DecodeString(lines.Text())
		if err != nil {
			t.Fatal(err)
		}
		if len(traffic) > 0 {
			want := traffic[0]
			traffic = traffic[1:]
			if got, err := ParseTraffic(sent); err != nil || got != want || !bytes.Equal(want.Append(nil), sent) {
				t.Errorf("found %+v, %v, wanted %+v", got, err, want)
			}
			continue
		}
		want := direct[0]
		direct = direct[1:]
		if got, err := ParseDirect(sent, 2, secretOf); err != nil || got != want || !bytes.Equal(want.Append(nil, &a), sent) {
			t.Errorf("found %+v, %v, wanted %+v", got, err, want)
		}
	}
	if len(traffic) > 0 || len(direct) > 0 || lines.Err() != nil {
		t.Errorf("left: %v, %v, %v", traffic, direct, lines.Err())
	}
}
