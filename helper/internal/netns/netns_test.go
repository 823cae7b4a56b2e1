package netns_test

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"mobula/helper/internal/netns"
	"mobula/helper/internal/netns/netnstest"
)

const name = "gateway"

// interfaces counts those of the named namespace.
func interfaces(t *testing.T) (n int) {
	t.Helper()
	err := netns.Do(name, func() error {
		all, err := net.Interfaces()
		n = len(all)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestHalfMadeAndHalfDeleted(t *testing.T) {
	if !netnstest.Alone(t) {
		return
	}
	leave := map[string]func(){
		"nothing": func() {},
		"made up to its file": func() {
			must(t, os.MkdirAll(netns.Dir, 0o755))
			must(t, os.WriteFile(netns.Path(name), nil, 0o444))
		},
		"deleted but for its file": func() {
			must(t, netns.Create(name))
			must(t, unix.Unmount(netns.Path(name), unix.MNT_DETACH))
		},
	}
	for what, leave := range leave {
		t.Run(what, func(t *testing.T) {
			leave()
			if netns.Exists(name) {
				t.Error("it is taken for a namespace")
			}
			if err := netns.Do(name, func() error { return nil }); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("entering it: found %v, wanted that it does not exist", err)
			}
			if wanted := what != "nothing"; netns.Leftover(name) != wanted {
				t.Errorf("leftover: found %v, wanted %v", !wanted, wanted)
			}
			must(t, netns.Delete(name))
			if _, err := os.Lstat(netns.Path(name)); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("after the deletion: found %v, wanted no file", err)
			}
			leave()
			must(t, netns.Create(name))
			if !netns.Exists(name) || netns.Leftover(name) || interfaces(t) != 1 {
				t.Error("no namespace after its creation")
			}
			must(t, netns.Create(name)) // it stands: left as it is
			must(t, netns.Delete(name))
			if netns.Exists(name) || netns.Leftover(name) {
				t.Error("it is there after its deletion")
			}
		})
	}
}

func TestMountsOnTopOfEachOther(t *testing.T) {
	if !netnstest.Alone(t) {
		return
	}
	must(t, netns.Create(name))
	must(t, unix.Mount(netns.Path(name), netns.Path(name), "", unix.MS_BIND, ""))
	must(t, netns.Delete(name))
	if netns.Exists(name) || netns.Leftover(name) {
		t.Error("it is there after its deletion")
	}
}

// The main thread stands for the process, for which /proc/self/ns/net is asked
// when the NIC comes back to the host's own namespace. Whoever visits another
// namespace must not do it there: the thread would stay in it until the process ends.
func TestMainThreadStaysAtHome(t *testing.T) {
	if !netnstest.Alone(t) {
		return
	}
	home, err := os.Readlink("/proc/self/ns/net")
	must(t, err)
	must(t, netns.Create(name))
	// All at a time, so that no idle thread is left.
	const visitors = 16
	var arrived, left sync.WaitGroup
	arrived.Add(visitors)
	left.Add(visitors)
	for i := 0; i < visitors; i++ {
		go func() {
			defer left.Done()
			err := netns.Do(name, func() error {
				if unix.Gettid() == os.Getpid() {
					t.Error("on the main thread")
				}
				arrived.Done()
				arrived.Wait()
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		}()
	}
	left.Wait()
	if now, err := os.Readlink("/proc/self/ns/net"); now != home {
		t.Errorf("the process is in %s now, %v; wanted %s", now, err, home)
	}
}
