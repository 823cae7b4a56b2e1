package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestTheVersionIsStamped: a helper built as the role builds it says what git calls its
// sources. The linker says nothing about a variable that does not exist.
func TestTheVersionIsStamped(t *testing.T) {
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("without Go nothing is built: ", err)
	}
	role, err := os.ReadFile("../../../roles/prepare_host/files/build.sh")
	if err != nil {
		t.Fatal(err)
	}
	flags := regexp.MustCompile(`-ldflags "([^"]*)\$version([^"]*)"`).FindSubmatch(role)
	if flags == nil {
		t.Fatal("the role stamps no version")
	}
	const stamped = "v1.2-3-gabcdef0 (changed since)"
	program := filepath.Join(t.TempDir(), "mobula")
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", string(flags[1])+stamped+string(flags[2]), "-o", program, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	out, err := exec.Command(program, "version").CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "mobula "+stamped+", ID ") {
		t.Errorf("found %v, %q, wanted version %q", err, out, stamped)
	}
	var told struct{ Version string }
	out, err = exec.Command(program, "version", "--json").Output()
	if err := json.Unmarshal(out, &told); err != nil || told.Version != stamped {
		t.Errorf("found %v, %s, wanted version %q", err, out, stamped)
	}
	if err != nil {
		t.Error(err)
	}
}
