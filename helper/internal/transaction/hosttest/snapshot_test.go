package hosttest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
	"testing"
	"time"

	"mobula/helper/internal/netns"
	"mobula/helper/internal/spec"
)

// snapshot is everything that the kernel says of the host's network, a line for
// each thing, by what was asked.
type snapshot struct {
	said map[string][]string
	// occupied: there is a namespace where the gateway's will be; leftover: a
	// plain file.
	occupied, leftover bool
}

// questions are asked of ip(8) at once, in the families' own words.
var questions = map[string][]string{
	"ip":    {"link show", "address show", "nexthop show", "neigh show nud permanent", "neigh show proxy", "maddress show"},
	"ip -4": {"route show table all", "rule show"},
	"ip -6": {"route show table all", "rule show", "addrlabel list", "token list"},
}

func look(t *testing.T) snapshot {
	t.Helper()
	s := snapshot{said: map[string][]string{}, occupied: netns.Exists(spec.Namespace), leftover: netns.Leftover(spec.Namespace)}
	for tool, lines := range questions {
		args := append(strings.Fields(tool)[1:], "-details", "-json", "-batch", "-")
		answers := json.NewDecoder(strings.NewReader(output(t, strings.Join(lines, "\n")+"\n", "ip", args...)))
		for _, line := range lines {
			var answer []any
			if err := answers.Decode(&answer); err != nil {
				t.Fatalf("%s %s: %v", tool, line, err)
			}
			s.said[tool+" "+line] = inOrder(t, answer)
		}
	}
	s.said["tc qdisc"] = lines(output(t, "", "tc", "qdisc", "show"))
	s.said["bridge fdb"] = lines(output(t, "", "bridge", "fdb", "show"))
	s.said["nft"] = lines(output(t, "", "nft", "--stateless", "list", "ruleset"))
	s.said["sysctl"] = settings(t)
	for _, of := range []string{"tc qdisc", "bridge fdb"} {
		sort.Strings(s.said[of])
	}
	return s
}

// settled looks until the kernel has done what it does a moment later: it gives a
// link that came up its own address, and says whether one works up to a second after
// its carrier came or went (linkwatch).
func settled(t *testing.T) snapshot {
	t.Helper()
	was := look(t)
	for deadline := time.Now().Add(5 * time.Second); ; {
		time.Sleep(100 * time.Millisecond)
		now := look(t)
		if was.difference(now) == "" && !unready(strings.Join(now.said["ip address show"], "\n")) || time.Now().After(deadline) {
			return now
		}
		was = now
	}
}

var linkFlags = regexp.MustCompile(`"flags":\[([^\]]*)\]`)

// unready tells whether an address is not checked yet, or the kernel has not heard of a
// link's carrier: one that is up has either LOWER_UP, its carrier, or NO-CARRIER, which
// ip(8) prints of one that is not running (RFC 2863 states, operstates.rst).
func unready(addresses string) bool {
	for _, m := range linkFlags.FindAllStringSubmatch(addresses, -1) {
		if strings.Contains(m[1], `"UP"`) && strings.Contains(m[1], `"LOWER_UP"`) == strings.Contains(m[1], `"NO-CARRIER"`) {
			return true
		}
	}
	return strings.Contains(addresses, "tentative")
}

func lines(text string) (all []string) {
	for _, line := range strings.Split(text, "\n") {
		if line = strings.TrimSpace(line); line != "" && !isJoined(line) {
			all = append(all, line)
		}
	}
	return all
}

// inOrder renders an answer. Of most things the order is that in which the kernel
// finds them. It means something among the addresses of a link, which are one
// thing here, and among routes to one destination, unless the kernel made them.
func inOrder(t *testing.T, answer []any) (all []string) {
	t.Helper()
	type line struct{ key, text string }
	var some []line
	for _, one := range answer {
		l := line{text: render(t, one)}
		l.key = l.text
		if v, ok := one.(map[string]any); ok && v["dst"] != nil && v["table"] != "local" && v["protocol"] != "kernel" {
			l.key = fmt.Sprint(v["table"], v["dst"], v["metric"])
		}
		some = append(some, l)
	}
	sort.SliceStable(some, func(i, j int) bool { return some[i].key < some[j].key })
	for _, l := range some {
		all = append(all, l.text)
	}
	return all
}

func output(t *testing.T, stdin, tool string, args ...string) string {
	t.Helper()
	var out, said bytes.Buffer
	cmd := exec.Command(tool, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &said
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %s: %v: %s", tool, strings.Join(args, " "), err, said.String())
	}
	return out.String()
}

// render writes one thing on one line, without what is not the host's doing.
func render(t *testing.T, value any) string {
	t.Helper()
	clean(value)
	data, err := json.Marshal(value) // maps in the order of their keys
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

const forever = float64(1<<32 - 1)

// clean removes what changes by itself: the kernel numbers other namespaces as
// it meets them, clocks run, counters count, and a link that never was without a
// carrier is of an unknown state before it is up.
func clean(value any) {
	switch v := value.(type) {
	case []any:
		for _, one := range v {
			clean(one)
		}
	case map[string]any:
		if groups, ok := v["maddr"].([]any); ok {
			v["maddr"] = static(groups)
		}
		for key, one := range v {
			life := key == "valid_life_time" || key == "preferred_life_time"
			switch {
			case key == "link_netnsid", strings.HasSuffix(key, "_timer"), key == "expires", key == "users",
				life && one != forever && one != float64(0):
				delete(v, key)
			case key == "operstate" && one == "UNKNOWN":
				v[key] = "UP"
			default:
				clean(one)
			}
		}
	}
}

// static returns the multicast addresses that somebody gave a link. The others the
// kernel joins by itself, which ones depends on when IPv6 came to the link.
func static(groups []any) (some []any) {
	for _, g := range groups {
		if v, ok := g.(map[string]any); ok && v["features"] == "static" {
			some = append(some, g)
		}
	}
	return some
}

// isJoined tells forwarding entries of such multicast addresses.
func isJoined(line string) bool {
	joined := strings.HasPrefix(line, "33:33:00:00:00:") || strings.HasPrefix(line, "33:33:ff:") || strings.HasPrefix(line, "01:00:5e:00:00:")
	return joined && strings.Contains(line, " self permanent")
}

// settings are all that can be read below /proc/sys/net, but for counters.
func settings(t *testing.T) (all []string) {
	t.Helper()
	const top = "/proc/sys/net"
	err := filepath.WalkDir(top, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		switch name := filepath.Base(path); {
		case strings.HasSuffix(name, "_count"), name == "stable_secret", strings.HasPrefix(path, top+"/mptcp"):
			return nil
		}
		if value, err := os.ReadFile(path); err == nil {
			all = append(all, strings.TrimPrefix(path, top+"/")+" = "+strings.TrimSpace(string(value)))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// difference tells what is other in now; "": nothing.
func (s snapshot) difference(now snapshot) string {
	var text strings.Builder
	var asked []string
	for question := range s.said {
		asked = append(asked, question)
	}
	sort.Strings(asked)
	for _, question := range asked {
		before, after := s.said[question], now.said[question]
		if strings.Join(before, "\n") == strings.Join(after, "\n") {
			continue
		}
		fmt.Fprintf(&text, "%s:\n", question)
		gone, come := without(before, after), without(after, before)
		if len(gone) == 1 && len(come) == 1 {
			gone[0], come[0] = apart(gone[0], come[0])
		}
		for _, line := range gone {
			fmt.Fprintf(&text, "- %s\n", line)
		}
		for _, line := range come {
			fmt.Fprintf(&text, "+ %s\n", line)
		}
		if len(gone)+len(come) == 0 {
			fmt.Fprintf(&text, "another order\n- %s\n+ %s\n", strings.Join(before, "\n- "), strings.Join(after, "\n+ "))
		}
	}
	return text.String()
}

// without returns the lines of a that b has not as often.
func without(a, b []string) (rest []string) {
	count := map[string]int{}
	for _, line := range b {
		count[line]++
	}
	for _, line := range a {
		if count[line]--; count[line] < 0 {
			rest = append(rest, line)
		}
	}
	return rest
}

// apart cuts off what two lines begin and end with alike.
func apart(a, b string) (string, string) {
	const context = 30
	from, to := 0, 0
	for from < min(len(a), len(b)) && a[from] == b[from] {
		from++
	}
	for to < min(len(a), len(b))-from && a[len(a)-1-to] == b[len(b)-1-to] {
		to++
	}
	from, to = max(0, from-context), max(0, to-context)
	return "…" + a[from:len(a)-to] + "…", "…" + b[from:len(b)-to] + "…"
}
