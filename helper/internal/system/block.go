package system

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"

	"mobula/helper/internal/plan"
)

// What is between these lines of a file is Mobula's, the rest is the operator's.
const (
	blockBegin = "# Mobula: what follows is written anew whenever it differs.\n"
	blockEnd   = "# Mobula: end.\n"
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
		case state == inside, state == unended && written.MatchString(is):
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
	text := strings.Join(before, "")
	if block == "" {
		return text + strings.Join(after, "")
	}
	if !found && text != "" && !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	return text + blockBegin + block + blockEnd + strings.Join(after, "")
}

func readBlockFile(path string) (content string, mode fs.FileMode, exists bool, err error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", 0o644, false, nil
	}
	if err != nil {
		return "", 0, false, err
	}
	data, err := os.ReadFile(path)
	return string(data), info.Mode().Perm(), true, err
}

func compareBlock(f plan.File) (same, exists bool, err error) {
	content, _, _, err := readBlockFile(f.Path)
	if err != nil {
		return false, false, err
	}
	_, _, found := aroundBlocks(content)
	return withBlock(content, f.Content) == content, found, nil
}

// putBlock replaces the block and nothing else, also where the file is a symbolic link
// or mounted. A file that held nothing else goes with the block.
func (m Machine) putBlock(f plan.File) error {
	path := f.Path
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	content, mode, _, err := readBlockFile(path)
	if err != nil {
		return err
	}
	text := []byte(withBlock(content, f.Content))
	if len(text) == 0 && len(content) > 0 {
		return remove(path)
	}
	if others(path) {
		return os.WriteFile(path, text, mode)
	}
	if err = m.WriteFile(path, text, mode); errors.Is(err, syscall.EBUSY) { // a bind mount can only be written to
		err = os.WriteFile(path, text, mode)
	}
	return err
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
