package system

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"mobula/helper/internal/spec"
)

// TestTheProgramIsGone: when the program that boots the host cannot run, nothing tells the
// host's network managers to leave the NIC alone when they start, and systemd has read that.
// After any other end of it they are told as before.
func TestTheProgramIsGone(t *testing.T) {
	want, _ := host(t, false, spec.Ifupdown, spec.Networkd, spec.NetworkManager)
	var unit string
	for _, f := range want.Files {
		if f.Path == spec.UnitDir+spec.UnitBoot {
			unit = f.Content
		}
	}
	found := regexp.MustCompile(`(?m)^ExecStopPost=-/bin/sh -c '(.*)'$`).FindStringSubmatch(unit)
	if found == nil || !strings.Contains(unit, "RestartPreventExitStatus=1 203 SIGILL SIGBUS SIGSEGV\n") {
		t.Fatalf("nothing is done at the end of\n%s", unit)
	}
	bin := t.TempDir()
	must(t, os.WriteFile(filepath.Join(bin, "systemctl"), []byte("#!/bin/sh\necho \"$@\" >>"+bin+"/told\n"), 0o755))
	// What systemd says of the end, by systemd.exec(5): 203 is EXEC of its table.
	for status, gone := range map[string]bool{"203": true, "ILL": true, "BUS": true, "SEGV": true, "0": false, "1": false, "75": false, "TERM": false, "KILL": false} {
		root := etc(t)
		bring(t, at(root, "eth0", false), want)
		script := strings.ReplaceAll(strings.ReplaceAll(found[1], "$$", "$"), "/etc/", root+"/etc/")
		cmd := exec.Command("/bin/sh", "-c", script)
		cmd.Env = []string{"EXIT_STATUS=" + status, "PATH=" + bin + ":" + os.Getenv("PATH")}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", status, err, out)
		}
		told, _ := os.ReadFile(filepath.Join(bin, "told"))
		_ = os.Remove(filepath.Join(bin, "told"))
		if (string(told) == "daemon-reload\n") != gone {
			t.Errorf("%s: systemd was told %q", status, told)
		}
		for _, f := range want.Files {
			_, err := os.Lstat(filepath.Join(root, f.Path))
			keeps := strings.Contains(f.Content, "eth0") && f.Path != spec.ResolvConfPath && !strings.Contains(f.Content, "veth_eth0") || strings.Contains(f.Path, "ifup@")
			if (err != nil) != (gone && keeps) {
				t.Errorf("%s: %s: %v", status, f.Path, err)
			}
		}
	}
}
