package worker

import (
	"context"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mobula/helper/internal/netns/netnstest"
)

func quiet() *Turn { return &Turn{Log: slog.New(slog.NewTextHandler(io.Discard, nil))} }

// TestWaitsWhileSomethingGetsDone: whoever waits for a change waits many times as long as
// for one that gets nowhere.
func TestWaitsWhileSomethingGetsDone(t *testing.T) {
	if !netnstest.Alone(t) { // with a /run of its own
		return
	}
	if err := os.MkdirAll(filepath.Dir(lockPath()), 0o700); err != nil {
		t.Fatal(err)
	}
	const most = time.Second
	began := time.Now()
	if _, err := waitForResult(context.Background(), most, false); err == nil || !strings.Contains(err.Error(), "got nowhere for 1s") || time.Since(began) > 20*most {
		t.Errorf("without a change: %v after %v", err, time.Since(began))
	}
	worker := quiet()
	if err := worker.Begin(context.Background(), "apply", 0); err != nil {
		t.Fatal(err)
	}
	defer worker.End()
	go func() {
		for i := 0; i < 30; i++ {
			worker.Progress(time.Millisecond)
			time.Sleep(most / 10)
		}
		if err := writeResult(Outcome{Done: true}); err != nil {
			t.Error(err)
		}
	}()
	if result, err := waitForResult(context.Background(), most, false); err != nil || !result.Done {
		t.Errorf("a change of 3 s whose operations get done: %v", err)
	}
}

// systemd listens to what the process of a unit says.
func systemd(t *testing.T) net.Conn {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	return conn
}

// TestProgressOfAnotherProgramIsPassedOn: systemd hears of what it gets done, for as long as
// it gets something done.
func TestProgressOfAnotherProgramIsPassedOn(t *testing.T) {
	if !netnstest.Alone(t) { // with a /run of its own
		return
	}
	if err := os.MkdirAll(filepath.Dir(lockPath()), 0o700); err != nil {
		t.Fatal(err)
	}
	unlock, err := Lock(context.Background(), "boot", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	conn := systemd(t)
	for _, c := range []struct {
		idle time.Duration
		said bool
	}{{0, true}, {Standstill, false}} {
		last := time.Now().Add(-c.idle)
		if err := os.Chtimes(lockPath(), last, last); err != nil {
			t.Fatal(err)
		}
		stop := quiet().passOnProgress()
		_ = conn.SetReadDeadline(time.Now().Add(passOnEvery + 2*time.Second))
		message := make([]byte, 100)
		n, err := conn.Read(message)
		stop()
		if said := err == nil && strings.HasPrefix(string(message[:n]), "EXTEND_TIMEOUT_USEC=1"); said != c.said {
			t.Errorf("idle for %v: found %q, %v", c.idle, message[:n], err)
		}
	}
}

// TestProgressAsksForTime: systemd gives what an operation may take, what an operator has
// to confirm, and some more; thousands of things that get done are not as many questions.
func TestProgressAsksForTime(t *testing.T) {
	conn := systemd(t)
	c := quiet()
	c.ConfirmTimeout = 2 * time.Minute
	for i := 0; i < 1000; i++ {
		c.Progress(0)
	}
	c.Progress(10 * time.Minute)
	var said []string
	message := make([]byte, 100)
	for {
		_ = conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		n, err := conn.Read(message)
		if err != nil {
			break
		}
		said = append(said, strings.TrimSpace(string(message[:n])))
	}
	if len(said) < 2 || len(said) > 20 || said[0] != "EXTEND_TIMEOUT_USEC=300000000" || said[len(said)-1] != "EXTEND_TIMEOUT_USEC=780000000" {
		t.Errorf("found %d: %v", len(said), said)
	}
}

func TestWhoMayBeEnded(t *testing.T) {
	for _, c := range []struct {
		doing string
		idle  time.Duration
		may   bool
	}{
		{"apply", time.Second, true},
		{"repair", time.Second, true},
		{"boot", time.Hour, false},
		{"rollback", time.Second, false},
		{"rollback", Standstill + time.Second, true},
	} {
		if may := (Holder{Doing: c.doing}).mayBeEnded(c.idle); may != c.may {
			t.Errorf("%s that did nothing for %v: found %v", c.doing, c.idle, may)
		}
	}
}

// TestWhoStopsWaitingKnowsWhatGoesOn: the worker outlives who asked.
func TestWhoStopsWaitingKnowsWhatGoesOn(t *testing.T) {
	ctx, stop := context.WithCancel(context.Background())
	stop()
	_, err := waitForResult(ctx, time.Minute, false)
	if err == nil || !strings.HasSuffix(err.Error(), "the change goes on without anybody who waits; 'mobula confirm' keeps it, 'mobula rollback' rolls it back") {
		t.Errorf("found %v", err)
	}
}
