// Package hosttest makes random but plausible hosts, each in network namespaces
// of its own, and has Mobula come to them and go: with the real survey, plan,
// transaction and drivers on the real kernel. Only Open vSwitch and systemd are
// stood in for.
//
// A host is its line: a seed, how its uplink gets out (a base), and what else
// there is (features). Features draw their details from the seed and their own
// name, so a line means the same host when others are added.
package hosttest

import (
	"bufio"
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"mobula/helper/internal/netns/netnstest"
)

// Variables of the test.
const (
	// wholeKernel: the kernel has all kinds of links, and what it refuses is an
	// error of this package. With onlyKinds, hosts that failed once are left out, which
	// any kernel does for. Otherwise features that need more than veth and
	// bridges are left out, and the WireGuard device is stood in for.
	wholeKernel = "MOBULA_HOSTS_WHOLE"
	onlyKinds   = "kinds"
	// seedsVariable is "first-last", of random hosts; without it there are none.
	seedsVariable = "MOBULA_HOSTS_SEEDS"
	// lineVariable is the only host to run.
	lineVariable = "MOBULA_HOSTS_LINE"
	// verdicts is the folder in which each host leaves what became of it.
	verdicts = "MOBULA_HOSTS_VERDICTS"
)

func whole() bool { return os.Getenv(wholeKernel) != "" }

//go:embed testdata/kept.txt
var kept string

//go:embed testdata/kinds.txt
var kinds string

// TestHosts runs the hosts that are kept in a file, and random ones. A host that
// failed goes into the file. To run one again:
//
//	MOBULA_HOSTS_LINE='17: classic + address label' go test -run TestHosts ./helper/internal/transaction/hosttest
func TestHosts(t *testing.T) {
	if os.Getenv(verdicts) == "" {
		dir := t.TempDir()
		if err := os.Setenv(verdicts, dir); err != nil { // for the processes of the hosts
			t.Fatal(err)
		}
		t.Cleanup(func() { summary(t, dir) })
	}
	for _, line := range hostLines(t) {
		h, err := parse(line)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(name(line), func(t *testing.T) {
			t.Parallel()
			if !netnstest.Alone(t) {
				return
			}
			v := try(t, h)
			if whole() && strings.HasPrefix(string(v), string(impossible)) && strings.Contains(kinds, "\n"+line+"\n") {
				t.Errorf("wanted a kernel that has all kinds of links: %s", v)
			}
			if err := os.WriteFile(filepath.Join(os.Getenv(verdicts), name(line)), []byte(v), 0o600); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// name is what go test calls the host.
func name(line string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, line)
}

func hostLines(t *testing.T) (lines []string) {
	t.Helper()
	if line := os.Getenv(lineVariable); line != "" {
		return []string{line}
	}
	first, last := 1, 0
	if s := os.Getenv(seedsVariable); s != "" {
		if _, err := fmt.Sscanf(s, "%d-%d", &first, &last); err != nil {
			t.Fatalf("%s: found %q, wanted FIRST-LAST", seedsVariable, s)
		}
	}
	seen := map[string]bool{}
	add := func(line string) {
		if !seen[name(line)] {
			seen[name(line)] = true
			lines = append(lines, line)
		}
	}
	always := kept
	switch os.Getenv(wholeKernel) {
	case "":
	case onlyKinds:
		always = kinds
	default:
		always += kinds
	}
	in := bufio.NewScanner(strings.NewReader(always))
	for in.Scan() {
		if line := strings.TrimSpace(in.Text()); line != "" && !strings.HasPrefix(line, "#") {
			add(line)
		}
	}
	for seed := first; seed <= last; seed++ {
		add(generate(int64(seed)))
	}
	return lines
}

// summary counts what became of the hosts. A generator of which nearly all hosts
// are refused, or none, proves nothing.
func summary(t *testing.T, dir string) {
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	count := map[verdict]int{}
	for _, f := range files {
		data, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		what, why, _ := strings.Cut(string(data), ": ")
		count[verdict(what)]++
		if verdict(what) == impossible {
			t.Logf("%s cannot be: %s", f.Name(), why)
		}
	}
	t.Logf("of %d hosts %d went there and back, %d were refused, and %d cannot be", len(files), count[carried], count[refused], count[impossible])
	generated := os.Getenv(wholeKernel) != onlyKinds // those are mostly what may not be
	if generated && len(files) >= 12 && (count[carried] < len(files)/5 || count[refused] == 0 || count[impossible] > len(files)/10) {
		t.Error("wanted many of both, and few that cannot be")
	}
}

// parse reads a host's line.
func parse(line string) (*host, error) {
	number, rest, found := strings.Cut(line, ":")
	seed, err := strconv.ParseInt(strings.TrimSpace(number), 10, 64)
	parts := strings.Split(rest, "+")
	if !found || err != nil || len(parts) == 0 {
		return nil, fmt.Errorf("host %q: wanted SEED: BASE + FEATURE + …", line)
	}
	h := &host{seed: seed, line: line}
	for i, part := range parts {
		from := features
		if i == 0 {
			from = bases
		}
		f, ok := find(from, strings.TrimSpace(part))
		if !ok {
			return nil, fmt.Errorf("host %q: found %q, wanted a base and features that exist", line, strings.TrimSpace(part))
		}
		h.has = append(h.has, f)
	}
	return h, nil
}

func find(all []feature, name string) (feature, bool) {
	for _, f := range all {
		if f.name == name {
			return f, true
		}
	}
	return feature{}, false
}
