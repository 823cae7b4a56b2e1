package localsocket

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestServe: whoever connects gets an answer, root alone may, a socket that is left from before
// is replaced, and the socket goes with the context.
func TestServe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.sock")
	if err := os.WriteFile(path, []byte("from before"), 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	err := Serve(ctx, path, func(conn net.Conn) {
		defer conn.Close()
		_, _ = io.WriteString(conn, "hello")
	})
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("found %v, %v, wanted a socket that is root's alone", info, err)
	}
	for i := 0; i < 2; i++ {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		if said, err := io.ReadAll(conn); err != nil || string(said) != "hello" {
			t.Errorf("found %q, %v", said, err)
		}
		conn.Close()
	}
	cancel()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		if _, err := os.Stat(path); os.IsNotExist(err) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the socket is there after the end")
		}
	}
	if _, err := Listen(filepath.Join(path, "none")); err == nil {
		t.Error("found a socket where there is no folder")
	}
}
