package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// whatToCollect runs on each host; a command that is not there only says so.
const whatToCollect = `exec 2>&1
show() { echo; echo "== $*"; "$@" || true; }
show systemctl --failed --no-pager
show mobula status
show ip -details address
show ip rule
show ip route show table all
show ip netns exec mobula ip -details address
show ip netns exec mobula ip route show table all
show ip netns exec mobula wg show
show ip netns exec mobula nft list ruleset
show nft list ruleset
show ip netns exec mobula ovs-vsctl --db=unix:/run/mobula/ovs/db.sock show
show dmesg
show journalctl -b --no-pager`

// Logs collects into dir what explains a failure: consoles, journals, the state of the network
// on each host and of the lab itself. The end of each journal goes to summary as well.
func (l *Lab) Logs(ctx context.Context, dir string, summary io.Writer) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	state, err := l.Deployer(ctx, "", nil, "sh", "-c", "ip -d addr; bridge fdb; nft list ruleset; cat "+l.queryLog())
	errs := []error{err, os.WriteFile(filepath.Join(dir, "lab.txt"), []byte(state), 0o644)}
	errs = append(errs, l.EachHost(func(h *Host) error { return h.logs(ctx, dir) }))
	for _, h := range l.Hosts {
		for _, name := range []string{h.Name + ".txt", h.Name + ".serial.log"} {
			data, _ := os.ReadFile(filepath.Join(dir, name))
			lines := strings.Split(strings.TrimSpace(string(data)), "\n")
			if len(lines) > 20 {
				lines = lines[len(lines)-20:]
			}
			fmt.Fprintf(summary, "---- %s, the end of %s\n%s\n", h.Name, name, strings.Join(lines, "\n"))
		}
	}
	return errors.Join(errs...)
}

func (h *Host) logs(ctx context.Context, dir string) error {
	serial, err := os.ReadFile(h.SerialLog())
	errs := []error{err, os.WriteFile(filepath.Join(dir, h.Name+".serial.log"), serial, 0o644)}
	attempt, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	state, err := h.Run(attempt, whatToCollect)
	if err != nil && h.Running() {
		// The network is gone: that is when the logs are wanted most.
		slow, cancel := context.WithTimeout(ctx, 2*time.Minute)
		defer cancel()
		state, err = h.Console(slow, whatToCollect)
	}
	errs = append(errs, err, os.WriteFile(filepath.Join(dir, h.Name+".txt"), []byte(state), 0o644))
	return errors.Join(errs...)
}
