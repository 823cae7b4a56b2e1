// Package netns runs code in a named network namespace, the kind that
// ip-netns(8) makes.
package netns

import (
	"fmt"
	"os"
	"runtime"

	"github.com/vishvananda/netns"
)

// Dir holds a mount of each named namespace, see ip-netns(8).
const Dir = "/run/netns"

// Path returns the file by which a named namespace is entered.
func Path(name string) string { return Dir + "/" + name }

// Exists reports whether the named namespace stands. "" is the host's own.
func Exists(name string) bool {
	if name == "" {
		return true
	}
	handle, err := netns.GetFromName(name)
	if err != nil {
		return false
	}
	handle.Close()
	return true
}

// Do runs f in the named namespace; "" runs it where the caller is. A namespace
// belongs to a thread of the kernel, so f gets a thread that ends with it: it
// can never leak into other goroutines. Sockets that f opens stay in the
// namespace.
func Do(name string, f func() error) error {
	if name == "" {
		return f()
	}
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		handle, err := netns.GetFromName(name)
		if err != nil {
			result <- fmt.Errorf("network namespace %s: %w", name, err)
			return
		}
		defer handle.Close()
		if err := netns.Set(handle); err != nil {
			result <- fmt.Errorf("entering network namespace %s: %w", name, err)
			return
		}
		result <- f()
	}()
	return <-result
}

// Create makes the named namespace. An existing one is left as it is.
func Create(name string) error {
	if Exists(name) {
		return nil
	}
	// A leftover file without a namespace would make the creation fail.
	if err := os.Remove(Path(name)); err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("removing leftover %s: %w", Path(name), err)
	}
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		handle, err := netns.NewNamed(name)
		if err == nil {
			handle.Close()
		}
		result <- err
	}()
	if err := <-result; err != nil {
		return fmt.Errorf("creating network namespace %s: %w", name, err)
	}
	return nil
}

// Delete unmounts the named namespace. The kernel frees it when no process is
// left in it. A missing one is no error.
func Delete(name string) error {
	if err := netns.DeleteNamed(name); err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("deleting network namespace %s: %w", name, err)
	}
	return nil
}
