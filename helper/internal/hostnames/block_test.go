package hostnames

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"mobula/helper/internal/plan"
)

// on is the subject of a host below a new directory, with /etc.
func on(t *testing.T) *Resolver {
	t.Helper()
	r := &Resolver{Root: t.TempDir(), WriteFile: os.WriteFile, Index: func(string) int { return 0 }}
	if err := os.Mkdir(r.Root+"/etc", 0o755); err != nil {
		t.Fatal(err)
	}
	return r
}

// isAsPut reports that nothing is left to do.
func isAsPut(t *testing.T, r *Resolver, block string) bool {
	t.Helper()
	ops, err := r.lines(block)
	if err != nil {
		t.Fatal(err)
	}
	return len(ops) == 0
}

func put(t *testing.T, r *Resolver, path, content string) {
	t.Helper()
	if err := r.putBlock(path, content); err != nil {
		t.Fatal(err)
	}
}

// TestBlock: a part of a file comes, changes and goes, and what is around it stays to
// the byte, whatever it is.
func TestBlock(t *testing.T) {
	for _, before := range []string{"", "\n", "127.0.0.1 localhost\n", "# a comment without an end", "a\n\n\nb\n", blockEnd + "x\n", "crlf\r\n"} {
		r := on(t)
		path := r.Root + plan.HostsPath
		if before != "" {
			if err := os.WriteFile(path, []byte(before), 0o640); err != nil {
				t.Fatal(err)
			}
		}
		put := func(content string) {
			t.Helper()
			if same := isAsPut(t, r, content); same != (content == "") {
				t.Errorf("%q: before %q is put it is the same: %v", before, content, same)
			}
			if err := r.putBlock(path, content); err != nil {
				t.Fatal(err)
			}
			if !isAsPut(t, r, content) {
				t.Errorf("%q: %q is not as it was put", before, content)
			}
		}
		put("10.31.128.1 a\n")
		file, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		// The operator's lines around it stay when it changes.
		if err := os.WriteFile(path, append(file, "192.0.2.7 later\n"...), 0o640); err != nil {
			t.Fatal(err)
		}
		put("10.31.128.1 a\n10.31.128.2 b\n")
		if err := r.putBlock(path, ""); err != nil {
			t.Fatal(err)
		}
		data, _ := os.ReadFile(path)
		want := before + "192.0.2.7 later\n"
		if before == "# a comment without an end" {
			want = before + "\n192.0.2.7 later\n"
		}
		if string(data) != want {
			t.Errorf("found %q, wanted %q", data, want)
		}
	}
}

// TestBlockGoesWithoutATrace: a file that was not there is not there afterwards, and
// one without a final newline is given back without.
func TestBlockGoesWithoutATrace(t *testing.T) {
	r := on(t)
	path := r.Root + plan.HostsPath
	for _, content := range []string{"10.31.128.1 a\n", ""} {
		put(t, r, path, content)
	}
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("found %v, wanted no file", err)
	}
	const unended = "127.0.0.1 localhost\n# the last line"
	if err := os.WriteFile(path, []byte(unended), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, content := range []string{"10.31.128.1\ta.example.com\n", "10.31.128.1\ta.example.com\n10.31.128.2\tb.example.com\n", ""} {
		put(t, r, path, content)
	}
	if data, _ := os.ReadFile(path); string(data) != unended {
		t.Errorf("found %q, wanted %q", data, unended)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.WriteFile(path, []byte("x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	put(t, r, link, "y\n")
	if target, err := os.Readlink(link); err != nil || target != path {
		t.Errorf("the link is %q, %v", target, err)
	}
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
}

// TestDamagedBlocks: what somebody did to a block costs none of the operator's lines.
func TestDamagedBlocks(t *testing.T) {
	const own, operators = "10.31.0.1\ta.example.com\n", "192.0.2.7 operators\n"
	for name, c := range map[string]struct{ content, without string }{
		"no end":                   {blockBegin + own + operators, operators},
		"no end, and more":         {operators + blockBegin + own + operators + "192.0.2.8 more\n", operators + operators + "192.0.2.8 more\n"},
		"a blank behind the end":   {blockBegin + own + strings.TrimSuffix(blockEnd, "\n") + " \n" + operators, operators},
		"broken, then whole":       {blockBegin + own + operators + blockBegin + own + blockEnd + operators, operators + operators},
		"twice":                    {blockBegin + own + blockEnd + operators + blockBegin + own + blockEnd, operators},
		"of another system":        {strings.ReplaceAll(operators+blockBegin+own+blockEnd, "\n", "\r\n"), strings.ReplaceAll(operators, "\n", "\r\n")},
		"operator's lines like it": {"10.31.0.9\tmine.example.com\n" + blockBegin + own + blockEnd, "10.31.0.9\tmine.example.com\n"},
		"an end alone":             {operators + blockEnd, operators + blockEnd},
		"no end, after no newline": {"mine\n" + blockBegin + unendedLine + own + operators, "mine\n" + operators},
		"after no newline":         {"mine\n" + blockBegin + unendedLine + own + blockEnd, "mine"},
	} {
		if got := withBlock(c.content, ""); got != c.without {
			t.Errorf("%s: left %q, wanted %q", name, got, c.without)
		}
		with := withBlock(c.content, own)
		if got := withBlock(with, own); got != with || strings.Count(with, blockBegin) != 1 {
			t.Errorf("%s: %q becomes %q", name, with, got)
		}
		if got := withBlock(with, ""); got != c.without {
			t.Errorf("%s: after another block %q is left, wanted %q", name, got, c.without)
		}
	}
}

// TestBlockKeepsOwnerAndNames: a file of somebody else's stays his, and its other names
// are the same file.
func TestBlockKeepsOwnerAndNames(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("wanted root, who may give files away")
	}
	dir := t.TempDir()
	path, other := filepath.Join(dir, "hosts"), filepath.Join(dir, "other")
	if err := errors.Join(os.WriteFile(path, []byte("x\n"), 0o600), os.Chown(path, 7, 8), os.Link(path, other)); err != nil {
		t.Fatal(err)
	}
	put(t, on(t), path, "y\n")
	info, err := os.Stat(path)
	same, otherErr := os.Stat(other)
	if err != nil || otherErr != nil || info.Sys().(*syscall.Stat_t).Uid != 7 || !os.SameFile(info, same) {
		t.Errorf("found %+v (%v, %v)", info, err, otherErr)
	}
}

// TestHostsWrittenMeanwhile: what somebody writes while the new file is made is kept.
func TestHostsWrittenMeanwhile(t *testing.T) {
	r := on(t)
	path, others := r.Root+plan.HostsPath, 0
	if err := os.WriteFile(path, []byte("127.0.0.1 localhost\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	r.WriteFile = func(to string, data []byte, mode fs.FileMode) error {
		if others++; others < 3 {
			if err := os.WriteFile(path, []byte(fmt.Sprintf("127.0.0.1 localhost\n192.0.2.%d another\n", others)), 0o644); err != nil {
				return err
			}
		}
		return os.WriteFile(to, data, mode)
	}
	put(t, r, path, "10.31.128.1\ta.example.com\n")
	data, _ := os.ReadFile(path)
	if want := withBlock("127.0.0.1 localhost\n192.0.2.2 another\n", "10.31.128.1\ta.example.com\n"); string(data) != want {
		t.Errorf("found %q, wanted %q", data, want)
	}
	if left, _ := filepath.Glob(path + "?*"); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
	// One that was killed leaves its file, which goes.
	if err := os.WriteFile(path+temporary, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	ops, err := r.lines("10.31.128.1\ta.example.com\n")
	if err != nil || len(ops) != 1 {
		t.Fatalf("found %v, %v", ops, err)
	}
	if err := ops[0].Do(context.Background()); err != nil || !isAsPut(t, r, "10.31.128.1\ta.example.com\n") {
		t.Errorf("it stays: %v", err)
	}
}
