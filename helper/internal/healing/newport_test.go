package healing

import (
	"testing"
	"time"
)

// TestAnotherPortIsTakenAfterSilence, sooner at first, and not while anything comes.
func TestAnotherPortIsTakenAfterSilence(t *testing.T) {
	var d deafness
	now, received := time.Unix(1000, 0), int64(0)
	var at []int
	for second := 0; second < 3600; second++ {
		if second < 100 || second == 2000 {
			received++
		}
		if d.due(now.Add(time.Duration(second)*time.Second), received) {
			at = append(at, second)
		}
	}
	want := []int{119, 159, 239, 399, 719, 1319, 1919, 2020, 2060, 2140, 2300, 2620, 3220}
	if len(at) != len(want) {
		t.Fatalf("found %v, wanted %v", at, want)
	}
	for i := range at {
		if at[i] != want[i] {
			t.Fatalf("found %v, wanted %v", at, want)
		}
	}
}
