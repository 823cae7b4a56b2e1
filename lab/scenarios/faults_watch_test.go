//go:build lab

package scenarios

import (
	"bufio"
	"context"
	"strconv"
	"testing"
	"time"

	"mobula/lab"
)

// watch asks for a TCP connection with a host's sshd, ten times a second, at its
// public address from the deployer, whose kernel takes it back as soon as it is
// granted (RST): each one that begins would cost the host more than all that is
// tried there.
type watch struct {
	stop  func()
	lines chan time.Time
	seen  []time.Time
}

func (b *bed) watch(t *testing.T) *watch {
	t.Helper()
	ctx, cancel := context.WithCancel(b.ctx)
	cmd := lab.Command(ctx, b.Namespace(), "python3", "-uc", synEcho, b.host.Address)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	w := &watch{stop: cancel, lines: make(chan time.Time, 10000)}
	go func() {
		for s := bufio.NewScanner(out); s.Scan(); {
			if seconds, err := strconv.ParseFloat(s.Text(), 64); err == nil {
				w.lines <- time.UnixMicro(int64(seconds * 1e6))
			}
		}
		_ = cmd.Wait()
	}()
	return w
}

// synEcho prints the time of every SYN+ACK from port 22 of a host (RFC 9293).
const synEcho = `
import random, socket, struct, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
s.connect((sys.argv[1], 0))
addresses = socket.inet_aton(s.getsockname()[0]) + socket.inet_aton(sys.argv[1])
while True:
    port, until = random.randrange(20000, 30000), time.monotonic() + 0.1
    def syn(checksum):
        return struct.pack("!HHIIBBHHH", port, 22, random.Random(port).getrandbits(32), 0, 0x50, 2, 65535, checksum, 0)
    total = sum(struct.unpack("!16H", addresses + struct.pack("!HH", 6, 20) + syn(0)))
    total = (total >> 16) + (total & 0xffff)
    try:
        s.send(syn(~(total + (total >> 16)) & 0xffff))
    except OSError:
        pass
    while (left := until - time.monotonic()) > 0:
        s.settimeout(left)
        try:
            packet = s.recv(100)
        except OSError:
            continue
        tcp = packet[4 * (packet[0] & 15):]
        if tcp[:4] == struct.pack("!HH", 22, port) and tcp[13] == 0x12:
            print(time.time())`

func (w *watch) collect() {
	for {
		select {
		case at := <-w.lines:
			w.seen = append(w.seen, at)
		default:
			return
		}
	}
}

// forget takes the host for reachable now: what was before does not count.
func (w *watch) forget() {
	w.collect()
	w.seen = append(w.seen[:0], time.Now())
}

// longest returns the longest time without a greeting since then, up to now.
func (w *watch) longest(since time.Time) time.Duration {
	w.collect()
	last, most := since, time.Duration(0)
	if len(w.seen) > 0 && w.seen[0].After(last) {
		last = w.seen[0]
	}
	for _, at := range append(w.seen, time.Now()) {
		if at.After(since) && at.Sub(last) > most {
			most = at.Sub(last)
		}
		if at.After(last) {
			last = at
		}
	}
	return most
}
