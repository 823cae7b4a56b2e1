package system

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"mobula/helper/internal/plan"
)

// What is between these lines of a file is Mobula's, the rest is the operator's.
const (
	blockBegin = "# Mobula: what follows is written anew whenever it differs.\n"
	blockEnd   = "# Mobula: end.\n"
)

// splitBlock returns what stands before the block, in it and behind it. A block
// without an end is one up to the end of the file; of several the first one counts, and
// the others belong to what is behind.
func splitBlock(content string) (before, block, after string, found bool) {
	before, rest, found := strings.Cut(content, blockBegin)
	if !found {
		return content, "", "", false
	}
	block, after, _ = strings.Cut(rest, blockEnd)
	return before, block, after, true
}

// withBlock returns the content with this block, "" for none, in the place of its own
// or at its end.
func withBlock(content, block string) string {
	before, _, after, found := splitBlock(content)
	switch {
	case block == "" && !found:
		return content
	case block == "":
		return before + after
	case !found && before != "" && !strings.HasSuffix(before, "\n"):
		before += "\n"
	}
	return before + blockBegin + block + blockEnd + after
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
	_, _, _, found := splitBlock(content)
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
	if err = m.WriteFile(path, text, mode); errors.Is(err, syscall.EBUSY) { // a bind mount can only be written to
		err = os.WriteFile(path, text, mode)
	}
	return err
}
