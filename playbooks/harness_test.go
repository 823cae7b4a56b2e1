//go:build ansible

// Package playbooks_test runs the playbooks with the real Ansible. Hosts are
// folders: ssh(1) and the helper are replaced by scripts (testdata) that note
// what happens in which order; the network itself is the lab's business.
package playbooks_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mobula/lab"
)

// deployer is an operator's folder and the hosts that can be reached from there.
type deployer struct {
	*testing.T
	dir   string // the project
	hosts string // a folder a host
	tools string // what stands in for programs
	env   []string
}

// helper is the real one, built once for all tests.
var helper string

func TestMain(m *testing.M) {
	code := 1
	defer func() { os.Exit(code) }()
	dir, err := os.MkdirTemp("", "mobula-playbooks")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	defer os.RemoveAll(dir)
	helper = filepath.Join(dir, "mobula")
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", helper, "../helper/cmd/mobula")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "%v\n%s", err, out)
		return
	}
	code = m.Run()
}

// newDeployer makes n hosts, 192.0.2.1 and on, that Mobula can work on and that
// have no network yet.
func newDeployer(t *testing.T, n int) *deployer {
	t.Helper()
	t.Parallel()
	d := &deployer{T: t, dir: filepath.Join(t.TempDir(), "mobula"), hosts: t.TempDir()}
	if err := lab.CopyProject(context.Background(), "..", d.dir); err != nil {
		t.Fatal(err)
	}
	tools, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	d.tools = tools
	d.env = append(os.Environ(), "PATH="+tools+":"+os.Getenv("PATH"), "FAKE_HOSTS="+d.hosts,
		"FAKE_HELPER="+filepath.Join(tools, "helper"), "FAKE_DEPLOYER_HELPER="+helper,
		// Files travel through the same command; only one of the tests is about sudo.
		"ANSIBLE_SSH_TRANSFER_METHOD=piped", "ANSIBLE_NOCOLOR=1", "ANSIBLE_CONFIG=", "HOME="+t.TempDir(), "GOFLAGS=")
	var names []string
	for i := 1; i <= n; i++ {
		name := address(i)
		names = append(names, name)
		d.put(name, "key", key(i))
		d.report(name, "")
	}
	d.inventory("", names...)
	return d
}

func address(n int) string { return fmt.Sprintf("192.0.2.%d", n) }

// key is a public key that is different for each n in 1..9.
func key(n int) string { return fmt.Sprintf("%dAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", n) }

// put writes a file of a host.
func (d *deployer) put(host, name, content string) {
	d.Helper()
	path := filepath.Join(d.hosts, host, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644)); err != nil {
		d.Fatal(err)
	}
}

// read returns a file of a host, or of all hosts; "" if there is none.
func (d *deployer) read(path ...string) string {
	data, err := os.ReadFile(filepath.Join(append([]string{d.hosts}, path...)...))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		d.Fatal(err)
	}
	return string(data)
}

// report says what the helper says of a host that has no network yet.
func (d *deployer) report(host, problem string) {
	d.Helper()
	d.reportOf(host, "", problem)
}

// reportOf is report for one that has a key.
func (d *deployer) reportOf(host, key, problem string) {
	d.Helper()
	problems, generation := "[]", "none"
	if problem != "" {
		problems = `["` + problem + `"]`
	}
	if key != "" {
		generation = "0123456789abcdef"
	}
	d.put(host, "report.json", `{"problems": `+problems+`, "warnings": [], "missing_packages": [], "underlay_mtu": 1500, "uplink": "eth0", "public_key": "`+key+`", "generation": "`+generation+`"}`+"\n")
}

// inventory writes hosts.yml, with all: vars: beside those of SSH.
func (d *deployer) inventory(vars string, hosts ...string) {
	d.Helper()
	var b strings.Builder
	b.WriteString("all:\n  hosts:\n")
	for _, name := range hosts {
		id := name[strings.LastIndexByte(name, '.')+1:]
		fmt.Fprintf(&b, "    %s:\n      host_id: %s\n      hostname: 'h%s.example.com'\n", name, id, id)
	}
	b.WriteString("  vars:\n    ansible_user: root\n    ansible_ssh_retries: 0\n" + vars)
	d.write("hosts.yml", b.String())
}

// write puts a file into the operator's folder.
func (d *deployer) write(name, content string) {
	d.Helper()
	if err := os.WriteFile(filepath.Join(d.dir, name), []byte(content), 0o644); err != nil {
		d.Fatal(err)
	}
}

// folder makes one in the operator's folder.
func (d *deployer) folder(name string) {
	d.Helper()
	if err := os.MkdirAll(filepath.Join(d.dir, name), 0o755); err != nil {
		d.Fatal(err)
	}
}

// play runs a playbook and returns what it says, with the line breaks of messages
// taken out.
func (d *deployer) play(playbook string, args ...string) (string, error) {
	d.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 8*time.Minute)
	defer cancel()
	// Apart, so that a deploy that goes wrong cannot change this machine.
	cmd := exec.CommandContext(ctx, "testdata/apart", append([]string{filepath.Join(d.hosts, "deployer"), "ansible-playbook", "-i", "hosts.yml", playbook}, args...)...)
	cmd.Path = filepath.Join(d.tools, "apart")
	cmd.Dir, cmd.Env, cmd.WaitDelay = d.dir, d.env, 5*time.Second
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// mustSay holds that a play ended in an error, or not, and said all of the texts.
func (d *deployer) mustSay(out string, err error, failed bool, texts ...string) {
	d.Helper()
	if (err != nil) != failed {
		d.Errorf("error %v, wanted one: %v\n%s", err, failed, out)
	}
	for _, text := range texts {
		if !strings.Contains(out, text) {
			d.Errorf("it does not say %q\n%s", text, out)
		}
	}
}

// deployed are the hosts whose change was confirmed, by their names.
func (d *deployer) deployed() string {
	entries, err := os.ReadDir(d.hosts)
	if err != nil {
		d.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() && d.read(e.Name(), "confirmed") != "" {
			names = append(names, e.Name())
		}
	}
	return strings.Join(names, " ")
}

// order is what the hosts' helpers were asked, one after the other.
func (d *deployer) order() string {
	var asked []string
	for _, line := range strings.Split(strings.TrimSpace(d.read("order")), "\n") {
		if what, _, _ := strings.Cut(line, " "); what != "ssh" {
			asked = append(asked, what)
		}
	}
	return strings.Join(asked, " ")
}
