// Package systemtest has the part of a host for tests that systemd and the network
// managers are: it holds state, and files below a directory.
package systemtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"mobula/helper/internal/spec"
	"mobula/helper/internal/system"
)

// Machine answers what system.System runs. The host has the network
// managers that Managers names.
type Machine struct {
	// Root is the directory in which the host's files are.
	Root     string
	Managers []spec.Manager
	Uplink   string
	// Executable reports whether there is a program; all links are resolved.
	Executable func(path string) bool
	// Namespace reports whether the named network namespace stands.
	Namespace func(name string) bool
	// Links are those of the host's own namespace, Addresses those of one of them.
	Links     func() []string
	Addresses func(link string) ([]netip.Prefix, error)
	// Release is what becomes of a link whose manager is told to leave it alone, Take of
	// the NIC when its manager has it again.
	Release, Take func(link string)
	// Stopped is called when a unit has ended.
	Stopped func()

	contents  map[string]content // of files, as they were when last read
	loaded    map[string]string  // units as systemd has read them, by path
	running   map[string]int     // by unit, with the main process
	lastPID   int
	unmanaged map[spec.Manager][]string // by manager: which links it has read to leave alone
}

// System returns the machine that stands below a system.System. What it writes is
// not kept from a power cut of the machine that runs the tests.
func (m *Machine) System() system.Machine {
	return system.Machine{Root: m.Root, Run: m.Run, WriteFile: writeFile, Addresses: m.Addresses, Log: slog.New(slog.NewTextHandler(io.Discard, nil))}
}

func writeFile(path string, data []byte, mode fs.FileMode) error {
	if err := os.WriteFile(path+".new", data, mode); err != nil {
		return err
	}
	return errors.Join(os.Chmod(path+".new", mode), os.Rename(path+".new", path))
}

// At is where a file of the host is.
func (m *Machine) At(path string) string { return filepath.Join(m.Root, path) }

// Put writes a file of the host, as a careless hand does: nobody reads it again.
func (m *Machine) Put(path, content string, mode fs.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(m.At(path)), 0o755); err != nil {
		return err
	}
	return writeFile(m.At(path), []byte(content), mode)
}

// content is a file's, which is read again only if the file is another one.
type content struct {
	info fs.FileInfo
	text string
}

// Content returns that of a file of the host; "" for none.
func (m *Machine) Content(path string) string {
	info, err := os.Stat(m.At(path))
	if err != nil {
		return ""
	}
	have := m.contents[path]
	if have.info == nil || !os.SameFile(have.info, info) || have.info.ModTime() != info.ModTime() || have.info.Size() != info.Size() {
		data, _ := os.ReadFile(m.At(path))
		have.text = string(data)
	}
	if have.info = info; m.contents == nil {
		m.contents = map[string]content{}
	}
	m.contents[path] = have
	return have.text
}

// Run implements system.Commands.
func (m *Machine) Run(ctx context.Context, name string, args ...string) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	out, problem, err := "", "", error(nil)
	m.forgetLinks()
	switch {
	case name == "systemctl" && len(args) > 0:
		out, problem = m.systemctl(args[0], args[1:])
	case name == "networkctl" && strings.Join(args, " ") == "reload" && m.has(spec.Networkd):
		m.reads(spec.Networkd)
	case name == "nmcli" && m.has(spec.NetworkManager):
		out, problem = m.nmcli(args)
	case name == "ifquery" && m.has(spec.Ifupdown) && len(args) == 2 && args[1] == "--list":
		for _, line := range strings.Split(m.Content("/etc/network/interfaces"), "\n") {
			if list, ok := strings.CutPrefix(line, "auto "); ok {
				out += strings.ReplaceAll(list, " ", "\n") + "\n"
			}
		}
	case name == "ifquery" && m.has(spec.Ifupdown) && len(args) == 2:
		known := false
		if out, known = m.stanza(args[1]); !known {
			problem = "no such interface" // ifquery(8): exits with 1
		}
	case name == "env" && len(args) > 0:
		m.hook(args[:len(args)-1], args[len(args)-1])
	default:
		err = exec.ErrNotFound
	}
	if problem != "" {
		err = &exec.ExitError{Stderr: []byte(problem)}
	}
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, problem)
	}
	return out, nil
}

func (m *Machine) has(manager spec.Manager) bool {
	for _, one := range m.Managers {
		if one == manager {
			return true
		}
	}
	return false
}
