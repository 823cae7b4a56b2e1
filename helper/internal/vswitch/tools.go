package vswitch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// tools runs ovs-vsctl and ovs-ofctl against the project's own instance, one at
// a time: the tools wait for the daemon, and who waits for whom stays clear.
type tools struct {
	mu      sync.Mutex
	runDir  string
	timeout time.Duration
	// hangs tells that the last command was not answered in time.
	hangs bool
}

// flowTime is what each flow of a bundle adds to how long a command may take: 100 times what
// one takes on a processor of some 3 GHz.
const flowTime = 5 * time.Millisecond

// hungTimeout bounds a command after one that was not answered: many in a row must
// not add up to longer than a boot may take.
const hungTimeout = 2 * time.Second

// openFlow is the version spoken: the first that has bundles, which replace
// flows atomically (OpenFlow 1.4 section 6.9).
const openFlow = "OpenFlow14"

// run returns what the tool writes to standard output. It may take as long as it writes,
// and has so much more time before it begins to.
func (t *tools) run(ctx context.Context, more time.Duration, stdin io.Reader, name string, args ...string) ([]byte, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	limit := t.within(more)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timer := time.AfterFunc(limit, func() { cancel(context.DeadlineExceeded) })
	defer timer.Stop()
	cmd := exec.CommandContext(ctx, name, args...)
	var stderr bytes.Buffer
	stdout := output{restart: func() { timer.Reset(limit) }}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &stdout, &stderr
	// ovs-ofctl finds bridges by name under OVS_RUNDIR.
	cmd.Env = append(os.Environ(), "OVS_RUNDIR="+t.runDir, "LC_ALL=C")
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	t.hangs = err != nil && errors.Is(context.Cause(ctx), context.DeadlineExceeded)
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(stderr.String()))
	}
	return stdout.text.Bytes(), nil
}

// within is how long an answer may take, which has so much more time. The caller holds mu.
func (t *tools) within(more time.Duration) time.Duration {
	if t.hangs {
		return min(t.timeout+more, hungTimeout)
	}
	return t.timeout + more
}

// output is what a tool writes, which restarts the clock that ends it.
type output struct {
	text    bytes.Buffer
	restart func()
}

// Write implements io.Writer.
func (o *output) Write(p []byte) (int, error) {
	o.restart()
	return o.text.Write(p)
}

// vsctl runs commands as one transaction of the database and waits until
// ovs-vswitchd has carried it out.
func (t *tools) vsctl(ctx context.Context, args ...string) ([]byte, error) {
	return t.run(ctx, 0, nil, "ovs-vsctl", append([]string{"--db=unix:" + t.runDir + "/db.sock"}, args...)...)
}

// bundle carries out lines of flows to add and to delete, all or none (OpenFlow 1.4 section
// 6.9). Each line has its time.
func (t *tools) bundle(ctx context.Context, bridge string, lines []string) error {
	_, err := t.run(ctx, time.Duration(len(lines))*flowTime, strings.NewReader(strings.Join(lines, "\n")+"\n"),
		"ovs-ofctl", "--bundle", "add-flow", "--protocols="+openFlow, bridge, "-")
	return err
}

// dumpFlows prints flows one a line.
func (t *tools) dumpFlows(ctx context.Context, bridge string, args ...string) ([]byte, error) {
	return t.ofctl(ctx, append([]string{"--no-names", "dump-flows", bridge}, args...)...)
}

func (t *tools) ofctl(ctx context.Context, args ...string) ([]byte, error) {
	return t.run(ctx, 0, nil, "ovs-ofctl", append([]string{"--protocols=" + openFlow}, args...)...)
}

// answers reports whether somebody listens on a socket. A daemon that was
// killed leaves its socket behind.
func answers(socket string) bool {
	// Where nobody listens that is known at once; a busy host needs its time.
	conn, err := net.DialTimeout("unix", socket, 10*time.Second)
	if err != nil {
		return false
	}
	leave(conn)
	return true
}

// leave closes a connection politely: one that is closed with something unread is a
// warning in the daemon's log.
func leave(conn net.Conn) {
	defer conn.Close()
	_ = conn.SetReadDeadline(time.Now().Add(time.Second))
	if unix, ok := conn.(*net.UnixConn); ok && unix.CloseWrite() == nil {
		_, _ = io.Copy(io.Discard, conn)
	}
}
