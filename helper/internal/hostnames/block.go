package hostnames

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
)

// What is between these lines of a file is Mobula's, the rest is the operator's.
const (
	blockBegin = "# Mobula: what follows is written anew whenever it differs.\n"
	blockEnd   = "# Mobula: end.\n"
	// unendedLine is in the block where the file ended above it, without a newline.
	unendedLine = "# Mobula: the line above this block had no newline.\n"
)

// aroundBlocks returns the lines of a file, each with its end, before the first block in it
// and those behind, without the blocks. One whose end is missing is as long as its lines
// are such as Mobula writes.
func aroundBlocks(content string) (before, after []string, found bool) {
	const outside, inside, unended = 0, 1, 2
	state := outside
	lines := strings.SplitAfter(content, "\n")
	for i, line := range lines {
		is := strings.TrimSpace(line)
		switch {
		case is == strings.TrimSpace(blockBegin):
			state, found = inside, true
			if !ends(lines[i+1:]) {
				state = unended
			}
		case state != outside && is == strings.TrimSpace(blockEnd):
			state = outside
		case state == inside, state == unended && (written.MatchString(is) || is == strings.TrimSpace(unendedLine)):
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

// written is a line as Mobula writes it: an inside address and a name.
var written = regexp.MustCompile(`^10\.3[01]\.\d+\.\d+\t\S+$`)

// ends reports that a block that has begun has an end.
func ends(lines []string) bool {
	for _, line := range lines {
		switch strings.TrimSpace(line) {
		case strings.TrimSpace(blockEnd):
			return true
		case strings.TrimSpace(blockBegin):
			return false
		}
	}
	return false
}

// withBlock returns the content with this block alone, "" for none, in the place of the
// first one or at its end.
func withBlock(content, block string) string {
	before, after, found := aroundBlocks(content)
	text, rest := strings.Join(before, ""), strings.Join(after, "")
	mark := ""
	if !found && text != "" && !strings.HasSuffix(text, "\n") || found && strings.Contains(content, blockBegin+unendedLine) {
		mark = unendedLine
	}
	if block == "" {
		if mark != "" && rest == "" {
			text = strings.TrimSuffix(text, "\n")
		}
		return text + rest
	}
	if text != "" && !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	return text + blockBegin + mark + block + blockEnd + rest
}

func readBlockFile(path string) (content string, mode fs.FileMode, err error) {
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

// putBlock replaces the block and nothing else, also where the file is a symbolic link
// or mounted. A file that held nothing else goes with the block. What others write while
// the new one is made counts.
func (r *Resolver) putBlock(path, block string) error {
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	for {
		content, mode, err := readBlockFile(path)
		if err != nil {
			return err
		}
		text := withBlock(content, block)
		if text == content {
			return nil
		}
		written, err := r.replace(path, content, text, mode)
		if written || err != nil {
			return err
		}
	}
}

// temporary ends the name of a file that is to take the place of another one.
const temporary = ".mobula"

// replace writes a file if it still has the content that it had.
func (r *Resolver) replace(path, content, text string, mode fs.FileMode) (written bool, err error) {
	inPlace := others(path)
	if !inPlace && text != "" {
		if err := r.WriteFile(path+temporary, []byte(text), mode); err != nil {
			return false, err
		}
		defer os.Remove(path + temporary) // fails after the rename, as it should
	}
	if now, _, err := readBlockFile(path); err != nil || now != content {
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
