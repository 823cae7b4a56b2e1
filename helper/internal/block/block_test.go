package block

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// at is a block of a file in a new directory.
func at(t *testing.T) Block {
	t.Helper()
	return Block{Path: filepath.Join(t.TempDir(), "hosts")}
}

func isAsPut(t *testing.T, b Block) bool {
	t.Helper()
	same, _, err := b.Compare()
	if err != nil {
		t.Fatal(err)
	}
	return same
}

func put(t *testing.T, path, lines string) {
	t.Helper()
	if err := (Block{Path: path, Lines: lines}).Put(os.WriteFile); err != nil {
		t.Fatal(err)
	}
}

// TestBlock: a part of a file comes, changes and goes, and what is around it stays to
// the byte, whatever it is.
func TestBlock(t *testing.T) {
	for _, before := range []string{"", "\n", "127.0.0.1 localhost\n", "# a comment without an end", "a\n\n\nb\n", end + "x\n", "crlf\r\n"} {
		path := at(t).Path
		if before != "" {
			if err := os.WriteFile(path, []byte(before), 0o640); err != nil {
				t.Fatal(err)
			}
		}
		putAnew := func(lines string) {
			t.Helper()
			b := Block{Path: path, Lines: lines}
			if same := isAsPut(t, b); same != (lines == "") {
				t.Errorf("%q: before %q is put it is the same: %v", before, lines, same)
			}
			put(t, path, lines)
			if !isAsPut(t, b) {
				t.Errorf("%q: %q is not as it was put", before, lines)
			}
		}
		putAnew("10.31.128.1 a\n")
		file, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		// The operator's lines around it stay when it changes.
		if err := os.WriteFile(path, append(file, "192.0.2.7 later\n"...), 0o640); err != nil {
			t.Fatal(err)
		}
		putAnew("10.31.128.1 a\n10.31.128.2 b\n")
		put(t, path, "")
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
	path := at(t).Path
	for _, content := range []string{"10.31.128.1 a\n", ""} {
		put(t, path, content)
	}
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("found %v, wanted no file", err)
	}
	const unended = "127.0.0.1 localhost\n# the last line"
	if err := os.WriteFile(path, []byte(unended), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, content := range []string{"10.31.128.1\ta.example.com\n", "10.31.128.1\ta.example.com\n10.31.128.2\tb.example.com\n", ""} {
		put(t, path, content)
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
	put(t, link, "y\n")
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
	const others, near = "172.20.0.1\ta.example.com\n192.168.128.1\tb\n", "192.169.0.9\tprinter\n"
	elsewhere := Names(netip.MustParsePrefix("172.20.0.0/16"), netip.MustParsePrefix("192.168.0.0/16"), others)
	for name, c := range map[string]struct{ content, without string }{
		"no end":                   {begin + own + operators, operators},
		"no end, and more":         {operators + begin + own + operators + "192.0.2.8 more\n", operators + operators + "192.0.2.8 more\n"},
		"a blank behind the end":   {begin + own + strings.TrimSuffix(end, "\n") + " \n" + operators, operators},
		"broken, then whole":       {begin + own + operators + begin + own + end + operators, operators + operators},
		"twice":                    {begin + own + end + operators + begin + own + end, operators},
		"of another system":        {strings.ReplaceAll(operators+begin+own+end, "\n", "\r\n"), strings.ReplaceAll(operators, "\n", "\r\n")},
		"operator's lines like it": {"10.31.0.9\tmine.example.com\n" + begin + own + end, "10.31.0.9\tmine.example.com\n"},
		"an end alone":             {operators + end, operators + end},
		"no end, after no newline": {"mine\n" + begin + unendedLine + own + operators, "mine\n" + operators},
		"no end, other networks":   {operators + begin + elsewhere + near + own + operators, operators + near + own + operators},
		"no heading, no end":       {begin + others + operators, others + operators},
		"no end, then the default": {begin + elsewhere + begin + own + others, others},
		"after no newline":         {"mine\n" + begin + unendedLine + own + end, "mine"},
	} {
		if got := (Block{}).In(c.content); got != c.without {
			t.Errorf("%s: left %q, wanted %q", name, got, c.without)
		}
		with := Block{Lines: own}.In(c.content)
		if got := (Block{Lines: own}).In(with); got != with || strings.Count(with, begin) != 1 {
			t.Errorf("%s: %q becomes %q", name, with, got)
		}
		if got := (Block{}).In(with); got != c.without {
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
	put(t, path, "y\n")
	info, err := os.Stat(path)
	same, otherErr := os.Stat(other)
	if err != nil || otherErr != nil || info.Sys().(*syscall.Stat_t).Uid != 7 || !os.SameFile(info, same) {
		t.Errorf("found %+v (%v, %v)", info, err, otherErr)
	}
}

// TestWrittenMeanwhile: what somebody writes while the new file is made is kept.
func TestWrittenMeanwhile(t *testing.T) {
	b := Block{Path: at(t).Path, Lines: "10.31.128.1\ta.example.com\n"}
	others := 0
	if err := os.WriteFile(b.Path, []byte("127.0.0.1 localhost\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	err := b.Put(func(to string, data []byte, mode fs.FileMode) error {
		if others++; others < 3 {
			if err := os.WriteFile(b.Path, []byte(fmt.Sprintf("127.0.0.1 localhost\n192.0.2.%d another\n", others)), 0o644); err != nil {
				return err
			}
		}
		return os.WriteFile(to, data, mode)
	})
	data, _ := os.ReadFile(b.Path)
	if want := b.In("127.0.0.1 localhost\n192.0.2.2 another\n"); string(data) != want || err != nil {
		t.Errorf("found %q, %v, wanted %q", data, err, want)
	}
	if left, _ := filepath.Glob(b.Path + "?*"); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
	// One that was killed leaves its file, which goes.
	if err := os.WriteFile(b.Path+temporary, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if isAsPut(t, b) {
		t.Error("a file of one who was killed counts for nothing")
	}
	if err := b.Put(os.WriteFile); err != nil || !isAsPut(t, b) {
		t.Errorf("it stays: %v", err)
	}
}

// TestFirstBlock: one that has to come first does, and leaves the file's time as it is.
func TestFirstBlock(t *testing.T) {
	for _, before := range []string{"", "duid\ninterface eth0\nstatic routers=192.0.2.1\n", "option a"} {
		path := at(t).Path
		when := time.Unix(1_700_000_000, 0)
		if before != "" {
			if err := errors.Join(os.WriteFile(path, []byte(before), 0o644), os.Chtimes(path, when, when)); err != nil {
				t.Fatal(err)
			}
		}
		for _, lines := range []string{"denyinterfaces mo-* veth_fac0\n", "denyinterfaces mo-* veth_fac0 veth_eth0\n", ""} {
			b := Block{Path: path, Lines: lines, First: true}
			if err := b.Put(os.WriteFile); err != nil {
				t.Fatal(err)
			}
			want := before
			if lines != "" {
				want = begin + lines + end + before
			}
			if data, _ := os.ReadFile(path); string(data) != want || !isAsPut(t, b) {
				t.Errorf("found %q, wanted %q", data, want)
			}
			if info, err := os.Stat(path); before != "" && (err != nil || !info.ModTime().Equal(when)) {
				t.Errorf("its time is another one: %v, %v", info.ModTime(), err)
			}
		}
	}
}
