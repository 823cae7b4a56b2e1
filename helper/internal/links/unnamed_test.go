package links

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestUnnamed: a link is named once udev has written about it, or has nothing to do.
func TestUnnamed(t *testing.T) {
	root := t.TempDir()
	file := func(path, content string) {
		path = filepath.Join(root, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	check := func(about string, want bool) {
		t.Helper()
		if got := isUnnamed(root, "eth0"); got != want {
			t.Errorf("%s: found unnamed %v, wanted %v", about, got, want)
		}
	}
	check("no such link", false)
	file("sys/class/net/eth0/ifindex", "3\n")
	check("without udev", false)
	file("run/udev/queue", "")
	file("run/udev/data/n2", "")
	check("while udev has to do", true)
	file("run/udev/data/n3", "I:1\n")
	check("once udev has written", false)
}
