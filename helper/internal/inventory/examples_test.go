package inventory

import (
	"encoding/base64"
	"os"
	"regexp"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

// top is the way to the top of the project.
const top = "../../../"

// resolveExample does to an inventory in YAML the little that Ansible would do
// to the examples.
func resolveExample(t *testing.T, content string) []byte {
	t.Helper()
	var file struct {
		All struct {
			Vars  vars            `yaml:"vars"`
			Hosts map[string]vars `yaml:"hosts"`
		} `yaml:"all"`
	}
	if err := yaml.Unmarshal([]byte(content), &file); err != nil {
		t.Fatal(err)
	}
	var hosts []vars
	for name, values := range file.All.Hosts {
		for variable, value := range file.All.Vars {
			values[variable] = value
		}
		hosts = append(hosts, vars{"name": name, "vars": values})
	}
	return resolvedHosts(hosts...)
}

func readExample(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(top + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestExamplesCompileAsTheyAre(t *testing.T) {
	out := mustCompile(t, Input{
		Resolved:       resolveExample(t, readExample(t, "hosts.yml.example")),
		ExtraHostsFile: top + "extra_hosts.yml.example",
		ExtraWiresFile: top + "extra_wires.yml.example",
	})
	d := out.Document
	if len(d.Hosts) != 3 || len(d.Names) != 1 || len(d.Clients) != 0 {
		t.Errorf("%d hosts, %d names, %d clients", len(d.Hosts), len(d.Names), len(d.Clients))
	}
}

// TestExamplesCompileUncommented holds what the comments show to be valid, too.
func TestExamplesCompileUncommented(t *testing.T) {
	// Those are entries, at the indentation at which they would stand.
	commented := regexp.MustCompile(`(?m)^( +)# ([\w./]+: (?:['\[\d]|true ).*)$`)
	dir := t.TempDir()
	hosts := commented.ReplaceAllString(readExample(t, "hosts.yml.example"), "$1$2")
	for _, v := range variableNames() {
		indent := map[bool]string{false: "      ", true: "    "}[strings.HasSuffix(v, "_network")] // of all hosts
		if !strings.Contains(hosts, "\n"+indent+v+": ") {
			t.Errorf("hosts.yml.example does not show %s", v)
		}
	}
	wires := commented.ReplaceAllString(readExample(t, "extra_wires.yml.example"), "$1$2")
	out := mustCompile(t, Input{
		Resolved:       resolveExample(t, hosts),
		Sources:        []string{write(t, dir, "hosts.yml", hosts)},
		ExtraHostsFile: write(t, dir, "hosts", commented.ReplaceAllString(readExample(t, "extra_hosts.yml.example"), "$1$2")),
		ExtraWiresFile: write(t, dir, "wires", strings.Replace(wires, base64.StdEncoding.EncodeToString([]byte(exampleKey)), testKey(1).String(), 1)),
		Resolver:       fakeResolver{"carol.example.net": {"198.51.100.3"}},
	})
	d := out.Document
	if len(d.Names) != 2 || len(d.Clients) != 1 || d.Clients[0].PublicKey != testKey(1) {
		t.Errorf("%v, %v", d.Names, d.Clients)
	}
	got := mustFail(t, dir, Input{Resolved: one(nil), ExtraWiresFile: write(t, dir, "wires", wires)})
	wantLines(t, got, []string{"wires:7: 10.30.128.1/32: key: found the key of the example, which is nobody's, wanted a key of your own (mobula client add makes one)"})
}
