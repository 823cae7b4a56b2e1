package inventory

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// Bounds in bytes of what is read.
const (
	maxFileBytes = 16 << 20
	// maxBisectBytes is the size up to which the line of a syntax error is
	// found by parsing prefixes of the file.
	maxBisectBytes = 1 << 20
)

// maxBisectTime bounds the search too: some broken input takes the parser long.
const maxBisectTime = 2 * time.Second

// readFile returns the content of a file, without a byte order mark. A file
// that does not exist or has no path is found to be absent, which is no problem.
func readFile(path string) (data []byte, problem *Problem) {
	if path == "" {
		return nil, nil
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, unreadable(path, err)
	}
	defer f.Close()
	data, err = io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return nil, unreadable(path, err)
	}
	return checkText(path, data)
}

// unreadable says why a file cannot be read; the path is said by the Problem.
func unreadable(path string, err error) *Problem {
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		err = pathError.Err
	}
	return &Problem{File: path, Found: fmt.Sprintf("no way to read it (%v)", err), Want: "a readable file"}
}

// innerMark is a byte order mark that begins a line and not the file. The parser skips
// it, and may lose the character after it.
var innerMark = regexp.MustCompile("(?:^|[\\r\\n\u0085\u2028\u2029])\ufeff")

// checkText refuses what is too large or not UTF-8, and returns the text without its
// byte order mark.
func checkText(path string, data []byte) ([]byte, *Problem) {
	if len(data) > maxFileBytes {
		return nil, &Problem{File: path, Found: fmt.Sprintf("more than %d MiB", maxFileBytes>>20), Want: "a smaller file"}
	}
	if bytes.HasPrefix(data, []byte("\xff\xfe")) || bytes.HasPrefix(data, []byte("\xfe\xff")) {
		return nil, &Problem{File: path, Line: 1, Found: "UTF-16", Want: "UTF-8"}
	}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	if !utf8.Valid(data) {
		at := 0
		for r, size := utf8.DecodeRune(data); r != utf8.RuneError || size > 1; r, size = utf8.DecodeRune(data[at:]) {
			at += size
		}
		line := 1 + bytes.Count(data[:at], []byte("\n"))
		return nil, &Problem{File: path, Line: line, Found: fmt.Sprintf("the byte 0x%02x", data[at]), Want: "UTF-8"}
	}
	if at := innerMark.FindIndex(data); at != nil {
		line := 1 + bytes.Count(data[:at[1]], []byte("\n"))
		return nil, &Problem{File: path, Line: line, Found: "a byte order mark (U+FEFF)", Want: "at most one, and at the beginning of the file"}
	}
	return data, nil
}

// parseYAML returns the root of the one YAML document in data, nil if there is
// none or it is null. Aliases are not followed, tags are not interpreted.
func parseYAML(path string, data []byte) (*yaml.Node, *Problem) {
	documents, err := parseAll(data)
	if err != nil {
		return nil, syntaxProblem(path, data, err)
	}
	switch {
	case len(documents) > 1:
		second := documents[1]
		return nil, &Problem{File: path, Line: second.Line, Found: "a second YAML document", Want: "one document a file"}
	case len(documents) == 0 || len(documents[0].Content) == 0:
		return nil, nil
	}
	root := documents[0].Content[0]
	if isNull(root) {
		return nil, nil
	}
	return root, nil
}

// parseAll returns the first documents in data, at most two, and parses all.
// The parser is known to panic on some broken input; that is an error too.
func parseAll(data []byte) (documents []*yaml.Node, err error) {
	defer func() {
		if r := recover(); r != nil {
			documents, err = nil, fmt.Errorf("the YAML parser gave up: %v", r)
		}
	}()
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	for {
		node := new(yaml.Node)
		switch err := decoder.Decode(node); {
		case errors.Is(err, io.EOF):
			return documents, nil
		case err != nil:
			return nil, err
		case len(documents) < 2:
			documents = append(documents, node)
		}
	}
}

// yamlErrorPrefix is what yaml.v3 puts before the cause of a syntax error. Its
// line is often that of the enclosing mapping, so it is replaced.
var yamlErrorPrefix = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

// syntaxProblem describes why data is not YAML.
func syntaxProblem(path string, data []byte, err error) *Problem {
	reason := err.Error()
	p := &Problem{File: path, Want: "valid YAML"}
	if m := yamlErrorPrefix.FindStringSubmatch(reason); m != nil {
		reason = reason[len(m[0]):]
		p.Line, _ = strconv.Atoi(m[1]) // 0 when there is none
	}
	p.Found = "what is not YAML (" + reason + ")"
	lines := bytes.SplitAfter(data, []byte("\n"))
	if len(data) <= maxBisectBytes {
		if line, found := failingLine(lines, time.Now().Add(maxBisectTime)); found {
			p.Line = line
		}
	}
	if p.Line < 1 || p.Line > len(lines) {
		return p
	}
	text := strings.TrimRight(string(lines[p.Line-1]), "\r\n")
	indentation := text[:len(text)-len(strings.TrimLeft(text, " \t"))]
	if strings.Contains(indentation, "\t") {
		p.Found, p.Want = "a tab in the indentation", "spaces"
	} else if text = strings.TrimSpace(text); text != "" {
		p.Found = fmt.Sprintf("%q (%s)", cut(text, maxShown), reason)
	}
	return p
}

// failingLine returns the number of the line at which lines stop being YAML:
// the last one before which everything still parses. Inside a construct of
// several lines no prefix parses, so a failing prefix is believed only if longer
// ones, at growing distances, fail too. It finds nothing after the deadline.
func failingLine(lines [][]byte, deadline time.Time) (line int, found bool) {
	all := bytes.Join(lines, nil)
	end := make([]int, len(lines)+1)
	for i, line := range lines {
		end[i+1] = end[i] + len(line)
	}
	parses := func(n int) bool {
		_, err := parseAll(all[:end[n]])
		return err == nil
	}
	good, bad := 0, len(lines)
	for bad-good > 1 {
		middle := good + (bad-good)/2
		found := false
		for n, step := middle, 1; n < bad && !found; n, step = n+step, step*2 {
			if parses(n) {
				good, found = n, true
			}
			if time.Now().After(deadline) {
				return 0, false
			}
		}
		if !found {
			bad = middle
		}
	}
	return bad, true
}

// isNull reports an absent or null value.
func isNull(n *yaml.Node) bool {
	return n == nil || n.Kind == 0 || n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null"
}

// text returns the value of a node that is a plain YAML string.
func text(n *yaml.Node) (string, bool) {
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!str" {
		return "", false
	}
	return n.Value, true
}

// describe returns what a node is, for a Problem.
func describe(n *yaml.Node) string {
	switch {
	case isNull(n):
		return "nothing"
	case n.Kind == yaml.MappingNode:
		return "a mapping"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.Kind == yaml.AliasNode:
		return "an alias (*" + cut(n.Value, maxShown) + ")"
	case n.Style&yaml.TaggedStyle != 0:
		return "a value tagged " + cut(n.Tag, maxShown)
	case n.ShortTag() == "!!str":
		return fmt.Sprintf("%q", cut(n.Value, maxShown))
	}
	return cut(n.Value, maxShown)
}

// pair is an entry of a mapping.
type pair struct{ key, value *yaml.Node }

// pairs returns the entries of a mapping, nothing for any other node.
func pairs(n *yaml.Node) []pair {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	list := make([]pair, 0, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		list = append(list, pair{n.Content[i], n.Content[i+1]})
	}
	return list
}

// distinctPairs returns the entries of a mapping of which each key is the first
// of its kind.
func distinctPairs(n *yaml.Node) []pair {
	seen := map[keyIdentity]bool{}
	var list []pair
	for _, p := range pairs(n) {
		if id := identity(p.key); !seen[id] {
			seen[id] = true
			list = append(list, p)
		}
	}
	return list
}

// keyIdentity is what makes two keys of a mapping the same key.
type keyIdentity struct{ tag, value string }

func identity(key *yaml.Node) keyIdentity { return keyIdentity{key.ShortTag(), key.Value} }

// tables are the keys whose mappings have one entry a host or address.
var tables = setOf("hosts", "extra_hosts", "extra_wires", "wireguard_pubkeys")

// reportDuplicates adds a problem for each key that stands in a mapping a second
// time, at any depth. YAML forbids it, and Ansible silently takes the last.
func reportDuplicates(problems *collection, path string, n *yaml.Node, parent string) {
	if n.Kind == yaml.SequenceNode {
		for _, item := range n.Content {
			reportDuplicates(problems, path, item, parent)
		}
	}
	first := map[keyIdentity]int{}
	for _, p := range pairs(n) {
		name := parent
		if p.key.Kind == yaml.ScalarNode && p.key.ShortTag() != "!!merge" {
			name = p.key.Value
			id := identity(p.key)
			if line, again := first[id]; again {
				found := fmt.Sprintf("it again, first in line %d", line)
				problem := Problem{File: path, Line: p.key.Line, Host: parent, Field: name, Found: found, Want: "each key once"}
				if tables[parent] {
					problem.Host, problem.Field = name, ""
				}
				problems.add(problem)
			} else {
				first[id] = p.key.Line
			}
		}
		reportDuplicates(problems, path, p.value, name)
	}
}
