package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"mobula/helper/internal/network"
)

// asProgram has the test's program be mobula, for tests that run it as others do.
const asProgram = "MOBULA_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	os.Exit(m.Run())
}

// mobula runs the program in the test's process.
func mobula(stdin string, args ...string) (code int, stdout, stderr string) {
	var out, err bytes.Buffer
	code = run(context.Background(), args, strings.NewReader(stdin), &out, &err)
	return code, out.String(), err.String()
}

// everyCommand calls f with the words of each command and what the table says of it.
func everyCommand(f func(path []string, c command)) {
	for _, c := range commands() {
		f([]string{c.name}, c)
		for _, sub := range c.subcommands {
			f([]string{c.name, sub.name}, sub)
		}
	}
}

func TestEveryCommandHasHelp(t *testing.T) {
	_, list, _ := mobula("", "help")
	everyCommand(func(path []string, c command) {
		name := strings.Join(path, " ")
		t.Run(name, func(t *testing.T) {
			code, out, stderr := mobula("", append(path, "--help")...)
			if code != exitOK || stderr != "" || !strings.HasPrefix(out, "usage: mobula "+name) || !strings.Contains(out, strings.TrimSpace(c.help)) {
				t.Errorf("exit code %d\n%s\n%s", code, out, stderr)
			}
			if c.help == "" || c.summary == "" || c.example == "" {
				t.Error("says nothing")
			}
			for _, want := range []string{"\nflags:\n", "\nexit codes:\n   0  done\n", "\n  64  wrong usage\n", "\nexample:\n  "} {
				if !strings.Contains(out, want) {
					t.Errorf("no %q in\n%s", want, out)
				}
			}
			if code, same, _ := mobula("", append([]string{"help"}, path...)...); code != exitOK || same != out {
				t.Errorf("'mobula help %s': exit code %d\n%s", name, code, same)
			}
			if !c.hidden && len(path) == 1 && (!strings.Contains(list, "\n  "+c.name+" ") || !strings.Contains(list, c.summary)) {
				t.Errorf("'mobula help' does not list it:\n%s", list)
			}
			for _, line := range strings.Split(out, "\n") {
				if len(line) > 120 {
					t.Errorf("%d bytes in a line: %s", len(line), line)
				}
			}
			if c.name == "help" {
				return // which takes the names of commands
			}
			code, _, stderr = mobula("", append(path, "--no-such-flag")...)
			if code != exitUsage || stderr != "mobula "+name+": unknown flag: --no-such-flag\n'mobula help "+name+"' tells more\n" {
				t.Errorf("unknown flag: exit code %d, %s", code, stderr)
			}
			code, _, stderr = mobula("", append(path, "laptop", "surplus")[:len(path)+c.words+1]...)
			if code != exitUsage || !strings.HasPrefix(stderr, "mobula "+name+": found ") || !strings.HasSuffix(stderr, "\n'mobula help "+name+"' tells more\n") {
				t.Errorf("argument: exit code %d, %s", code, stderr)
			}
		})
	})
}

// TestExamplesAreUnderstood: what help shows has the flags that there are.
func TestExamplesAreUnderstood(t *testing.T) {
	everyCommand(func(_ []string, c command) {
		for _, line := range strings.Split(c.example, "\n") {
			line, _, _ = strings.Cut(line, " >")
			line, _, _ = strings.Cut(line, " |")
			words := strings.Fields(line)
			if words[0] == "systemctl" {
				continue
			}
			cmd, rest, err := tree(call{}).Find(words[1:])
			if words[0] != "mobula" || err != nil || cmd.ParseFlags(rest) != nil || cmd.ValidateArgs(cmd.Flags().Args()) != nil {
				t.Errorf("%s: found %q, %v, wanted what the command takes", c.name, line, err)
			}
		}
	})
}

func TestWrongUsage(t *testing.T) {
	for _, c := range []struct {
		args           string
		code           int
		stdout, stderr string // how they begin
	}{
		{"", exitUsage, "usage: mobula COMMAND", ""},
		{"help", exitOK, "usage: mobula COMMAND", ""},
		{"-h", exitOK, "usage: mobula COMMAND", ""},
		{"--help", exitOK, "usage: mobula COMMAND", ""},
		{"fly", exitUsage, "", "mobula: found command \"fly\", wanted one of agent, apply, boot, "},
		{"statsu", exitUsage, "", "mobula: found command \"statsu\", wanted one of agent, apply, boot, check, client, compile, completion, confirm, down, help, key, plan, repair, rollback, status, version; did you mean status?\n'mobula help' tells more\n"},
		{"help fly", exitUsage, "", "mobula help: found command \"fly\", wanted one of agent, "},
		{"help aply", exitUsage, "", "mobula help: found command \"aply\", wanted one of agent, apply, boot, check, client, compile, completion, confirm, down, help, key, plan, repair, rollback, status, version; did you mean apply?\n"},
		{"help client ad", exitUsage, "", "mobula help: found command \"ad\", wanted one of add, list, remove, rotate; did you mean add?\n"},
		{"client", exitUsage, "", "mobula client: found no command, wanted one of add, list, remove, rotate\n"},
		{"client rotat", exitUsage, "", "mobula client: found command \"rotat\", wanted one of add, list, remove, rotate; did you mean rotate?\n'mobula help client' tells more\n"},
		{"client add", exitUsage, "", "mobula client add: found 0 arguments, wanted NAME\n'mobula help client add' tells more\n"},
		{"completion tcsh", exitUsage, "", "mobula completion: found shell \"tcsh\", wanted bash, zsh or fish\n"},
		{"plan --host-id x", exitUsage, "", "mobula plan: --host-id: found \"x\", wanted a whole number, 65535 at most\n"},
		{"apply --confirm-timeout 5", exitUsage, "", "mobula apply: --confirm-timeout: found \"5\", wanted a duration such as 120s or 3m\n"},
		{"check --host --uplink-mode move --resolver x --access-address=auto", exitUsage, "",
			"mobula check: --uplink-mode: found \"move\", wanted moved or shared\n--resolver: found \"x\", wanted host or gateway\n'mobula help check' tells more\n"},
		{"check --host --upstream-dns x", exitUsage, "", "mobula check: --upstream-dns: found \"x\", wanted IPv4 addresses"},
		{"apply --document", exitUsage, "", "mobula apply: --document: found no value, wanted a text\n"},
		{"version", exitOK, "mobula unknown (built without git), ID ", ""},
		{"version --json", exitOK, "{\n  \"document_format\": 1,\n  \"id\": \"", ""},
	} {
		t.Run(c.args, func(t *testing.T) {
			code, stdout, stderr := mobula("", strings.Fields(c.args)...)
			if code != c.code || !strings.HasPrefix(stdout, c.stdout) || c.stdout == "" && stdout != "" || !strings.HasPrefix(stderr, c.stderr) || c.stderr == "" && stderr != "" {
				t.Errorf("exit code %d\n%s\n%s", code, stdout, stderr)
			}
		})
	}
}

func TestExitCodes(t *testing.T) {
	for _, c := range []struct {
		err    error
		code   int
		stderr string
	}{
		{nil, exitOK, ""},
		{errors.New("broken"), exitFailed, "mobula x: broken\n"},
		{exitError{code: exitDiffers}, exitDiffers, ""},
		{exitError{exitUsage, errors.New("wrong")}, exitUsage, "mobula x: wrong\n'mobula help x' tells more\n"},
		{fmt.Errorf("wrapped: %w", exitError{exitBusy, errors.New("busy")}), exitBusy, "mobula x: busy\n"},
	} {
		var stderr bytes.Buffer
		code := failed(&stderr, "mobula x", c.err)
		if code != c.code || stderr.String() != c.stderr {
			t.Errorf("%v: exit code %d, %q", c.err, code, stderr.String())
		}
	}
}

func TestLines(t *testing.T) {
	err := fmt.Errorf("in it: %w", errors.Join(errors.New("a"), errors.Join(errors.New("b"), errors.New("c"))))
	if got := strings.Join(lines(err), ","); got != "a,b,c" {
		t.Errorf("found %s", got)
	}
	if got := lines(nil); got == nil || len(got) != 0 {
		t.Errorf("found %v", got)
	}
}

// files is a deployer's folder.
type files struct {
	*testing.T
	dir string
}

func (f files) write(name, content string) string {
	f.Helper()
	path := filepath.Join(f.dir, name)
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		f.Fatal(err)
	}
	return path
}

// args are those that name the folder's files.
func (f files) args(more ...string) []string {
	return append(more, "--extra-hosts", filepath.Join(f.dir, "extra_hosts.yml"), "--extra-wires", filepath.Join(f.dir, "extra_wires.yml"),
		"--public-keys", filepath.Join(f.dir, "keys.yml"), "--state", filepath.Join(f.dir, "state.yml"))
}

const twoHosts = `{"inventory": {"hosts": [
 {"name": "192.0.2.1", "vars": {"host_id": 1, "hostname": "alice.example.com"}},
 {"name": "192.0.2.2", "vars": {"host_id": 2, "hostname": "bob.example.com", "confirm_timeout": "60s"}}]},
 "collected": {"192.0.2.1": {"public_key": "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "underlay_mtu": 1450}}}`

func TestCompile(t *testing.T) {
	f := files{t, t.TempDir()}
	f.write("extra_hosts.yml", "extra_hosts:\n  10.31.0.254: 'nas.example.com'\n")
	output := filepath.Join(f.dir, "network.json")
	code, stdout, stderr := mobula(twoHosts, f.args("compile", "--output", output)...)
	if code != exitOK || stderr != "" {
		t.Fatalf("exit code %d\n%s", code, stderr)
	}
	data, err := os.ReadFile(output)
	if err != nil {
		t.Fatal(err)
	}
	d, err := network.Parse(data)
	if err != nil || len(d.Hosts) != 2 || d.UnderlayMTU != 1450 || d.Hosts[0].PublicKey != (network.Key{1}) || len(d.Names) != 1 {
		t.Fatalf("%+v, %v", d, err)
	}
	var result compileOutput
	if err := json.Unmarshal([]byte(stdout), &result); err != nil {
		t.Fatal(err)
	}
	if result.Generation != d.Generation() || !result.KeysChanged || result.Hosts["192.0.2.2"] != (hostTask{2, "1m0s"}) || result.Warnings == nil {
		t.Errorf("%s", stdout)
	}
	// The same again changes nothing, with or without what the hosts report.
	for _, input := range []string{twoHosts, strings.Split(twoHosts, ` "collected"`)[0] + ` "collected": {}}`} {
		code, stdout, stderr = mobula(input, f.args("compile", "--output", output)...)
		again, _ := os.ReadFile(output)
		if code != exitOK || !strings.Contains(stdout, `"public_keys_changed": false`) || !bytes.Equal(again, data) {
			t.Errorf("again: exit code %d\n%s%s%s", code, stdout, stderr, again)
		}
	}
	if code, stdout, stderr = mobula("", "check", "--document", output); code != exitOK ||
		stdout != "nothing is wrong: 2 hosts, generation "+d.Generation()+"\n" {
		t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
	}
}

// TestPhasesOfARotation: compile has the keys of the phase, and check refuses one with which
// not every host would go on.
func TestPhasesOfARotation(t *testing.T) {
	f := files{t, t.TempDir()}
	output := filepath.Join(f.dir, "network.json")
	input := strings.Replace(twoHosts, `"underlay_mtu": 1450`, `"made_key": "AgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="`, 1)
	for phase, want := range map[string][]network.Key{"": {{2}}, "announce": {{1}, {2}}, "switch": {{2}, {1}}, "forget": {{2}}} {
		code, _, stderr := mobula(input, f.args("compile", "--output", output, "--phase", phase)...)
		data, _ := os.ReadFile(output)
		d, err := network.Parse(data)
		if code != exitOK || err != nil || !slices.Equal(d.Hosts[0].Keys(), want) {
			t.Errorf("phase %q: exit code %d, %v, %s\n%s, wanted %v", phase, code, err, stderr, data, want)
		}
	}
	for here, want := range map[string]string{`["192.0.2.1"]`: "left out by --limit: 192.0.2.2.", `["192.0.2.2", "192.0.2.1"]`: ""} {
		code, stdout, stderr := mobula(strings.TrimSuffix(twoHosts, "}")+`, "here": `+here+"}", f.args("check", "--json", "--phase", "switch")...)
		var report checkReport
		err := json.Unmarshal([]byte(stdout), &report)
		if problems := strings.Join(report.Problems, "\n"); err != nil || stderr != "" || (code == exitOK) != (want == "") || (problems == "") != (want == "") || !strings.Contains(problems, want) {
			t.Errorf("here %s: exit code %d, %v\n%s%s", here, code, err, stdout, stderr)
		}
	}
	if code, _, stderr := mobula(twoHosts, f.args("compile", "--phase", "swap")...); code != exitUsage || !strings.Contains(stderr, `--phase: found "swap", wanted announce or switch or forget`) {
		t.Errorf("exit code %d\n%s", code, stderr)
	}
}

func TestDryRunWritesNoKeys(t *testing.T) {
	f := files{t, t.TempDir()}
	code, _, stderr := mobula(twoHosts, f.args("compile", "--dry-run")...)
	entries, err := os.ReadDir(f.dir)
	if code != exitOK || len(entries) != 0 || err != nil {
		t.Errorf("exit code %d, %v\n%s", code, entries, stderr)
	}
}

func TestCheckSaysEverything(t *testing.T) {
	f := files{t, t.TempDir()}
	f.write("extra_wires.yml", "extra_wires:\n  10.30.0.9/32: 'x'\n")
	hosts := f.write("hosts.yml", "all:\n  hosts:\n    192.0.2.1:\n      host_id: 40000\n      hostname: 'alice'\n")
	input := `{"inventory": {"hosts": [{"name": "192.0.2.1", "vars": {"host_id": 40000, "hostname": "alice"}}]}}`
	const want = `mobula check: 3 problems, nothing was changed
extra_wires.yml:2: 10.30.0.9/32: key: found "x", not 32 bytes of base64, wanted a WireGuard public key (32 bytes of base64)
hosts.yml:4: 192.0.2.1: host_id: found 40000, wanted an integer in 1..32767
hosts.yml:5: 192.0.2.1: hostname: found "alice", wanted a fully qualified name such as alice.example.com
`
	code, stdout, stderr := mobula(input, f.args("check", "--source", hosts)...)
	if stderr = strings.ReplaceAll(stderr, f.dir+"/", ""); code != exitFailed || stdout != "" || stderr != want {
		t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
	}
	code, stdout, _ = mobula(input, f.args("check", "--json", "--source", hosts)...)
	var report checkReport
	if err := json.Unmarshal([]byte(stdout), &report); err != nil || code != exitFailed || len(report.Problems) < 3 || report.Warnings == nil {
		t.Errorf("exit code %d, %v\n%s", code, err, stdout)
	}
	output := filepath.Join(f.dir, "network.json")
	if code, _, _ = mobula(input, f.args("compile", "--output", output)...); code != exitFailed {
		t.Errorf("compile: exit code %d", code)
	}
	for _, path := range []string{output, filepath.Join(f.dir, "keys.yml")} {
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s was written", path)
		}
	}
}

func TestWrongInput(t *testing.T) {
	f := files{t, t.TempDir()}
	cut := f.write("cut.json", `{"format":1,`)
	cases := []struct {
		name, stdin string
		args        []string
		want        string
	}{
		{"no JSON", "hosts:", f.args("compile"), "mobula compile: standard input: invalid character"},
		{"nothing", "", f.args("check"), "mobula check: "},
		{"a document that is cut short", "", []string{"check", "--document", cut},
			"mobula check: 1 problems, nothing was changed\nnetwork document: cut short, wanted one whole JSON object\n"},
		{"a document on standard input", "{}", []string{"check", "--document", "-"},
			"mobula check: 1 problems, nothing was changed\nnetwork document: format: found 0, wanted 1\n"},
		{"a missing document", "", []string{"check", "--document", filepath.Join(f.dir, "none")}, "mobula check: 1 problems, nothing was changed\nopen "},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			code, stdout, stderr := mobula(c.stdin, c.args...)
			if code != exitFailed || !strings.HasPrefix(stderr, c.want) {
				t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
			}
		})
	}
}

// TestTypedInput holds that who forgets a flag, or what to read, is told at once.
func TestTypedInput(t *testing.T) {
	terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()
	for _, command := range []string{"check", "compile"} {
		var out, stderr bytes.Buffer
		code := run(context.Background(), []string{command}, terminal, &out, &stderr)
		if want := "mobula " + command + ": standard input: found a terminal, wanted "; code != exitUsage || out.Len() != 0 || !strings.HasPrefix(stderr.String(), want) {
			t.Errorf("exit code %d\n%s%s", code, &out, &stderr)
		}
	}
}
