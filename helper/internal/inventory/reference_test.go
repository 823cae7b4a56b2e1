package inventory

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

var update = flag.Bool("update", false, "write docs/reference/variables.md anew")

// option is a variable in a role's meta/argument_specs.yml.
type option struct {
	name        string
	Type        string   `yaml:"type"`
	Elements    string   `yaml:"elements"`
	Required    bool     `yaml:"required"`
	Choices     []string `yaml:"choices"`
	Description []string `yaml:"description"`
}

type entryPoint struct {
	Short       string    `yaml:"short_description"`
	Description []string  `yaml:"description"`
	Options     yaml.Node `yaml:"options"`
}

// options are those of an entry point, in the order of the file.
func (e entryPoint) options(t *testing.T) (all []option) {
	t.Helper()
	for i := 0; i+1 < len(e.Options.Content); i += 2 {
		o := option{name: e.Options.Content[i].Value}
		if err := e.Options.Content[i+1].Decode(&o); err != nil {
			t.Fatal(err)
		}
		all = append(all, o)
	}
	return all
}

// readSpecs returns the entry points of all roles, by role.
func readSpecs(t *testing.T) map[string]map[string]entryPoint {
	t.Helper()
	paths, err := filepath.Glob(top + "roles/*/meta/argument_specs.yml")
	if err != nil || len(paths) == 0 {
		t.Fatalf("found %d roles with argument_specs, %v", len(paths), err)
	}
	all := map[string]map[string]entryPoint{}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var file struct {
			Specs map[string]entryPoint `yaml:"argument_specs"`
		}
		if err := yaml.Unmarshal(data, &file); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		all[filepath.Base(filepath.Dir(filepath.Dir(path)))] = file.Specs
	}
	return all
}

// say returns what the description of a variable says after a word such as "Default", or
// before all of them.
func (o option) say(word string) string {
	for _, d := range o.Description {
		switch before, after, found := strings.Cut(d, ": "); {
		case word == "" && (!found || before != "Default" && before != "Bounds"):
			return d
		case word != "" && found && before == word:
			return after
		}
	}
	return ""
}

// ofHosts returns the options of the role prepare_host that are variables of a host: not those
// of a deploy, which it shares with the role that checks the input.
func ofHosts(t *testing.T, specs map[string]map[string]entryPoint) (all []option) {
	t.Helper()
	deploy := specs["check_input"]["main"].options(t)
	for _, o := range specs["prepare_host"]["main"].options(t) {
		if !slices.ContainsFunc(deploy, func(other option) bool { return other.name == o.name }) {
			all = append(all, o)
		}
	}
	return all
}

var documentPath = regexp.MustCompile(`docs/([\w/-]+)\.md`)

// linked makes links of the paths of documents.
func linked(text string) string {
	return documentPath.ReplaceAllString(text, "[$1](../$1.md)")
}

// reference is docs/reference/variables.md.
func reference(t *testing.T, specs map[string]map[string]entryPoint) string {
	t.Helper()
	var b strings.Builder
	b.WriteString(`# Variables

<!-- Made of roles/*/meta/argument_specs.yml by
     go test ./helper/internal/inventory -run TestReference -update -->

## Of a host

Set them wherever Ansible looks for variables; all but the first two are optional. See
[files.md](files.md) for where they stand and how values are read.

| variable | default | meaning | bounds |
|---|---|---|---|
`)
	for _, o := range ofHosts(t, specs) {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", o.name, o.say("Default"), linked(o.say("")), o.say("Bounds"))
	}
	b.WriteString(`
## Of a deploy

Given with ` + "`-e`" + `, for this deploy alone; without them nothing of it happens.

| variable | meaning |
|---|---|
`)
	seen := map[string]bool{}
	for _, role := range []string{"check_input", "collect_keys", "apply_network"} {
		for _, o := range specs[role]["main"].options(t) {
			if !seen[o.name] {
				fmt.Fprintf(&b, "| `%s` | %s |\n", o.name, o.say(""))
			}
			seen[o.name] = true
		}
	}
	b.WriteString(`
## Roles

What the playbooks run, each with its entry points. Whoever writes playbooks of his own gives
them ` + "`playbooks/vars/shared.yml`" + `, as ` + "`playbooks/deploy.yml`" + ` does.

| role | entry point | what it does | variables |
|---|---|---|---|
`)
	for _, role := range sorted(specs) {
		for _, name := range sorted(specs[role]) {
			e := specs[role][name]
			fmt.Fprintf(&b, "| `%s` | `%s` | %s. %s | %s |\n", role, name, e.Short, strings.Join(e.Description, " "), e.variables(t, role))
		}
	}
	return b.String()
}

// variables are those of an entry point, in a cell of a table.
func (e entryPoint) variables(t *testing.T, role string) string {
	t.Helper()
	if role == "prepare_host" {
		return "those of a host, `mobula_release` (path)"
	}
	var all []string
	for _, o := range e.options(t) {
		kind := o.Type
		if len(o.Choices) > 0 {
			kind = strings.Join(o.Choices, ", ")
		}
		all = append(all, fmt.Sprintf("`%s` (%s)", o.name, kind))
	}
	return strings.Join(all, ", ")
}

func sorted[V any](all map[string]V) []string {
	names := make([]string, 0, len(all))
	for name := range all {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

// TestReferenceIsMadeOfTheRoles holds docs/reference/variables.md to the roles' specs.
func TestReferenceIsMadeOfTheRoles(t *testing.T) {
	const path = top + "docs/reference/variables.md"
	want := reference(t, readSpecs(t))
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got := readExample(t, "docs/reference/variables.md"); got != want {
		t.Errorf("docs/reference/variables.md is not what the roles' meta/argument_specs.yml say: run this test with -update")
	}
}

// TestSpecsHaveTheVariables holds the specs, and with them the reference, to what is read.
func TestSpecsHaveTheVariables(t *testing.T) {
	var names []string
	for _, o := range ofHosts(t, readSpecs(t)) {
		names = append(names, o.name)
		if o.Required != (o.name == "host_id" || o.name == "hostname") {
			t.Errorf("%s: required: %v", o.name, o.Required)
		}
		for _, word := range []string{"", "Default", "Bounds"} {
			if said := o.say(word); said == "" || strings.ContainsAny(said, "|\n") {
				t.Errorf("%s: found %q for %q, wanted a sentence for a cell of a table", o.name, said, word)
			}
		}
		if (o.Type == "list") != (o.Elements != "") {
			t.Errorf("%s: found type %q of elements %q", o.name, o.Type, o.Elements)
		}
		// Ansible takes null for a value that is none of them, and the helper for one that is not set.
		if len(o.Choices) > 0 {
			t.Errorf("%s: found choices, wanted them among the bounds: null is allowed", o.name)
		}
	}
	if !slices.Equal(names, variableNames()) {
		t.Errorf("the role prepare_host has\n%v, the program\n%v", names, variableNames())
	}
	var shared struct {
		Names []string `yaml:"mobula_host_variables"`
	}
	if err := yaml.Unmarshal([]byte(readExample(t, "playbooks/vars/shared.yml")), &shared); err != nil || !slices.Equal(shared.Names, variableNames()) {
		t.Errorf("playbooks/vars/shared.yml has\n%v, the program\n%v, %v", shared.Names, variableNames(), err)
	}
	table := readExample(t, "docs/reference/variables.md")
	for _, figure := range []string{"1..32767", "| 51820 |", "1394..9216 bytes", "1500 until", "| 120 |", "30 s to 1 h"} {
		if !strings.Contains(table, figure) {
			t.Errorf("the reference lacks %q", figure)
		}
	}
}

// TestRolesThatTakeAReleaseSaySo: mobula_release is an option of each role whose tasks use it.
func TestRolesThatTakeAReleaseSaySo(t *testing.T) {
	specs := readSpecs(t)
	for role := range specs {
		paths, err := filepath.Glob(top + "roles/" + role + "/tasks/*.yml")
		if err != nil {
			t.Fatal(err)
		}
		uses := slices.ContainsFunc(paths, func(path string) bool {
			return strings.Contains(readExample(t, strings.TrimPrefix(path, top)), "__mobula_release")
		})
		says := slices.ContainsFunc(specs[role]["main"].options(t), func(o option) bool { return o.name == "mobula_release" })
		if uses != says {
			t.Errorf("%s: found that its tasks use mobula_release: %v, and that it is an option: %v", role, uses, says)
		}
	}
}

// TestEveryEntryPointHasASpec: one that Ansible does not know is not checked, and not
// documented.
func TestEveryEntryPointHasASpec(t *testing.T) {
	specs := readSpecs(t)
	want := map[string]bool{}
	roles, err := filepath.Glob(top + "roles/*/tasks/main.yml")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range roles {
		want[filepath.Base(filepath.Dir(filepath.Dir(path)))+" main"] = true
	}
	call := regexp.MustCompile(`name: (\w+)\n +tasks_from: (\w+)`)
	for _, pattern := range []string{"playbooks/*.yml", "roles/*/tasks/*.yml"} {
		paths, err := filepath.Glob(top + pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			for _, m := range call.FindAllStringSubmatch(readExample(t, strings.TrimPrefix(path, top)), -1) {
				want[m[1]+" "+m[2]] = true
			}
		}
	}
	got := map[string]bool{}
	for role, entries := range specs {
		for name := range entries {
			got[role+" "+name] = true
		}
	}
	if a, b := sorted(got), sorted(want); !slices.Equal(a, b) {
		t.Errorf("found specs of\n%v, wanted them of\n%v", a, b)
	}
}
