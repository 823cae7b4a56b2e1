package watch

import (
	"os"
	"syscall"
	"time"
)

// File identifies a file that a daemon makes anew when it starts; zero: there is none.
type File struct {
	inode    uint64
	modified time.Time
}

// FileAt looks at the file of a path.
func FileAt(path string) File {
	info, err := os.Stat(path)
	if err != nil {
		return File{}
	}
	return File{info.Sys().(*syscall.Stat_t).Ino, info.ModTime()}
}
