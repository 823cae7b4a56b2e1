package system

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"mobula/helper/internal/plan"
	"mobula/helper/internal/store"
)

// TestBlock: a part of a file comes, changes and goes, and what is around it stays to
// the byte, whatever it is.
func TestBlock(t *testing.T) {
	m := Machine{WriteFile: store.WriteFile}
	for _, before := range []string{"", "\n", "127.0.0.1 localhost\n", "# a comment without an end", "a\n\n\nb\n", blockEnd + "x\n", "crlf\r\n"} {
		path := filepath.Join(t.TempDir(), "hosts")
		if before != "" {
			if err := os.WriteFile(path, []byte(before), 0o640); err != nil {
				t.Fatal(err)
			}
		}
		put := func(content string) string {
			t.Helper()
			f := plan.File{Path: path, Content: content, Block: true}
			if same, _, err := compareBlock(f); err != nil || same != (content == "") {
				t.Errorf("%q: before %q is put it is the same: %v, %v", before, content, same, err)
			}
			if err := m.putBlock(f); err != nil {
				t.Fatal(err)
			}
			if same, _, err := compareBlock(f); err != nil || !same {
				t.Errorf("%q: %q is not as it was put: %v", before, content, err)
			}
			data, _ := os.ReadFile(path)
			return string(data)
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
		m.putBlock(plan.File{Path: path, Block: true})
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
	m := Machine{WriteFile: store.WriteFile}
	path := filepath.Join(t.TempDir(), "hosts")
	for _, content := range []string{"10.31.128.1 a\n", ""} {
		if err := m.putBlock(plan.File{Path: path, Content: content, Block: true}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("found %v, wanted no file", err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.WriteFile(path, []byte("x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if err := m.putBlock(plan.File{Path: link, Content: "y\n", Block: true}); err != nil {
		t.Fatal(err)
	}
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
	if err := (Machine{WriteFile: store.WriteFile}).putBlock(plan.File{Path: path, Content: "y\n", Block: true}); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	same, otherErr := os.Stat(other)
	if err != nil || otherErr != nil || info.Sys().(*syscall.Stat_t).Uid != 7 || !os.SameFile(info, same) {
		t.Errorf("found %+v (%v, %v)", info, err, otherErr)
	}
}
