package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"mobula/helper/internal/healing"
	"mobula/helper/internal/report"
	"mobula/helper/internal/spec"
	"mobula/helper/internal/store"
)

// meshPath is the socket on which the agent tells what all hosts say.
func meshPath() string { return filepath.Join(spec.AgentDir, "mesh.sock") }

// watchPause is between two looks at the whole network.
const watchPause = 2 * time.Second

const meshHelp = `
With --mesh the agents of all hosts are asked, within 10 seconds: what is wrong and what to
do, then the way of each host to each other one where that fits into the terminal, else the
ways that are not direct and well; where and when administrators' clients came in last; and
whose generation or version differs. --json says the same, and has the private names
(docs/mesh.schema.json). --watch does so every two seconds until it is interrupted.
Colors are for terminals, and not if NO_COLOR is set.`

// meshFlags are those of status that are about the whole network.
type meshFlags struct{ mesh, watch *bool }

func (c *call) meshFlags() meshFlags {
	return meshFlags{c.flags.Bool("mesh", false, "ask all hosts how the network is"), c.flags.Bool("watch", false, "with --mesh: ask again and again")}
}

// refuse is for flags that say something else of this host alone.
func (f meshFlags) refuse() error {
	if *f.mesh || *f.watch {
		return exitError{exitUsage, errors.New("found --mesh with --quick or --compare, wanted one of them: these are about this host alone")}
	}
	return nil
}

func (c *call) meshStatus(f meshFlags, asJSON bool) error {
	if !*f.mesh {
		return exitError{exitUsage, errors.New("found --watch without --mesh")}
	}
	pause := time.Duration(0)
	if *f.watch {
		pause = watchPause
	}
	return c.tellMesh(func() (*report.Mesh, error) { return healing.ReadMesh(c, meshPath()) }, pause, asJSON)
}

// tellMesh prints what read returns: once, or again after each pause.
func (c *call) tellMesh(read func() (*report.Mesh, error), pause time.Duration, asJSON bool) error {
	watch := pause > 0
	for first := true; ; first = false {
		m, err := read()
		switch {
		case watch && err != nil && c.Err() != nil: // interrupted
			return nil
		case err != nil && (first || !watch):
			return fmt.Errorf("asking this host's agent about the network: %w (see journalctl -u %s)", err, spec.UnitAgent)
		case err == nil:
			m.Judge()
		}
		if err := c.printMesh(m, err, watch, asJSON); err != nil || !watch {
			return err
		}
		select {
		case <-c.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

// printMesh prints one look; a watched terminal is cleared before it.
func (c *call) printMesh(m *report.Mesh, problem error, watch, asJSON bool) error {
	if asJSON && problem != nil {
		fmt.Fprintf(c.stderr, "mobula status: %v\n", problem)
		return nil
	}
	if asJSON && watch { // one a line
		return json.NewEncoder(c.stdout).Encode(m)
	}
	if asJSON {
		return c.printJSON(m)
	}
	width, terminal := terminalWidth(c.stdout)
	obeys := terminal && os.Getenv("TERM") != "dumb" // escape sequences
	if watch && obeys {
		fmt.Fprint(c.stdout, "\x1b[H\x1b[2J") // ECMA-48: home, and erase
	}
	if watch {
		fmt.Fprintln(c.stdout, time.Now().Format(time.DateTime))
	}
	if problem != nil {
		_, err := fmt.Fprintf(c.stdout, "this host's agent does not answer: %v\n", problem)
		return err
	}
	return report.Render(c.stdout, m, report.Options{Width: width, Color: obeys && os.Getenv("NO_COLOR") == ""}) // no-color.org
}

// defaultWidth is that of what is no terminal and says nothing, in columns.
const defaultWidth = 80

// terminalWidth returns how many columns there are for what is written, by COLUMNS if it is
// no terminal.
func terminalWidth(w io.Writer) (columns int, terminal bool) {
	if file, ok := w.(*os.File); ok {
		if size, err := unix.IoctlGetWinsize(int(file.Fd()), unix.TIOCGWINSZ); err == nil {
			if size.Col == 0 {
				return defaultWidth, true
			}
			return int(size.Col), true
		}
	}
	if n, err := strconv.Atoi(os.Getenv("COLUMNS")); err == nil && n > 0 {
		return n, false
	}
	return defaultWidth, false
}

// hostProblems are what a host's agent says of it when other hosts ask.
func hostProblems(s *store.Store) []string {
	pending, err := s.Pending()
	if err != nil || pending == nil {
		return nil
	}
	if pending.Down {
		return []string{"Mobula's removal waits for confirmation"}
	}
	return []string{"generation " + pending.Generation() + " waits for confirmation"}
}
