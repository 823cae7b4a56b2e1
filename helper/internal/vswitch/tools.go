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

	"github.com/digitalocean/go-openvswitch/ovs"
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

// hungTimeout bounds a command after one that was not answered: many in a row must
// not add up to longer than a boot may take.
const hungTimeout = 2 * time.Second

// openFlow is the version spoken: the first that has bundles, which replace
// flows atomically (OpenFlow 1.4 section 6.9).
const openFlow = ovs.ProtocolOpenFlow14

// run returns what the tool writes to standard output.
func (t *tools) run(ctx context.Context, stdin io.Reader, name string, args ...string) ([]byte, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	limit := t.timeout
	if t.hangs && limit > hungTimeout {
		limit = hungTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &stdout, &stderr
	// ovs-ofctl finds bridges by name under OVS_RUNDIR.
	cmd.Env = append(os.Environ(), "OVS_RUNDIR="+t.runDir, "LC_ALL=C")
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	t.hangs = err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded)
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(stderr.String()))
	}
	return stdout.Bytes(), nil
}

// vsctl runs commands as one transaction of the database and waits until
// ovs-vswitchd has carried it out.
func (t *tools) vsctl(ctx context.Context, args ...string) ([]byte, error) {
	return t.run(ctx, nil, "ovs-vsctl", append([]string{"--db=unix:" + t.runDir + "/db.sock"}, args...)...)
}

// client returns a client of the library for one use: its options share a
// slice, and its functions know no context.
func (t *tools) client(ctx context.Context) *ovs.Client {
	return ovs.New(
		ovs.Protocols([]string{openFlow}),
		ovs.Exec(func(name string, args ...string) ([]byte, error) { return t.run(ctx, nil, name, args...) }),
		ovs.Pipe(func(stdin io.Reader, name string, args ...string) ([]byte, error) {
			return t.run(ctx, stdin, name, args...)
		}),
	)
}

// dumpFlows prints flows one a line. The library's own way asks for the
// counters too and fails on what it cannot parse.
func (t *tools) dumpFlows(ctx context.Context, bridge string, args ...string) ([]byte, error) {
	return t.ofctl(ctx, append([]string{"--no-names", "dump-flows", bridge}, args...)...)
}

func (t *tools) ofctl(ctx context.Context, args ...string) ([]byte, error) {
	return t.run(ctx, nil, "ovs-ofctl", append([]string{"--protocols=" + openFlow}, args...)...)
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
