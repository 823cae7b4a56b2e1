package inventory

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strings"

	"gopkg.in/yaml.v3"
)

// Ansible reads YAML 1.1, in which 010 is 8, 53:53 is 3233 and yes is true. What
// it hands over is the value alone; here is what stands in the files.

// resolutions are those of plain scalars that Ansible's parser makes something
// else of than what is written, tried in this order
// (https://yaml.org/type/int.html, float.html, timestamp.html; PyYAML's resolver.py).
var resolutions = []struct {
	kind    string
	pattern *regexp.Regexp
}{
	{"", regexp.MustCompile(`^(0|-?[1-9][0-9]*)$`)}, // as everybody reads it
	{"a binary number", regexp.MustCompile(`^[-+]?0b[01_]+$`)},
	{"an octal number", regexp.MustCompile(`^[-+]?0[0-7_]+$`)},
	{"a hexadecimal number", regexp.MustCompile(`^[-+]?0x[0-9a-fA-F_]+$`)},
	{"a number to the base of 60", regexp.MustCompile(`^[-+]?([1-9][0-9_]*(:[0-5]?[0-9])+|[0-9][0-9_]*(:[0-5]?[0-9])+\.[0-9_]*)$`)},
	{"a number with a sign or underscores", regexp.MustCompile(`^[-+]?(0|[1-9][0-9_]*)$`)},
	{"a fraction", regexp.MustCompile(`^([-+]?[0-9][0-9_]*\.[0-9_]*([eE][-+][0-9]+)?|\.[0-9][0-9_]*([eE][-+][0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$`)},
	{"a date", regexp.MustCompile(`^[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt \t].*)?$`)},
}

var truthValue = regexp.MustCompile(`^(yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF)$`)

// misread returns what Ansible takes a scalar for, "" if it is what is written.
func misread(n *yaml.Node) string {
	if n.Kind != yaml.ScalarNode || n.Style&^yaml.FlowStyle != 0 { // quoted, a block, or tagged
		return ""
	}
	// Most values of a large inventory are names and addresses.
	if a, err := netip.ParseAddr(n.Value); err == nil && a.Is4() {
		return ""
	}
	if n.Value == "" || !strings.ContainsRune("+-.0123456789", rune(n.Value[0])) {
		if truthValue.MatchString(n.Value) {
			return "a truth value"
		}
		return ""
	}
	for _, r := range resolutions {
		if r.pattern.MatchString(n.Value) {
			return r.kind
		}
	}
	return ""
}

// literals reports the values of Mobula's variables, anywhere in the sources, that
// Ansible reads as something else than what is written.
func (s *sources) literals() {
	hosts := make([]string, 0, len(s.hosts))
	for host := range s.hosts {
		hosts = append(hosts, host)
	}
	sort.Strings(hosts)
	for _, host := range hosts {
		for _, b := range s.hosts[host] {
			s.literalsOf(b.file, host, b.vars)
		}
	}
	for _, g := range s.groupVars {
		s.literalsOf(g.file, "", g.vars)
	}
}

func (s *sources) literalsOf(file, host string, vars *yaml.Node) {
	for _, p := range pairs(follow(vars)) {
		if p.key.Value == "<<" {
			s.mergedLiterals(file, host, p.value)
			continue
		}
		for _, v := range variables {
			if v.name != p.key.Value {
				continue
			}
			value := follow(p.value)
			items := []*yaml.Node{value}
			if value.Kind == yaml.SequenceNode {
				items = value.Content
			}
			for _, item := range items {
				s.literal(file, host, v.name, follow(item))
			}
		}
	}
}

// isMisread reports that everything is said already about a host's field.
func (s *sources) isMisread(host, field string) bool {
	if s.misread[subject{host, field}] {
		return true
	}
	_, own := s.ownVariable(host, field)
	return !own && s.misread[subject{"", field}]
}

// mergedLiterals looks into what a merge key (<<) takes over, once.
func (s *sources) mergedLiterals(file, host string, n *yaml.Node) {
	n = follow(n)
	if s.merged[n] {
		return
	}
	s.merged[n] = true
	if n.Kind == yaml.SequenceNode {
		for _, item := range n.Content {
			s.mergedLiterals(file, host, item)
		}
		return
	}
	s.literalsOf(file, host, n)
}

// isTruth are the variables that are true or false.
var isTruth = map[string]bool{"preshared_keys": true, "open_firewall": true, "map_for_guests": true, "metrics": true, "metrics_per_peer": true}

func (s *sources) literal(file, host, field string, n *yaml.Node) {
	kind := misread(n)
	if kind == "" || kind == "a truth value" && isTruth[field] {
		return
	}
	want := "the text in quotes"
	if kind != "a truth value" {
		want = "a plain decimal number, or " + want
	}
	s.misread[subject{host, field}] = true
	s.problems.add(Problem{file, n.Line, host, field, fmt.Sprintf("%s, which Ansible reads as %s", cut(n.Value, maxShown), kind), want})
}

// iniAssignment is where one of Mobula's variables gets a value in an INI inventory.
// Ansible reads such a value as Python does (ast.literal_eval), quoted or not.
var iniAssignment = regexp.MustCompile(`(?:^|\s)(` + strings.Join(variableNames(), "|") + `)\s*=\s*["']?([^\s"'#]+)`)

// pythonNumber is what Python reads as another number than what is written. 010 is
// none to Python, and stays a text.
var pythonNumber = regexp.MustCompile(`^[-+]?(0[xX][0-9a-fA-F_]+|0[oO][0-7_]+|0[bB][01_]+|[0-9]+(_[0-9]+)+)$`)

// iniLiterals is literals for an INI inventory.
func (s *sources) iniLiterals(path string, data []byte) {
	for i, line := range strings.Split(string(data), "\n") {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		for _, m := range iniAssignment.FindAllStringSubmatch(line, -1) {
			if pythonNumber.MatchString(m[2]) {
				s.problems.add(Problem{path, i + 1, "", m[1], cut(m[2], maxShown) + ", which Ansible reads as another number", "a plain decimal number"})
			}
		}
	}
}

// variableFiles reads group_vars and host_vars beside an inventory source, which
// count for more than what stands in it.
func (s *sources) variableFiles(source string) {
	dir := source
	if info, err := os.Stat(source); err != nil || strings.Contains(source, ",") {
		return
	} else if !info.IsDir() {
		dir = filepath.Dir(source)
	}
	for _, kind := range []string{"group_vars", "host_vars"} {
		entries, err := os.ReadDir(filepath.Join(dir, kind))
		if err != nil {
			continue // Ansible passes over it, too
		}
		for _, e := range entries {
			owner := ""
			if kind == "host_vars" {
				owner = trimEnding(e.Name())
			}
			s.variableFile(filepath.Join(dir, kind, e.Name()), owner, 0)
		}
	}
}

// variableEndings are those of files with variables (YAML_FILENAME_EXTENSIONS of
// ansible-config(1)), beside none.
var variableEndings = []string{".yml", ".yaml", ".json"}

func trimEnding(name string) string {
	if ending := filepath.Ext(name); slices.Contains(variableEndings, ending) {
		return strings.TrimSuffix(name, ending)
	}
	return name
}

// variableFile notes the variables in a file, or in all files of a directory. What
// cannot be read is Ansible's to complain about.
func (s *sources) variableFile(path, host string, depth int) {
	name := filepath.Base(path)
	info, err := os.Stat(path)
	if err != nil || s.read[path] || depth > maxDirectoryDepth || name[0] == '.' || strings.HasSuffix(name, "~") {
		return
	}
	s.read[path] = true
	if info.IsDir() {
		entries, _ := os.ReadDir(path)
		for _, e := range entries {
			s.variableFile(filepath.Join(path, e.Name()), host, depth+1)
		}
		return
	}
	data, problem := readFile(path)
	if problem != nil || strings.HasPrefix(string(data), "$ANSIBLE_VAULT;") {
		return
	}
	root, problem := parseYAML(path, data)
	switch {
	case problem != nil || root == nil:
	case host == "":
		s.groupVars = append(s.groupVars, groupVars{path, root})
	default:
		s.hosts[host] = append(s.hosts[host], hostBlock{place{path, 1}, root})
	}
}
