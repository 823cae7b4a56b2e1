package system

import (
	"context"
	"crypto/sha256"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mobula/helper/internal/plan"
	"mobula/helper/internal/plan/plantest"
	"mobula/helper/internal/spec"
)

// script is a program that says its version.
func script(version string) string { return "#!/bin/sh\necho mobula " + version + "\n" }

func idOf(content string) string { return spec.NewProgramID(sha256.Sum256([]byte(content))) }

func write(t *testing.T, path, content string, mode os.FileMode) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(t, os.WriteFile(path, []byte(content), mode))
}

// TestSettle: this program and the one in force are where boot and rollback find
// them, wherever they were started from.
func TestSettle(t *testing.T) {
	const own, before = "own", "before"
	unit := func(program string) string { return "[Service]\nExecStart=" + program + " boot\n" }
	for _, c := range []struct {
		name, executable, unit string
		inForce                string
	}{
		{"a new host", spec.ProgramPath(idOf(script(own))), "", ""},
		{"another version in force", spec.ProgramPath(idOf(script(own))), unit(spec.ProgramPath(idOf(script(before)))), idOf(script(before))},
		{"a plain file in force", spec.ProgramPath(idOf(script(own))), unit(spec.Helper), idOf(script(before))},
		{"started from elsewhere", "/root/mobula", unit(spec.Helper), idOf(script(before))},
		{"a damaged unit", spec.ProgramPath(idOf(script(own))), "[Service]\nExecSt", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := t.TempDir()
			write(t, filepath.Join(root, c.executable), script(own), 0o755)
			write(t, filepath.Join(root, spec.Helper), script(before), 0o755)
			if c.unit != "" {
				write(t, filepath.Join(root, spec.UnitDir, spec.UnitBoot), c.unit, 0o644)
			}
			p := &Programs{Root: root, Executable: c.executable}
			for range []int{1, 2} { // a repetition finds the same
				inForce, err := p.Settle(context.Background())
				if err != nil || inForce != c.inForce || p.Self() != idOf(script(own)) {
					t.Fatalf("in force %q, self %q, %v", inForce, p.Self(), err)
				}
			}
			must(t, p.Runs(context.Background(), p.Self()))
			if c.unit == unit(spec.Helper) {
				must(t, p.Runs(context.Background(), c.inForce))
			}
		})
	}
}

// TestProgramsThatCannotRun are found before they are used, and said.
func TestProgramsThatCannotRun(t *testing.T) {
	whole, err := os.ReadFile("/bin/true")
	must(t, err)
	root := t.TempDir()
	p := &Programs{Root: root}
	path := func(id string) string { return filepath.Join(root, spec.ProgramPath(id)) }
	other := append([]byte{}, whole...)
	other[18], other[19] = 0xf7, 0xff // e_machine, elf(5)
	for id, problem := range map[string]func(id string){
		"0000000000000001": func(string) {},
		"0000000000000002": func(id string) { write(t, path(id), string(whole[:len(whole)/3]), 0o755) },
		"0000000000000003": func(id string) { write(t, path(id), string(other), 0o755) },
		"0000000000000004": func(id string) { write(t, path(id), string(whole), 0o644) },
		"0000000000000005": func(id string) { write(t, path(id), "#!/bin/sh\nexit 3\n", 0o755) },
	} {
		problem(id)
		if err := p.Runs(context.Background(), id); err == nil || !strings.Contains(err.Error(), "program "+id+" cannot run") {
			t.Errorf("%s: %v", id, err)
		}
	}
	write(t, path("0000000000000006"), string(whole), 0o755)
	must(t, p.Runs(context.Background(), "0000000000000006"))
}

func TestLeadAndPrune(t *testing.T) {
	root := t.TempDir()
	p := &Programs{Root: root, Executable: spec.ProgramPath("0000000000000001")}
	old := time.Now().Add(-2 * youngest)
	for _, id := range []string{"0000000000000001", "0000000000000002", "0000000000000003", "0000000000000004"} {
		path := filepath.Join(root, spec.ProgramPath(id))
		write(t, path, script(id), 0o755)
		if id != "0000000000000004" { // which has just come
			must(t, os.Chtimes(path, old, old))
		}
	}
	write(t, filepath.Join(root, spec.ProgramDir, "notes"), "an operator's", 0o644)
	write(t, filepath.Join(root, spec.Helper), script("plain"), 0o755)
	for range []int{1, 2} {
		must(t, p.Lead("0000000000000002"))
		if target, err := os.Readlink(filepath.Join(root, spec.Helper)); target != spec.ProgramPath("0000000000000002") {
			t.Errorf("leads to %q, %v", target, err)
		}
		must(t, p.Prune("0000000000000002"))
	}
	entries, err := os.ReadDir(filepath.Join(root, spec.ProgramDir))
	must(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if got := strings.Join(names, " "); got != "0000000000000001 0000000000000002 0000000000000004 notes" {
		t.Errorf("left: %s", got)
	}
}

// TestSuperseded: the agent ends when its unit would start another program.
func TestSuperseded(t *testing.T) {
	root := t.TempDir()
	own, other := spec.ProgramPath("0000000000000001"), spec.ProgramPath("0000000000000002")
	write(t, filepath.Join(root, own), script("own"), 0o755)
	write(t, filepath.Join(root, other), script("other"), 0o755)
	p := &Programs{Root: root, Executable: own}
	for _, c := range []struct {
		unit, link string // what the link leads to; "": it is a plain file
		other      bool
		err        bool
	}{
		{own, other, false, false}, {other, own, true, false}, {spec.Helper, own, false, false},
		{spec.Helper, other, true, false}, {spec.Helper, "", true, false}, {"/nowhere", own, false, true},
	} {
		link := filepath.Join(root, spec.Helper)
		_ = os.Remove(link)
		if c.link == "" {
			write(t, link, script("plain"), 0o755)
		} else {
			must(t, os.MkdirAll(filepath.Dir(link), 0o755))
			must(t, os.Symlink(filepath.Join(root, c.link), link))
		}
		write(t, filepath.Join(root, spec.UnitDir, spec.UnitAgent), "[Service]\nExecStart="+c.unit+" agent\n", 0o644)
		if got, err := p.Superseded(spec.UnitAgent); got != c.other || (err != nil) != c.err {
			t.Errorf("%+v: %v, %v", c, got, err)
		}
	}
}

// TestTheLinkYields: a plain file where the link should be is how an older version
// arrives. A repair leaves it alone, a change replaces it.
func TestTheLinkYields(t *testing.T) {
	root := etc(t)
	f := plantest.Facts(spec.Ifupdown)
	f.Program = spec.ProgramPath("0123456789abcdef")
	want, err := plan.Build(plantest.Document(plantest.Host(1)), 1, *f)
	must(t, err)
	change, repair := at(root, f.Uplink, false), at(root, f.Uplink, true)
	bring(t, change, want)
	link := filepath.Join(root, spec.Helper)
	if target, err := os.Readlink(link); target != f.Program {
		t.Fatalf("leads to %q, %v", target, err)
	}
	must(t, os.Remove(link))
	write(t, link, script("older"), 0o755)
	if did := bring(t, repair, want); len(did) > 0 {
		t.Errorf("the repair did %v", did)
	}
	must(t, os.Remove(link))
	must(t, os.Symlink("/somewhere", link))
	if did := bring(t, repair, want); len(did) != 1 {
		t.Errorf("the repair of a link did %v", did)
	}
	must(t, os.Remove(link))
	write(t, link, script("older"), 0o755)
	if did := bring(t, change, want); len(did) != 1 {
		t.Errorf("the change did %v", did)
	}
}

func TestOtherProgram(t *testing.T) {
	now, before := spec.ProgramPath("0123456789abcdef"), spec.ProgramPath("0123456789abcde0")
	for _, c := range []struct {
		running, wanted string
		other           bool
	}{
		{now, now, false}, {before, now, true}, {spec.Helper, now, true}, {now + " (deleted)", now, true},
		{spec.Helper, "", false}, {spec.Helper + " (deleted)", "", true},
		{"/usr/lib/systemd/systemd", now, false}, // between fork and exec
	} {
		if got := otherProgram(c.running, c.wanted); got != c.other {
			t.Errorf("%q, wanted %q: %v", c.running, c.wanted, got)
		}
	}
}
