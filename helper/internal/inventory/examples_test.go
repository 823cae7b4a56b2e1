package inventory

import (
	"os"
	"regexp"
	"slices"
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
	out := mustCompile(t, Input{
		Resolved:       resolveExample(t, hosts),
		Sources:        []string{write(t, dir, "hosts.yml", hosts)},
		ExtraHostsFile: write(t, dir, "hosts", commented.ReplaceAllString(readExample(t, "extra_hosts.yml.example"), "$1$2")),
		ExtraWiresFile: write(t, dir, "wires", commented.ReplaceAllString(readExample(t, "extra_wires.yml.example"), "$1$2")),
		Resolver:       fakeResolver{"carol.example.net": {"198.51.100.3"}},
	})
	d := out.Document
	if len(d.Names) != 2 || len(d.Clients) != 1 || !strings.HasPrefix(string(d.Clients[0].PublicKey[:]), "EXAMPLE") {
		t.Errorf("%v, %v", d.Names, d.Clients)
	}
}

func TestReferenceListsTheVariables(t *testing.T) {
	content := readExample(t, "README.md")
	_, table, found := strings.Cut(content, "| variable | default | meaning | bounds |")
	if !found {
		t.Fatal("no table of variables")
	}
	table, _, _ = strings.Cut(table, "\n\n")
	var names []string
	for _, m := range regexp.MustCompile("(?m)^\\| `(\\w+)` \\|").FindAllStringSubmatch(table, -1) {
		names = append(names, m[1])
	}
	if !slices.Equal(names, variableNames()) {
		t.Errorf("the table has\n%v, the program\n%v", names, variableNames())
	}
	for _, figure := range []string{"1..32767", "51820", "1394..9216 bytes", "1500 until"} {
		if !strings.Contains(table, figure) {
			t.Errorf("the table lacks %q", figure)
		}
	}
}
