package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mobula/helper/internal/plan/plantest"
	"mobula/helper/internal/store"
)

// TestClockBehind: a clock that was put back, or that a boot without a battery or the
// network has behind, is told; one that is right, or a little slow, is not.
func TestClockBehind(t *testing.T) {
	path := filepath.Join(t.TempDir(), "clock")
	s := store.New(t.TempDir())
	if err := keepClock(s, path, time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("a host that has confirmed nothing keeps what its clock says")
	}
	if err := s.SetConfirmed(&store.Change{HostID: 1, Document: plantest.Document(plantest.Host(1))}); err != nil {
		t.Fatal(err)
	}
	kept := func() time.Time {
		t.Helper()
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info.ModTime()
	}
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		what        string
		step        time.Duration
		keeps, says bool
	}{
		{"at first", 0, true, false},
		{"a minute later", time.Minute, false, false},
		{"two hours later", 2 * time.Hour, true, false},
		{"a little back", -time.Minute, false, false},
		{"a day back", -24 * time.Hour, false, true},
		{"right again", 25 * time.Hour, false, false},
		{"an hour later", time.Hour, true, false},
	} {
		now = now.Add(c.step)
		before := time.Time{}
		if _, err := os.Stat(path); err == nil {
			before = kept()
		}
		if err := keepClock(s, path, now); err != nil {
			t.Fatal(err)
		}
		if got := kept(); got.Equal(before) == c.keeps || c.keeps && !got.Equal(now) {
			t.Errorf("%s: it keeps %v after %v", c.what, got, before)
		}
		said := clockBehind(now, kept())
		if (said != "") != c.says || c.says && !strings.Contains(said, "has said 2026-11-28 14:01:00 UTC before") {
			t.Errorf("%s: says %q", c.what, said)
		}
	}
	if said := clockBehind(now, now.Add(-time.Hour), now.Add(time.Hour)); said == "" {
		t.Error("a handshake that is still to come is not told")
	}
}
