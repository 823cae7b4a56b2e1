package main

import (
	"context"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"mobula/helper/internal/report"
)

// The escape sequences that clear a terminal, and make a text red.
const (
	clears = "\x1b[H\x1b[2J"
	red    = "\x1b[31m"
)

// written returns what is written to a file that is read at another one.
func written(from, to *os.File, write func()) string {
	all := make(chan string)
	go func() {
		b, _ := io.ReadAll(from) // a terminal ends with an error (EIO)
		all <- string(b)
	}()
	write()
	to.Close()
	return <-all
}

// TestColors: they are for terminals that show them, unless NO_COLOR is set; and nothing but a
// terminal is cleared, nor one that would show how.
func TestColors(t *testing.T) {
	pipe := func(t *testing.T) (from, to *os.File) {
		from, to, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { from.Close() })
		return from, to
	}
	file := func(t *testing.T) (from, to *os.File) {
		to, err := os.Create(t.TempDir() + "/out")
		if err != nil {
			t.Fatal(err)
		}
		return nil, to
	}
	for _, c := range []struct {
		what            string
		open            func(*testing.T) (from, to *os.File)
		noColor, term   string
		colors, cleared bool
	}{
		{"a terminal", openTerminal, "", "xterm", true, true},
		{"one of no known kind", openTerminal, "", "", true, true},
		{"without colors", openTerminal, "1", "xterm", false, true},
		{"a dumb one", openTerminal, "", "dumb", false, false},
		{"a pipe", pipe, "", "xterm", false, false},
		{"a file", file, "", "xterm", false, false},
	} {
		t.Run(c.what, func(t *testing.T) {
			t.Setenv("NO_COLOR", c.noColor)
			t.Setenv("TERM", c.term)
			once, _ := said(t, c.open, 0)
			again, times := said(t, c.open, time.Millisecond)
			if !c.cleared {
				times = 0
			}
			for _, text := range []string{once, again} {
				if !strings.Contains(text, "* bob is unreachable from alice") || strings.Contains(text, red) != c.colors {
					t.Errorf("found %q, wanted what is wrong, and colors: %v", text, c.colors)
				}
			}
			if strings.Contains(once, clears) || strings.Count(again, clears) != times {
				t.Errorf("found %q, and watched %q, wanted that the latter clears %d times", once, again, times)
			}
			if !c.colors && !c.cleared && strings.Contains(once+again, "\x1b") {
				t.Errorf("found %q and %q, wanted no escape sequences", once, again)
			}
		})
	}
}

// said returns what is said of the network to such a file, and how many times: with a pause twice
// or more.
func said(t *testing.T, open func(*testing.T) (from, to *os.File), pause time.Duration) (text string, times int) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	from, to := open(t)
	tell := func() {
		err := (&call{Context: ctx, stdout: to}).tellMesh(func() (*report.Mesh, error) {
			if times++; times == 2 {
				cancel()
			}
			return ofTwo()
		}, pause, false)
		if err != nil {
			t.Error(err)
		}
	}
	if from != nil {
		text = written(from, to, tell)
		return text, times
	}
	tell()
	to.Close()
	b, err := os.ReadFile(to.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(b), times
}
