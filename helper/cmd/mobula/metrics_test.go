package main

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"mobula/helper/internal/watch"
)

// TestComparisonComesBack: what a repair notes is what the agent reads; of nothing, or of
// what is damaged, it knows nothing.
func TestComparisonComesBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "comparison.json")
	if got := readComparison(path); !got.Ended.IsZero() {
		t.Errorf("found %+v before there was any", got)
	}
	at := time.Unix(1_700_000_000, 0).UTC()
	for _, c := range []struct {
		found  []string
		failed error
		want   watch.Comparison
	}{
		{nil, errors.New("no look"), watch.Comparison{}},
		{nil, nil, watch.Comparison{Ended: at}},
		{[]string{"a", "b", "c"}, nil, watch.Comparison{Ended: at, Differences: 3}},
		{nil, errors.New("no look"), watch.Comparison{Ended: at, Differences: 3}},
		{[]string{"a"}, errors.New("not repaired"), watch.Comparison{Ended: at, Differences: 1}},
	} {
		if err := noteComparison(path, at, c.found, c.failed); err != nil {
			t.Fatal(err)
		}
		if got := readComparison(path); got != c.want {
			t.Errorf("%v, %v: found %+v, wanted %+v", c.found, c.failed, got, c.want)
		}
	}
	if err := os.WriteFile(path, []byte(`{"ended":"2023-11-14T22:13:20Z","differences":"x"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := readComparison(path); got != (watch.Comparison{}) {
		t.Errorf("found %+v of a damaged file, wanted nothing", got)
	}
}
