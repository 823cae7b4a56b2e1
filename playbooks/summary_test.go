//go:build ansible

package playbooks_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// meshOf is what mobula status --mesh --json says of n hosts, whose addresses end in their IDs.
// Each of the exceptions is "A>B STATE": how A reaches B, up by a host as its ID; or "A STATE":
// that A does not answer.
func meshOf(n int, exceptions ...string) string {
	type way struct {
		To    int    `json:"to"`
		State string `json:"state"`
		Via   int    `json:"via,omitempty"`
	}
	type host struct {
		ID     int    `json:"host_id"`
		Name   string `json:"name"`
		Answer string `json:"answer"`
		Ways   []way  `json:"ways,omitempty"`
	}
	is := map[string]string{}
	for _, e := range exceptions {
		what, state, _ := strings.Cut(e, " ")
		is[what] = state
	}
	hosts, problems := []host{}, []map[string]any{}
	for a := 1; a <= n; a++ {
		h := host{ID: a, Name: fmt.Sprintf("h%d.example.com", a), Answer: "yes"}
		if state := is[fmt.Sprint(a)]; state != "" {
			h.Answer = state
			hosts = append(hosts, h)
			continue
		}
		for b := 1; b <= n; b++ {
			w := way{To: b, State: "up"}
			switch state := is[fmt.Sprintf("%d>%d", a, b)]; state {
			case "":
			case "down", "unknown":
				w.State = state
			default:
				fmt.Sscan(state, &w.Via)
			}
			if a != b {
				h.Ways = append(h.Ways, w)
			}
		}
		hosts = append(hosts, h)
	}
	if len(exceptions) > 0 {
		problems = append(problems, map[string]any{"severity": "poor", "hosts": []int{1}, "text": "a way is not as it should be"})
	}
	data, err := json.Marshal(map[string]any{"format": 1, "asked_by": 1, "ways": "all", "hosts": hosts, "problems": problems})
	if err != nil {
		panic(err)
	}
	return string(data)
}

const sumUp = "action_plugins/mobula_sum_up.py"

// summing gives what an expression of a plugin's functions is for each x, by the Python of
// Ansible.
func summing(t *testing.T, plugin, expression string, each []any, results any) {
	t.Helper()
	path, err := exec.LookPath("ansible-playbook")
	if err != nil {
		t.Fatal(err)
	}
	script, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(script), "\n")
	python := strings.Fields(strings.TrimPrefix(first, "#!"))
	const program = `import importlib.util, json, sys
spec = importlib.util.spec_from_file_location("plugin", sys.argv[2])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
print(json.dumps([eval(sys.argv[1], dict(vars(module)), {"x": x}) for x in json.load(sys.stdin)]))`
	asked, err := json.Marshal(each)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(python[0], append(python[1:], "-B", "-c", program, expression, plugin)...)
	cmd.Stdin, cmd.Stderr = bytes.NewReader(asked), os.Stderr
	out, err := cmd.Output()
	if err == nil {
		err = json.Unmarshal(out, results)
	}
	if err != nil {
		t.Fatalf("%s: %v, %s", expression, err, out)
	}
}

// TestWaysInFewWords: what the end of a deploy says of what one host says of all, and whether
// it is worth asking again: where hosts that were deployed do not reach each other.
func TestWaysInFewWords(t *testing.T) {
	t.Parallel()
	const more = " (playbooks/status.yml says more)"
	cases := []struct {
		mesh  string
		here  int // 0: all
		want  string
		again bool
	}{
		{mesh: meshOf(2), want: "192.0.2.1 and 192.0.2.2 reach each other"},
		{mesh: meshOf(4), want: "all 6 pairs reach each other"},
		{mesh: meshOf(4, "1>2 3", "2>1 3"), want: "all 6 pairs reach each other, 1 over 192.0.2.3" + more},
		{mesh: meshOf(4, "1>2 3", "2>1 4", "1>4 3"), want: "all 6 pairs reach each other, 2 over 192.0.2.3 and 192.0.2.4" + more},
		{mesh: meshOf(4, "1>2 down", "3>4 1"), want: "192.0.2.1 and 192.0.2.2 do not reach each other; the other 5 pairs reach each other, 1 over 192.0.2.1" + more, again: true},
		{mesh: meshOf(4, "2>1 unknown"), want: "of 1 pair it is not known yet; the other 5 pairs reach each other" + more, again: true},
		{mesh: meshOf(4, "4 unreachable", "1>4 down", "2>4 down", "3>4 down"), want: "192.0.2.4 is not reached by the others; the other 3 pairs reach each other" + more, again: true},
		{mesh: meshOf(4, "4 unreachable", "1>4 down", "2>4 down", "3>4 down"), here: 3, want: "192.0.2.4 is not reached by the others; the other 3 pairs reach each other" + more},
		{mesh: meshOf(4, "4 unreachable", "1>4 down", "2>4 3"), want: "192.0.2.1 and 192.0.2.4 do not reach each other; the other 5 pairs reach each other, 1 over 192.0.2.3" + more, again: true},
		{mesh: meshOf(3, "2 unreachable", "3 unreachable", "1>2 down", "1>3 down"), want: "192.0.2.2, 192.0.2.3 are not reached by 192.0.2.1" + more, again: true},
		{mesh: meshOf(4, "3 no", "4 no"), want: "of 1 pair it is not known yet; the other 5 pairs reach each other" + more},
		{mesh: meshOf(5, "1>2 down", "1>3 down", "1>4 down", "1>5 down"), want: "4 pairs do not reach each other; the other 6 pairs reach each other" + more, again: true},
	}
	all, ids := []string{}, map[string]int{}
	for i := 1; i <= 5; i++ {
		all, ids[address(i)] = append(all, address(i)), i
	}
	var asked []any
	for _, c := range cases {
		here := all
		if c.here > 0 {
			here = all[:c.here]
		}
		asked = append(asked, []any{json.RawMessage(c.mesh), ids, here})
	}
	var got [][2]any
	summing(t, sumUp, "ways(*x)", asked, &got)
	for i, c := range cases {
		if got[i] != [2]any{c.want, !c.again} {
			t.Errorf("%s: found %q, wanted %q, and to ask again: %v", c.mesh, got[i], c.want, c.again)
		}
	}
}

// TestDeedsInFewWords: hosts of a deploy by what was done to them.
func TestDeedsInFewWords(t *testing.T) {
	t.Parallel()
	type host map[string]any
	look := func(generation string) host {
		return host{"__mobula_look": host{"seen": host{"goarch": "amd64", "helper": "old"}, "report": host{"generation": generation}}}
	}
	made := func(h host, changes int) host {
		outcome, _ := json.Marshal(host{"changed": changes > 0, "operations": make([]string, changes), "names": []string{}})
		h["__mobula_made"] = host{"changed": changes > 0, "stdout": string(outcome)}
		return h
	}
	with := func(h host, name string, value any) host {
		h[name] = value
		return h
	}
	changed := host{"changed": true}
	many := host{}
	for i := 1; i <= 20; i++ {
		many[address(i)] = made(look("none"), 40+i)
	}
	for i := 21; i <= 27; i++ {
		many[address(i)] = made(look("77"), 0)
	}
	cases := []struct {
		hosts host
		want  string
	}{
		{host{"carol": made(look("77"), 12), "alice": made(look("77"), 0), "bob": made(look("77"), 0)}, "carol: 12 changes; alice, bob: unchanged"},
		{host{"h10": made(look("77"), 1), "h9": made(look("77"), 1)}, "h9, h10: 1 change"},
		{host{"alice": made(look("none"), 57), "bob": with(made(look("77"), 1), "__mobula_built", host{"stdout_lines": []string{"v1", "amd64 new"}})}, "alice: new, 57 changes; bob: 1 change, a new helper"},
		{host{"alice": with(made(look("77"), 1), "__mobula_taken", host{"checksums": host{"linux-amd64": "new"}})}, "alice: 1 change, a new helper"},
		{host{"alice": with(with(made(look("77"), 9), "__mobula_key", changed), "__mobula_rebooted", changed)}, "alice: 9 changes, a new key, rebooted"},
		{host{"alice": with(made(look("77"), 0), "__mobula_apt", changed)}, "alice: packages"},
		{host{"alice": with(look("77"), "__mobula_made", host{"changed": false, "stdout": `{"names": ["+ name"]}`})}, "alice: names"},
		{host{"alice": with(look("none"), "__mobula_made", host{"changed": false, "skipped": true})}, "alice: new"}, // --check
		{many, "20 hosts: new, 41 to 60 changes; 7 hosts: unchanged"},
	}
	var asked []any
	for _, c := range cases {
		asked = append(asked, c.hosts)
	}
	var got []string
	summing(t, sumUp, "done({name: deed(host) for name, host in x.items()})", asked, &got)
	for i, c := range cases {
		if got[i] != c.want {
			t.Errorf("found %q, wanted %q", got[i], c.want)
		}
	}
}

// TestReasonsOfMissingHosts: what SSH, the helper or a task said.
func TestReasonsOfMissingHosts(t *testing.T) {
	t.Parallel()
	const ssh = "Failed to connect to the host via ssh: ssh: connect to host 192.0.2.3 port 22: No route to host"
	cases := []struct{ registered, want string }{
		{`{"__mobula_look": {"unreachable": true, "msg": "` + ssh + `"}}`, "not reached: ssh: connect to host 192.0.2.3 port 22: No route to host"},
		{`{"__mobula_look": {"unreachable": false}, "__mobula_confirm": {"unreachable": true, "msg": "Task failed: ` + ssh + `"}}`, "not reached, so that it takes its change back: ssh: connect to host 192.0.2.3 port 22: No route to host"},
		{`{"__mobula_look": {"failed": true, "why": "found a processor armv6l", "msg": "the network of this host was not changed, the others go on: found a processor armv6l"}}`, "refused: found a processor armv6l"},
		{`{"__mobula_look": {"failed": false}, "__mobula_refusal": {"failed": true, "msg": ["the network of this host was not changed, the others go on", "nft: found none", "two"]}}`, "refused: nft: found none; two"},
		{`{"__mobula_made": {"failed": true, "msg": "mobula: exit status 1", "stdout": "", "stderr": "Warning: Permanently added 'x' (ED25519)\nmobula apply: found a document of 2025, wanted a newer one\nShared connection to x closed.\n"}}`, "failed: mobula apply: found a document of 2025, wanted a newer one"},
		{`{"__mobula_confirm": {"failed": true, "msg": "mobula: exit status 1", "stderr": "mobula confirm: rolled back"}}`, "not confirmed: mobula confirm: rolled back"},
		{`{"__mobula_rebooted": {"failed": true, "msg": "Timed out waiting for last boot time check"}, "other": {"failed": true}}`, "failed: Timed out waiting for last boot time check"},
		{`{"__mobula_look": null}`, "failed"},
	}
	var asked []any
	for _, c := range cases {
		asked = append(asked, json.RawMessage(c.registered))
	}
	var got []string
	summing(t, sumUp, "reason(x)", asked, &got)
	for i, c := range cases {
		if got[i] != c.want {
			t.Errorf("found %q, wanted %q", got[i], c.want)
		}
	}
}

// TestHostsOfAPhase: a few by their names, many by their number.
func TestHostsOfAPhase(t *testing.T) {
	t.Parallel()
	var got []string
	summing(t, "callback_plugins/mobula.py", "_hosts(x[0], x[1])", []any{
		[]any{[]string{"h10", "h9"}, 2}, []any{[]string{"h9"}, 2}, []any{[]string{}, 2},
		[]any{[]string{"a", "b", "c", "d", "e", "f"}, 6}, []any{[]string{"a", "b", "c", "d", "e", "f"}, 9},
	}, &got)
	if want := []string{"h9, h10", "h9", "no host", "6 hosts", "6 of 9 hosts"}; !slices.Equal(got, want) {
		t.Errorf("found %q, wanted %q", got, want)
	}
}
