package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"mobula/helper/internal/spec"
	"mobula/helper/internal/store"
)

// WireGuard refuses a handshake that looks older than the last one (its timestamps are
// those of the sender's clock), so a host whose clock is behind, as one without a battery
// may be when it boots, is refused by all others until its clock is right.

// clockPath is a file whose time is what the clock has said, give or take clockKept.
var clockPath = filepath.Join(spec.StateDir, "clock")

const (
	clockKept = time.Hour
	// clockSlack is how far a clock may be behind without a word.
	clockSlack = 2 * time.Minute
)

// keepClock notes what the clock says, unless it has said something later. A host that has
// confirmed nothing keeps nothing: a first change that is rolled back leaves no trace.
func keepClock(s *store.Store, path string, now time.Time) error {
	if confirmed, err := s.Confirmed(); err != nil || confirmed == nil {
		return err
	}
	info, err := os.Stat(path)
	if err == nil && now.Before(info.ModTime().Add(clockKept)) {
		return nil
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		return err
	}
	return os.Chtimes(path, now, now)
}

// clockBehind says that the clock is behind one of the times that it has said before; "":
// it is not.
func clockBehind(now time.Time, said ...time.Time) string {
	latest := now
	for _, t := range said {
		if t.After(latest) {
			latest = t
		}
	}
	if latest.Sub(now) < clockSlack {
		return ""
	}
	const form = "2006-01-02 15:04:05 MST"
	return fmt.Sprintf("this host's clock says %s, and has said %s before: other hosts refuse its handshakes until it is right (timedatectl)", now.UTC().Format(form), latest.UTC().Format(form))
}

// clockSynchronized reports that the kernel takes its clock for right (adjtimex(2)).
func clockSynchronized() bool {
	state, err := unix.Adjtimex(&unix.Timex{})
	return err == nil && state != unix.TIME_ERROR
}

// saidBefore are the times that are known from before: those of files and of handshakes.
func saidBefore(peers []peerReport) (all []time.Time) {
	files, _ := filepath.Glob(filepath.Join(spec.StateDir, "*"))
	for _, path := range files {
		if info, err := os.Stat(path); err == nil {
			all = append(all, info.ModTime())
		}
	}
	for _, p := range peers {
		if p.LastHandshake != nil {
			all = append(all, *p.LastHandshake)
		}
	}
	return all
}
