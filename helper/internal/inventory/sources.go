package inventory

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// sources knows where hosts and their variables stand in the YAML files among
// the inventory sources. Ansible has read them; this is only to say where.
type sources struct {
	problems *collection
	read     map[string]bool
	// hosts are the places where a host stands, in the order of the files.
	hosts map[string][]hostBlock
	// groupVars are the mappings of variables of groups.
	groupVars []groupVars
	visited   map[*yaml.Node]bool
	// merged are the nodes that a merge key took over and that were looked at.
	merged map[*yaml.Node]bool
	// misread are the fields that Ansible reads as something else than what is
	// written; no host: those of a group.
	misread map[subject]bool
}

// hostBlock is one place where a host stands.
type hostBlock struct {
	place
	vars *yaml.Node // may be nil
}

type groupVars struct {
	file string
	vars *yaml.Node
}

// readSources reads inventory sources as they were given with -i. What is not a
// YAML file (INI, a script, a list of hosts) is passed over.
func readSources(paths []string, problems *collection) *sources {
	s := &sources{
		problems: problems,
		read:     map[string]bool{},
		hosts:    map[string][]hostBlock{},
		visited:  map[*yaml.Node]bool{},
		merged:   map[*yaml.Node]bool{},
		misread:  map[subject]bool{},
	}
	for _, path := range paths {
		s.source(path, 0)
	}
	for _, path := range paths {
		s.variableFiles(path)
	}
	s.literals()
	return s
}

// ignoredEndings are those of files that Ansible passes over in a directory
// (INVENTORY_IGNORE_EXTS of ansible-config(1)).
var ignoredEndings = []string{".pyc", ".pyo", ".swp", ".bak", "~", ".rpm", ".md", ".txt", ".rst", ".orig", ".cfg", ".retry", ".ini"}

// maxDirectoryDepth bounds the descent into directories.
const maxDirectoryDepth = 16

func (s *sources) source(path string, depth int) {
	info, err := os.Stat(path)
	if err != nil || s.read[path] || depth > maxDirectoryDepth {
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !strings.Contains(path, ",") {
			s.problems.add(*unreadable(path, err))
		}
		return
	}
	s.read[path] = true
	switch {
	case info.IsDir():
		s.directory(path, depth)
	case info.Mode().IsRegular():
		s.file(path, info.Mode()&0o111 != 0)
	}
}

func (s *sources) directory(path string, depth int) {
	entries, err := os.ReadDir(path)
	if err != nil {
		s.problems.add(*unreadable(path, err))
		return
	}
	for _, e := range entries {
		name := e.Name()
		if name[0] == '.' || name == "host_vars" || name == "group_vars" || name == "vars_plugins" {
			continue
		}
		if slices.ContainsFunc(ignoredEndings, func(ending string) bool { return strings.HasSuffix(name, ending) }) {
			continue
		}
		s.source(filepath.Join(path, name), depth+1)
	}
}

func (s *sources) file(path string, executable bool) {
	ending := filepath.Ext(path)
	named := ending == ".yml" || ending == ".yaml" || ending == ".json"
	if !named && executable {
		return
	}
	data, problem := readFile(path)
	if problem != nil {
		if named {
			s.problems.add(*problem)
		}
		return
	}
	if bytes.HasPrefix(data, []byte("#!")) || bytes.HasPrefix(data, []byte("$ANSIBLE_VAULT;")) {
		return
	}
	if !named && (ending != "" || !looksLikeYAML(data)) {
		s.iniLiterals(path, data)
		return
	}
	s.decode(path, data)
}

// yamlStart is how the first significant line of a YAML inventory looks, and
// never one of an INI inventory.
var yamlStart = regexp.MustCompile(`^(---(\s.*)?|\{.*|["']?[\w.-]+["']?:(\s+[#&!{].*)?)$`)

// looksLikeYAML judges a file without an extension.
func looksLikeYAML(data []byte) bool {
	for len(data) > 0 {
		line, rest, _ := bytes.Cut(data, []byte("\n"))
		line = bytes.TrimRight(line, " \t\r")
		if len(line) > 0 && line[0] != '#' {
			return yamlStart.Match(line)
		}
		data = rest
	}
	return false
}

func (s *sources) decode(path string, data []byte) {
	root, problem := parseYAML(path, data)
	if problem != nil {
		// The parser is stricter than JSON about tabs; Ansible is not.
		if !json.Valid(data) {
			s.problems.add(*problem)
		}
		return
	}
	if root == nil {
		return
	}
	reportDuplicates(s.problems, path, root, "")
	s.groups(path, root)
}

// follow returns what an alias stands for.
func follow(n *yaml.Node) *yaml.Node {
	if n != nil && n.Kind == yaml.AliasNode {
		return n.Alias // never an alias itself: an anchor cannot stand on one
	}
	return n
}

// visit returns the entries of a mapping the first time, however often aliases
// lead to it, and nothing after that.
func (s *sources) visit(n *yaml.Node) []pair {
	n = follow(n)
	if s.visited[n] {
		return nil
	}
	s.visited[n] = true
	return pairs(n)
}

// groups notes the hosts of all groups of a mapping.
func (s *sources) groups(path string, n *yaml.Node) {
	for _, group := range s.visit(n) {
		for _, section := range s.visit(group.value) {
			value := follow(section.value)
			switch section.key.Value {
			case "children":
				s.groups(path, value)
			case "vars":
				s.groupVars = append(s.groupVars, groupVars{path, value})
			case "hosts":
				for _, host := range s.visit(value) {
					block := hostBlock{place{path, host.key.Line}, follow(host.value)}
					s.hosts[host.key.Value] = append(s.hosts[host.key.Value], block)
				}
			}
		}
	}
}

// host returns where a host stands first.
func (s *sources) host(name string) place {
	if blocks := s.hosts[name]; len(blocks) > 0 {
		return blocks[0].place
	}
	return place{}
}

// ownVariable returns where a variable stands in the host's own block. Ansible
// lets the last one count.
func (s *sources) ownVariable(host, field string) (place, bool) {
	blocks := s.hosts[host]
	for i := len(blocks) - 1; i >= 0; i-- {
		if line := keyLine(blocks[i].vars, field); line > 0 {
			return place{blocks[i].file, line}, true
		}
	}
	return place{}, false
}

// groupVariable returns where a variable stands among those of any group.
func (s *sources) groupVariable(field string) (place, bool) {
	for _, g := range s.groupVars {
		if line := keyLine(g.vars, field); line > 0 {
			return place{g.file, line}, true
		}
	}
	return place{}, false
}

// keyLine returns the line of a key of a mapping, 0 if it is not there.
func keyLine(n *yaml.Node, key string) int {
	for _, p := range pairs(n) {
		if p.key.Kind == yaml.ScalarNode && p.key.Value == key {
			return p.key.Line
		}
	}
	return 0
}
