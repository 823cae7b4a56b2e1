package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mobula/helper/internal/network"
	"mobula/helper/internal/plan/plantest"
)

// completed is what is typed, each tabulator one press of the key, and what runs then.
var completed = []struct{ typed, runs string }{
	{"versi\t--js\t", "version --json"},
	{"stat\t--comp\t", "status --compare"},
	{"completion fi\t", "completion fish"},
	{"help client ro\t", "help client rotate"},
	{"check --uplink-mode mo\t", "check --uplink-mode moved"},
	{"check --document net\t", "check --document network.json"},
	{"plan --document network.json --host-id 25\t", "plan --document network.json --host-id 256"},
	{"client rem\tlap\t", "client remove laptop.example.com"},
	{"client rotate --extra-wires other.yml pho\t", "client rotate --extra-wires other.yml phone.example.com"},
	{"client add laptop --network=network.json --entry h2\t", "client add laptop --network=network.json --entry h256.example.com"},
}

// completionWorld is a deployer's folder, with a mobula in the path that completes like the
// real one, and else says what it would have run.
func completionWorld(t *testing.T) (dir string, env []string) {
	t.Helper()
	f := files{t, t.TempDir()}
	f.write("network.json", string(plantest.Document(plantest.Host(1), plantest.Host(256)).Encode()))
	for file, client := range map[string]string{"extra_wires.yml": "laptop", "other.yml": "phone"} {
		f.write(file, fmt.Sprintf("extra_wires:\n  10.30.128.1/32: {name: %s.example.com, public_key: '%s'}\n", client, network.Key{9}))
	}
	bin := filepath.Join(t.TempDir(), "bin")
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	wrapper := fmt.Sprintf("#!/bin/sh\ncase $SETUP$1 in 1* | __complete*) exec env %s=1 '%s' \"$@\" ;; esac\necho \"runs: $*.\"\n", asProgram, program)
	if err := os.Mkdir(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bin, "mobula"), []byte(wrapper), 0o755); err != nil {
		t.Fatal(err)
	}
	return f.dir, []string{"PATH=" + bin + ":" + os.Getenv("PATH"), "HOME=" + f.dir, "ZDOTDIR=" + f.dir, "TERM=dumb", "LC_ALL=C.UTF-8"}
}

func lookShell(t *testing.T, program, file string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Skip("installed by lab/deps.sh test: ", err)
	}
	if _, err := os.Stat(file); err != nil {
		t.Skip("installed by lab/deps.sh test: ", err)
	}
}

func TestBashCompletes(t *testing.T) {
	const library = "/usr/share/bash-completion/bash_completion"
	lookShell(t, "bash", library)
	dir, env := completionWorld(t)
	rc := files{t, dir}.write(".rc", "PS1='ready> '; . "+library+"; eval \"$(SETUP=1 mobula completion bash)\"\n")
	typeAll(t, dir, env, "bash", "--noprofile", "--rcfile", rc, "-i")
}

func TestZshCompletes(t *testing.T) {
	lookShell(t, "zsh", "/usr/share/zsh")
	dir, env := completionWorld(t)
	files{t, dir}.write(".zshrc", "PS1='ready> '; autoload -Uz compinit; compinit -u -d \"$HOME/.dump\"; . =(SETUP=1 mobula completion zsh)\n")
	typeAll(t, dir, env, "zsh", "-i")
}

// TestFishCompletes asks fish for what it would offer.
func TestFishCompletes(t *testing.T) {
	lookShell(t, "fish", "/usr/share/fish")
	dir, env := completionWorld(t)
	for _, c := range completed {
		words := ""
		for _, part := range strings.Split(strings.TrimSuffix(c.typed, "\t"), "\t") {
			words += part
			cmd := exec.Command("fish", "--no-config", "-c", "SETUP=1 mobula completion fish | source; complete --do-complete "+"'mobula "+words+"'")
			cmd.Dir, cmd.Env = dir, env
			out, err := cmd.CombinedOutput()
			offered := strings.Fields(string(out))
			if err != nil || len(offered) == 0 || strings.Count(string(out), "\n") != 1 {
				t.Errorf("%q: found %v, %q, wanted one", words, err, out)
				break
			}
			words = words[:strings.LastIndexByte(words, ' ')+1] + offered[0] + " "
		}
		if got := strings.TrimSpace(words); got != c.runs {
			t.Errorf("%q: found %q, wanted %q", c.typed, got, c.runs)
		}
	}
}

// typeAll types at a terminal what is to be completed.
func typeAll(t *testing.T, dir string, env []string, shell ...string) {
	t.Helper()
	keyboard, terminal := openTerminal(t)
	cmd := exec.Command(shell[0], shell[1:]...)
	cmd.Dir, cmd.Env = dir, env
	cmd.Stdin, cmd.Stdout, cmd.Stderr = terminal, terminal, terminal
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	terminal.Close()
	defer func() { _, _ = cmd.Process.Kill(), cmd.Wait() }()
	seen := make(chan []byte)
	go func() {
		defer close(seen)
		for {
			part := make([]byte, 4096)
			n, err := keyboard.Read(part)
			if err != nil {
				return
			}
			seen <- part[:n]
		}
	}()
	// until returns what the shell writes until it has written this.
	until := func(mark string) string {
		t.Helper()
		var all []byte
		for deadline := time.After(time.Minute); !bytes.Contains(all, []byte(mark)); {
			select {
			case part, open := <-seen:
				if all = append(all, part...); !open {
					t.Fatalf("%s ended: %q", shell[0], all)
				}
			case <-deadline:
				t.Fatalf("no %q in what %s wrote: %q", mark, shell[0], all)
			}
		}
		return string(all)
	}
	until("ready> ")
	for _, c := range completed {
		if _, err := keyboard.WriteString("mobula " + c.typed + "\r"); err != nil {
			t.Fatal(err)
		}
		said := until("runs: ")
		if !strings.Contains(said, "ready> ") {
			said += until("ready> ")
		}
		_, got, _ := strings.Cut(said, "runs: ")
		got, _, _ = strings.Cut(got, ".\r")
		if strings.TrimSpace(got) != c.runs {
			t.Errorf("%q: found %q, wanted %q", c.typed, got, c.runs)
		}
	}
}

// openTerminal returns both ends of a terminal, see pty(7).
func openTerminal(t *testing.T) (keyboard, terminal *os.File) {
	t.Helper()
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { keyboard.Close() })
	if err := unix.IoctlSetPointerInt(int(keyboard.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(keyboard.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return keyboard, terminal
}
