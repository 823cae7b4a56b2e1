package worker

import (
	"os"
	"testing"
)

func TestAsking(t *testing.T) {
	all := asking()
	if len(all) == 0 || all[0] != os.Getpid() || len(all) > 1 && all[1] != os.Getppid() {
		t.Errorf("found %v, wanted %d, %d and those above", all, os.Getpid(), os.Getppid())
	}
	if name, parent, err := process(os.Getpid()); err != nil || parent != os.Getppid() || name == "" {
		t.Errorf("found %q, %d, %v", name, parent, err)
	}
	if _, _, err := process(1 << 30); err == nil {
		t.Error("found a process that there cannot be")
	}
}
