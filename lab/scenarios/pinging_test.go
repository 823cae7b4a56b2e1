//go:build lab

package scenarios

import (
	"bufio"
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"strconv"
	"testing"
	"time"

	"mobula/lab"
)

// answer is what ping(8) with -D prints of an answer: when it came, which packet it is
// for, and how long it took.
var answer = regexp.MustCompile(`^\[(\d+\.\d+)\].* icmp_seq=(\d+) ttl=\d+ time=([0-9.]+) ms`)

// pinging sends packets to an address from outside the hosts, a second's fifth apart. What
// it returns ends that when a packet that was sent afterwards has been answered, and says
// which of those before it were not: what is on its way when ping ends is not lost.
func (w *world) pinging(t *testing.T, address string) (ended func() (sent int, missing []int, err error)) {
	t.Helper()
	return pingingBy(t, lab.Command(w.ctx, w.Namespace(), "ping", "-D", "-i", "0.2", address))
}

// pingingBy is pinging with a command that runs ping(8).
func pingingBy(t *testing.T, ping *exec.Cmd) (ended func() (sent int, missing []int, err error)) {
	t.Helper()
	out, err := ping.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := ping.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ping.Process.Kill() })
	answered := map[int]bool{}
	until := make(chan time.Time, 1)
	result := make(chan error, 1)
	go func() { result <- readAnswers(out, answered, until) }()
	return func() (sent int, missing []int, err error) {
		until <- time.Now()
		patience := time.AfterFunc(15*time.Second, func() { _ = ping.Process.Kill() })
		err = <-result
		patience.Stop()
		_ = ping.Process.Kill()
		_ = ping.Wait()
		for number := range answered {
			sent = max(sent, number)
		}
		for number := 1; number < sent; number++ {
			if !answered[number] {
				missing = append(missing, number)
			}
		}
		return sent, missing, err
	}
}

// readAnswers notes the answers until one has come to what was sent after the end.
func readAnswers(out io.Reader, answered map[int]bool, until <-chan time.Time) error {
	end := time.Now().Add(24 * time.Hour)
	for lines := bufio.NewScanner(out); lines.Scan(); {
		m := answer.FindStringSubmatch(lines.Text())
		if m == nil {
			continue
		}
		number, _ := strconv.Atoi(m[2])
		answered[number] = true
		came, _ := strconv.ParseFloat(m[1], 64)
		took, _ := strconv.ParseFloat(m[3], 64)
		select {
		case end = <-until:
		default:
		}
		if time.UnixMicro(int64(came*1e6 - took*1e3)).After(end) {
			return nil
		}
	}
	return fmt.Errorf("nothing that was sent afterwards was answered within 15 s")
}
