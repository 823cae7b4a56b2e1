package system

import (
	"net"
	"path/filepath"
	"testing"
	"time"
)

func TestExtend(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	if err := Extend(time.Second); err != nil {
		t.Errorf("without a unit: %v", err)
	}
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	if err := Extend(90 * time.Second); err != nil {
		t.Fatal(err)
	}
	message := make([]byte, 100)
	n, err := conn.Read(message)
	if text := string(message[:n]); err != nil || text != "EXTEND_TIMEOUT_USEC=90000000\n" {
		t.Errorf("found %q, %v", text, err)
	}
}
