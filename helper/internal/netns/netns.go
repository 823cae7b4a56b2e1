// Package netns runs code in a named network namespace, the kind that
// ip-netns(8) makes.
package netns

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// init keeps the main goroutine on the process's first thread, and so all others
// off it. That thread stands for the whole process: /proc/self/ns/net, /proc/net
// and whoever looks from outside show its namespace, and it lives as long as the
// process, so it could not be disposed of after a visit to another namespace.
func init() { runtime.LockOSThread() }

// Dir holds a mount of each named namespace, see ip-netns(8).
const Dir = "/run/netns"

// own is the network namespace of the process.
const own = "/proc/self/ns/net"

// Path returns the file by which a named namespace is entered.
func Path(name string) string { return Dir + "/" + name }

// Inode identifies a namespace, also among those that have had its name; 0: there is none.
func Inode(name string) uint64 {
	file, err := Open(name)
	if err != nil {
		return 0
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return 0
	}
	return info.Sys().(*syscall.Stat_t).Ino
}

// Open opens a namespace, "" being the host's own. The error matches
// fs.ErrNotExist if there is none, also where an interrupted creation or
// deletion has left a plain file in its place.
func Open(name string) (*os.File, error) {
	path := own
	if name != "" {
		path = Path(name)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("network namespace %s: %w", name, err)
	}
	var fsys unix.Statfs_t
	err = unix.Fstatfs(int(file.Fd()), &fsys)
	if err == nil && fsys.Type != unix.NSFS_MAGIC {
		err = fmt.Errorf("found a file that is no namespace: %w", fs.ErrNotExist)
	}
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("network namespace %s: %w", name, err)
	}
	return file, nil
}

// Exists reports whether the named namespace stands. "" is the host's own.
func Exists(name string) bool {
	file, err := Open(name)
	if err == nil {
		file.Close()
	}
	return err == nil
}

// Leftover reports whether the file of the named namespace is there without the
// namespace, as an interrupted creation or deletion leaves it. Create and Delete
// remove it.
func Leftover(name string) bool {
	_, err := os.Lstat(Path(name))
	return err == nil && !Exists(name)
}

// Do runs f in the named namespace; "" runs it where the caller is. A namespace
// belongs to a thread of the kernel, so f gets a thread that ends with it: it
// can never leak into other goroutines. Sockets that f opens stay in the
// namespace.
func Do(name string, f func() error) error {
	if name == "" {
		return f()
	}
	return onThread(func() error {
		file, err := Open(name)
		if err != nil {
			return err
		}
		defer file.Close()
		if err := unix.Setns(int(file.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("entering network namespace %s: %w", name, err)
		}
		return f()
	})
}

// onThread runs f on a thread of its own, which ends with it.
func onThread(f func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		result <- f()
	}()
	return <-result
}

// Create makes the named namespace. An existing one is left as it is.
func Create(name string) error {
	if Exists(name) {
		return nil
	}
	err := Delete(name) // a leftover file
	if err == nil {
		err = os.MkdirAll(Dir, 0o755)
	}
	if err == nil {
		err = onThread(func() error { return create(name) })
	}
	if err != nil {
		return errors.Join(fmt.Errorf("creating network namespace %s: %w", name, err), Delete(name))
	}
	return nil
}

// create makes a namespace for the calling thread and gives it a name.
func create(name string) error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return err
	}
	file, err := os.OpenFile(Path(name), os.O_CREATE|os.O_EXCL, 0o444)
	if err != nil {
		return err
	}
	file.Close()
	return unix.Mount("/proc/thread-self/ns/net", Path(name), "", unix.MS_BIND, "")
}

// Delete unmounts the named namespace and removes its file, whether or not a
// namespace stands there. The kernel frees it when no process is left in it. A
// missing one is no error.
func Delete(name string) error {
	var err error
	for err == nil { // several mounts may lie on top of each other
		err = unix.Unmount(Path(name), unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	}
	if errors.Is(err, unix.EINVAL) { // nothing is mounted there
		err = os.Remove(Path(name))
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("deleting network namespace %s: %w", name, err)
	}
	return nil
}
