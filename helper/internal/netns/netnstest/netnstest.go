// Package netnstest runs a test against the real kernel without touching the
// machine's own network.
package netnstest

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mobula/helper/internal/netns"
)

// mark tells a process that it is the one in namespaces of its own.
const mark = "MOBULA_TEST_ALONE"

// Alone reports whether the test has network, mounts and /run for itself, with
// the loopback interface up. In the process that go test started it has not:
// there Alone runs the test once more in a process that has, fails with what
// that one says, and returns false. It needs no privilege where the kernel lets
// users make user namespaces (user_namespaces(7)).
func Alone(t *testing.T) bool {
	t.Helper()
	if os.Getenv(mark) == t.Name() {
		settle(t)
		return true
	}
	pattern := "^" + strings.ReplaceAll(regexp.QuoteMeta(t.Name()), "/", "$/^") + "$"
	again := exec.Command("/proc/self/exe", "-test.run="+pattern, "-test.v", "-test.count=1")
	again.Env = append(os.Environ(), mark+"="+t.Name())
	again.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if id := os.Geteuid(); id != 0 {
		again.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		again.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: id, Size: 1}}
		again.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}}
	}
	out, err := again.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Fatalf("in namespaces of its own: %v\n%s", err, out)
	}
	return false
}

func settle(t *testing.T) {
	t.Helper()
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		t.Fatal("keeping mounts here:", err)
	}
	if err := syscall.Mount("run", "/run", "tmpfs", 0, ""); err != nil {
		t.Fatal("mounting /run:", err)
	}
	Run(t, "", "ip", "link", "set", "lo", "up")
}

// Namespace makes a named network namespace whose loopback interface is up.
func Namespace(t *testing.T, name string) {
	t.Helper()
	if err := netns.Create(name); err != nil {
		t.Fatal(err)
	}
	Run(t, name, "ip", "link", "set", "lo", "up")
}

// Run runs a command in the named network namespace; it has to succeed.
func Run(t *testing.T, namespace string, command ...string) {
	t.Helper()
	var out []byte
	err := netns.Do(namespace, func() (err error) {
		out, err = exec.Command(command[0], command[1:]...).CombinedOutput()
		return err
	})
	if err != nil {
		t.Fatalf("%s: %v: %s", strings.Join(command, " "), err, out)
	}
}

// Deaf makes a TCP socket on 127.0.0.1 in the named namespace to which nobody
// can connect: its queue is full, so the kernel drops what asks for more
// (listen(2)). Port 0 is one of the kernel's choice.
func Deaf(t *testing.T, namespace string, port uint16) (address netip.AddrPort) {
	t.Helper()
	var fd int
	err := netns.Do(namespace, func() (err error) {
		if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		return errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Port: int(port), Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(fd, 0))
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	at, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	in4 := at.(*unix.SockaddrInet4)
	address = netip.AddrPortFrom(netip.AddrFrom4(in4.Addr), uint16(in4.Port))
	for i := 0; i < 10; i++ {
		var conn net.Conn
		err := netns.Do(namespace, func() (err error) {
			ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
			defer cancel()
			conn, err = new(net.Dialer).DialContext(ctx, "tcp", address.String())
			return err
		})
		if err != nil {
			return address
		}
		t.Cleanup(func() { conn.Close() })
	}
	t.Fatal("it still hears")
	return address
}

// Threads returns how many threads the process has.
func Threads(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}
