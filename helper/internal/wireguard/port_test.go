package wireguard_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestPortOfAClient: a client's socket that has the port for a moment is waited for, and
// one that keeps it is an error that says so.
func TestPortOfAClient(t *testing.T) {
	for _, c := range []struct {
		held   time.Duration
		wanted error
	}{{500 * time.Millisecond, nil}, {time.Hour, unix.EADDRINUSE}} {
		t.Run(c.held.String(), func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			until := time.Now().Add(c.held)
			b.kernel.Bound = func(int) bool { return time.Now().Before(until) }
			ops, err := b.device.Diff(context.Background(), b.plan(nil, 2), nil)
			if err != nil || len(ops) == 0 {
				t.Fatalf("found %v, %v", ops, err)
			}
			for _, op := range ops {
				err = errors.Join(err, op.Do(context.Background()))
			}
			if !errors.Is(err, c.wanted) || c.wanted == nil && err != nil {
				t.Errorf("found %v, wanted %v", err, c.wanted)
			}
		})
	}
}
