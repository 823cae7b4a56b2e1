package netnstest

import (
	"io"
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mobula/helper/internal/netns"
)

// Private gives the test a copy of a directory, for programs that write in it.
func Private(t *testing.T, dir string) {
	t.Helper()
	copied := t.TempDir()
	if out, err := exec.Command("cp", "-a", dir+"/.", copied).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := unix.Mount(copied, dir, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
}

// Daemon runs a program beside the test in the named network namespace until ready
// succeeds there. It and its children end with the test, however that ends: their namespace
// does when the one that waits for input reads its end. The returned function ends it
// before. It is asked to end, as by systemd: firewalld leaves its rules behind when it is
// killed.
func Daemon(t *testing.T, namespace, program, ready string) (stop func()) {
	t.Helper()
	said, err := os.CreateTemp(t.TempDir(), "daemon")
	if err != nil {
		t.Fatal(err)
	}
	said.Close()
	cmd := exec.Command("unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", program+" >"+said.Name()+" 2>&1 </dev/null & read _; kill $!; wait $!")
	var input io.WriteCloser
	err = netns.Do(namespace, func() (err error) {
		if input, err = cmd.StdinPipe(); err != nil {
			return err
		}
		return cmd.Start()
	})
	if err != nil {
		t.Fatal(err)
	}
	stop = func() {
		input.Close()
		_ = cmd.Wait()
	}
	t.Cleanup(stop)
	isReady := func() (ok bool) {
		_ = netns.Do(namespace, func() error { ok = exec.Command("sh", "-c", ready).Run() == nil; return nil })
		return ok
	}
	for end := time.Now().Add(time.Minute); !isReady(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			log, _ := os.ReadFile(said.Name())
			t.Fatalf("%s: not ready:\n%s", program, log)
		}
	}
	return stop
}
