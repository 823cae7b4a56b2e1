package system

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"time"

	"mobula/helper/internal/store"
)

// Commands runs a program and returns its output; the error has that, too.
type Commands func(ctx context.Context, name string, args ...string) (string, error)

// Machine is what System looks at and changes.
type Machine struct {
	// Root is in front of all paths; "" outside of tests.
	Root string
	Run  Commands
	// WriteFile replaces a file in one step.
	WriteFile func(path string, data []byte, mode fs.FileMode) error
	// Addresses returns those of a link of the host's own namespace.
	Addresses func(link string) ([]netip.Prefix, error)
	// Log has what failed and stops nothing.
	Log *slog.Logger
}

// thisHost is the real one.
var thisHost = Machine{Run: output, WriteFile: store.WriteFile, Addresses: addressesOf, Log: slog.New(slog.NewTextHandler(os.Stderr, nil))}

func addressesOf(link string) ([]netip.Prefix, error) {
	nic, err := net.InterfaceByName(link)
	if err != nil {
		return nil, err
	}
	found, err := nic.Addrs()
	var all []netip.Prefix
	for _, a := range found {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			all = append(all, p)
		}
	}
	return all, err
}

func (m Machine) run(ctx context.Context, name string, args ...string) error {
	_, err := m.Run(ctx, name, args...)
	return err
}

func (m Machine) systemctl(ctx context.Context, args ...string) error {
	return m.run(ctx, "systemctl", args...)
}

// active reports that a unit runs.
func (m Machine) active(ctx context.Context, unit string) bool {
	return m.systemctl(ctx, "is-active", "--quiet", unit) == nil
}

// Active reports that a unit runs.
func Active(ctx context.Context, unit string) bool { return thisHost.active(ctx, unit) }

func systemctl(ctx context.Context, args ...string) error { return run(ctx, "systemctl", args...) }

func run(ctx context.Context, name string, args ...string) error {
	return thisHost.run(ctx, name, args...)
}

func output(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.WaitDelay = time.Second // what a killed script has started may hold its output
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return string(out), nil
}
