package vswitch

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// TestWithoutOpenVSwitch: whoever waited in vain for daemons that do not start waits
// no second time, so that a boot without Open vSwitch comes to its end.
func TestWithoutOpenVSwitch(t *testing.T) {
	dir, err := os.MkdirTemp("", "ovs") // short: a socket's path has 108 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := New(Options{RunDir: dir, StartTimeout: 50 * time.Millisecond})
	if err := s.waitForDaemons(context.Background()); err == nil {
		t.Fatal("found daemons that do not run")
	}
	s.options.StartTimeout = time.Hour
	done := make(chan error)
	go func() { done <- s.waitForDaemons(context.Background()) }()
	select {
	case err := <-done:
		if err == nil {
			t.Fatal("found daemons that do not run")
		}
	case <-time.After(10 * time.Second):
		t.Fatal("waits once more")
	}
	for _, name := range []string{"db.sock", "ovs-vswitchd.ctl"} {
		listener, err := net.Listen("unix", filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
	}
	if err := s.waitForDaemons(context.Background()); err != nil {
		t.Errorf("they have come: %v", err)
	}
	if s.absent.Load() {
		t.Error("would not wait for them when they are started again")
	}
}

// TestCommandsThatWork: what writes, or has been given more time, is not ended.
func TestCommandsThatWork(t *testing.T) {
	tools := &tools{runDir: t.TempDir(), timeout: time.Second}
	writes := "for i in 1 2 3 4 5 6 7 8; do echo $i; sleep 0.2; done"
	if out, err := tools.run(context.Background(), 0, nil, "sh", "-c", writes); err != nil || len(out) != 16 {
		t.Errorf("what writes all the time was ended after %q: %v", out, err)
	}
	if _, err := tools.run(context.Background(), time.Minute, nil, "sleep", "1.5"); err != nil {
		t.Errorf("what has more time was ended: %v", err)
	}
	if _, err := tools.run(context.Background(), 0, nil, "sh", "-c", "echo; exec sleep 1000"); !errors.Is(err, context.DeadlineExceeded) || !tools.hangs {
		t.Errorf("what hangs after a word: %v", err)
	}
}

// TestCommandsThatHang: the time of many commands in a row that nobody answers is
// bounded, too.
func TestCommandsThatHang(t *testing.T) {
	if _, err := exec.LookPath("sleep"); err != nil {
		t.Fatal(err)
	}
	tools := &tools{runDir: t.TempDir(), timeout: 50 * time.Millisecond}
	if _, err := tools.run(context.Background(), 0, nil, "sleep", "1000"); err == nil {
		t.Fatal("answered")
	}
	tools.timeout = time.Hour
	done := make(chan error)
	go func() {
		_, err := tools.run(context.Background(), 0, nil, "sleep", "1000")
		done <- err
	}()
	select {
	case err := <-done:
		if err == nil {
			t.Fatal("answered")
		}
	case <-time.After(time.Minute):
		t.Fatal("waits as long as for the first")
	}
	if _, err := tools.run(context.Background(), 0, nil, "true"); err != nil || tools.hangs {
		t.Errorf("answered again: %v", err)
	}
}
