package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"mobula/helper/internal/store"
	"mobula/helper/internal/system"
	"mobula/helper/internal/transaction"
	"mobula/helper/internal/worker"
)

// TestNotRoot: whoever lacks the privileges is told how to get them, by every command
// that needs them, and nothing else happens.
func TestNotRoot(t *testing.T) {
	everyCommand(func(path []string, c command) {
		if !c.needsRoot {
			return
		}
		cmd := exec.Command("/proc/self/exe", path...) // wherever that user may not look
		cmd.Dir, cmd.Env = "/", []string{asProgram + "=1"}
		if os.Geteuid() == 0 {
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		}
		out, _ := cmd.CombinedOutput()
		if code := cmd.ProcessState.ExitCode(); code != exitFailed || !strings.HasPrefix(string(out), "mobula "+c.name+": found user ID ") ||
			!strings.HasSuffix(string(out), "WireGuard need it; run it with sudo\n") {
			t.Errorf("%v: exit code %d, %s", path, code, out)
		}
	})
}

// TestErrorsSayWhatToDo holds that errors which many will meet end with the next step.
func TestErrorsSayWhatToDo(t *testing.T) {
	f := files{t, t.TempDir()}
	bare := &transaction.Host{Store: store.New(filepath.Join(f.dir, "none")), Programs: programs{system.NewPrograms(), nil}}
	apply := func(path string, id uint16) func() error {
		return func() error {
			_, err := (&call{Context: context.Background()}).readChange(bare, source{path: path}, id)
			return err
		}
	}
	document := f.write("network.json", string(newTLSWorld(t).document))
	for _, c := range []struct {
		name string
		does func() error
		code int
		want string // how it ends
	}{
		{"no network is deployed", apply("", 0), exitUsage, "this host has no network document yet, wanted one: name it with --document"},
		{"no ID", apply(document, 0), exitUsage, "--host-id: found none, and this host has none yet, wanted its ID in the document"},
		{"no such document", apply(document+"x", 1), exitFailed, "no such file or directory; name a file that is there, - for standard input, or an https:// URL"},
		{"a wrong file", apply(f.write("hosts.yml", "all:\n"), 1), exitFailed, "copy the document of the last deploy to this host once more (.build/network.json)"},
		{"an empty file", apply(f.write("empty", ""), 1), exitFailed, "wanted one whole JSON object\nnothing was changed: copy the document of the last deploy to this host once more (.build/network.json)"},
		{"somebody else changes the host", func() error {
			return worker.Busy{Err: worker.Holder{Doing: "apply", PID: 7, Since: time.Now()}}
		}, exitBusy, "try again when it is done"},
		{"the change is carried out", func() error { return worker.Busy{Err: transaction.ErrUnfinished} }, exitBusy, "try again in a second"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var said strings.Builder
			if code := failed(&said, "mobula apply", c.does()); code != c.code || !strings.HasSuffix(strings.TrimSuffix(said.String(), "'mobula help apply' tells more\n"), c.want+"\n") {
				t.Errorf("exit code %d, %s, wanted %s", code, &said, c.want)
			}
		})
	}
}

func TestApplySaysThatItHasToBeConfirmed(t *testing.T) {
	for _, confirm := range []bool{true, false} {
		var said strings.Builder
		o := worker.Outcome{Changed: true, Operations: []string{"+ a"}, Confirm: confirm}
		if err := (&call{stdout: &said}).printOutcome(o, false); err != nil || strings.Contains(said.String(), "'mobula confirm', over a new connection and in time, keeps it") != confirm {
			t.Errorf("confirm %v: %v, found %s", confirm, err, &said)
		}
	}
}
