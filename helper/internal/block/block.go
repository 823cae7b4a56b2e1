// Package block keeps a part of a file that is somebody else's otherwise: the lines between
// two that mark them.
package block

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
)

// What is between these lines of a file is Mobula's, the rest is the operator's.
const (
	begin = "# Mobula: what follows is written anew whenever it differs.\n"
	end   = "# Mobula: end.\n"
	// unendedLine is in the block where the file ended above it, without a newline.
	unendedLine = "# Mobula: the line above this block had no newline.\n"
)

// around returns the lines of a file, each with its end, before the first block in it
// and those behind, without the blocks. One whose end is missing is as long as its lines
// are such as Mobula writes.
func around(content string) (before, after []string, found bool) {
	const outside, inside, unended = 0, 1, 2
	state, ours := outside, defaultInside
	lines := strings.SplitAfter(content, "\n")
	for i, line := range lines {
		is := strings.TrimSpace(line)
		switch {
		case is == strings.TrimSpace(begin):
			state, found = inside, true
			ours = defaultInside
			if !hasEnd(lines[i+1:]) {
				state = unended
			}
		case state != outside && is == strings.TrimSpace(end):
			state = outside
		case state == inside:
		case state == unended && heading.MatchString(is):
			ours = heading.FindStringSubmatch(is)[1:]
		case state == unended && (is == strings.TrimSpace(unendedLine) || written(is, ours)):
		default:
			state = outside
			if found {
				after = append(after, line)
			} else {
				before = append(before, line)
			}
		}
	}
	return before, after, found
}

// Names returns lines as in hosts(5), all with addresses in these two networks, below one
// that says so: by that they are known without an end, whoever looks.
func Names(wire, access netip.Prefix, lines string) string {
	if lines == "" {
		return ""
	}
	return fmt.Sprintf("# Mobula: addresses in %s and %s.\n%s", wire, access, lines)
}

var (
	heading = regexp.MustCompile(`^# Mobula: addresses in (\S+) and (\S+)\.$`)
	// defaultInside are the networks of names below which nothing says it: so the version
	// before wrote them.
	defaultInside = []string{"10.30.0.0/16", "10.31.0.0/16"}
	name          = regexp.MustCompile(`^(\d+\.\d+\.\d+\.\d+)\t\S+$`)
	dhcpcd        = regexp.MustCompile(`^denyinterfaces mo-\* .*$`)
)

// written reports a line as Mobula writes it: an address inside these networks and a name,
// or what dhcpcd is told.
func written(line string, inside []string) bool {
	found := name.FindStringSubmatch(line)
	if found == nil {
		return dhcpcd.MatchString(line)
	}
	address, err := netip.ParseAddr(found[1])
	return err == nil && slices.ContainsFunc(inside, func(network string) bool {
		p, err := netip.ParsePrefix(network)
		return err == nil && p.Contains(address)
	})
}

// hasEnd reports that a block that has begun has an end.
func hasEnd(lines []string) bool {
	for _, line := range lines {
		switch strings.TrimSpace(line) {
		case strings.TrimSpace(end):
			return true
		case strings.TrimSpace(begin):
			return false
		}
	}
	return false
}

// Block is a part of a file.
type Block struct {
	Path string
	// Lines are what it holds; "": there is none.
	Lines string
	// First has it come before all else, if there is none yet, otherwise it comes last. The
	// file keeps its time then: dhcpcd lets go of leases that are older.
	First bool
}

// In returns the content with this block alone, in the place of the first one.
func (b Block) In(content string) string {
	before, after, found := around(content)
	text, rest := strings.Join(before, ""), strings.Join(after, "")
	if !found && b.First && b.Lines != "" {
		return begin + b.Lines + end + text
	}
	mark := ""
	if !found && text != "" && !strings.HasSuffix(text, "\n") || found && strings.Contains(content, begin+unendedLine) {
		mark = unendedLine
	}
	if b.Lines == "" {
		if mark != "" && rest == "" {
			text = strings.TrimSuffix(text, "\n")
		}
		return text + rest
	}
	if text != "" && !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	return text + begin + mark + b.Lines + end + rest
}

// Compare reports that the file has this block and no other, and whether it has any.
func (b Block) Compare() (same, found bool, err error) {
	content, _, err := read(b.Path)
	if err != nil {
		return false, false, err
	}
	_, _, found = around(content)
	_, killed := os.Lstat(b.target() + temporary) // there is what one who was killed wrote
	return b.In(content) == content && errors.Is(killed, fs.ErrNotExist), found, nil
}

// target is the file itself, where Path is a symbolic link.
func (b Block) target() string {
	if target, err := filepath.EvalSymlinks(b.Path); err == nil {
		return target
	}
	return b.Path
}

func read(path string) (content string, mode fs.FileMode, err error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", 0o644, nil
	}
	if err != nil {
		return "", 0, err
	}
	data, err := os.ReadFile(path)
	return string(data), info.Mode().Perm(), err
}

// WriteFile writes a file that outlasts a power cut, as os.WriteFile otherwise.
type WriteFile func(path string, data []byte, mode fs.FileMode) error

// Put replaces the block and nothing else, also where the file is a symbolic link
// or mounted. A file that held nothing else goes with the block. What others write while
// the new one is made counts.
func (b Block) Put(write WriteFile) error {
	path := b.target()
	if err := os.Remove(path + temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for {
		content, mode, err := read(path)
		if err != nil {
			return err
		}
		text := b.In(content)
		if text == content {
			return nil
		}
		restore := func() error { return nil }
		if b.First {
			restore = keepTime(path)
		}
		written, err := replace(write, path, content, text, mode)
		if err == nil && written && text != "" {
			err = restore()
		}
		if written || err != nil {
			return err
		}
	}
}

// keepTime returns what gives a file the time again that it has now.
func keepTime(path string) func() error {
	info, err := os.Stat(path)
	return func() error {
		if err != nil { // there was none
			return nil
		}
		return os.Chtimes(path, info.ModTime(), info.ModTime())
	}
}

// temporary ends the name of a file that is to take the place of another one.
const temporary = ".mobula"

// replace writes a file if it still has the content that it had.
func replace(write WriteFile, path, content, text string, mode fs.FileMode) (written bool, err error) {
	inPlace := others(path)
	if !inPlace && text != "" {
		if err := write(path+temporary, []byte(text), mode); err != nil {
			return false, err
		}
		defer os.Remove(path + temporary) // fails after the rename, as it should
	}
	if now, _, err := read(path); err != nil || now != content {
		return false, err
	}
	switch {
	case text == "" && content != "":
		return true, os.Remove(path)
	case inPlace:
		return true, os.WriteFile(path, []byte(text), mode)
	}
	if err = os.Rename(path+temporary, path); errors.Is(err, syscall.EBUSY) { // a bind mount can only be written to
		err = os.WriteFile(path, []byte(text), mode)
	}
	return true, err
}

// others reports a file of another owner, or with another name: replaced, it would lose
// both.
func others(path string) bool {
	info, err := os.Stat(path)
	if err != nil {
		return false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && (stat.Uid != 0 || stat.Gid != 0 || stat.Nlink > 1)
}
