package inventory

import (
	"fmt"
	"net/netip"
	"reflect"
	"regexp"
	"sort"
	"strings"

	"gopkg.in/yaml.v3"

	"mobula/helper/internal/network"
)

// Clients reads extra_wires.yml; a file that does not exist has none. With the document
// of a network, they have to fit into it.
func Clients(path string, d *network.Document) ([]network.Client, error) {
	data, problem := readFile(path)
	if problem != nil {
		return nil, Problems{*problem}
	}
	var problems collection
	f := &strictFile{path, &problems, map[subject]place{}}
	clients := f.clients(data)
	if d != nil && problems.err() == nil {
		for _, p := range WithClients(d, clients).Validate() {
			problems.add(Problem{path, f.places[subject{p.Entry, p.Field}].line, p.Entry, p.Field, p.Found, p.Want})
		}
	}
	return clients, problems.err()
}

// WithClients returns the document with other clients.
func WithClients(d *network.Document, clients []network.Client) *network.Document {
	with := *d
	with.Clients = clients
	return &with
}

func clientsOf(path string, data []byte) ([]network.Client, error) {
	text, problem := checkText(path, data)
	if problem != nil {
		return nil, Problems{*problem}
	}
	var problems collection
	clients := (&strictFile{path, &problems, map[subject]place{}}).clients(text)
	return clients, problems.err()
}

func (f *strictFile) clients(data []byte) []network.Client {
	return f.extraWires("a single address with /32", f.top(f.parse(data), "extra_wires"))
}

// The editors below change the lines of one client in the text of an
// extra_wires.yml and leave every other byte as it is. What they have made is read
// once more: it has to say what it should, or the file stays as it was.

// AddClient returns the text with one more client.
func AddClient(path string, data []byte, c network.Client) ([]byte, error) {
	return edit(path, data, func(clients []network.Client) []network.Client { return append(clients, c) }, func(e *editor) error {
		e.insert(fmt.Sprintf("%s/32: {name: %s, public_key: '%s'}", c.Address, c.Name, c.PublicKey))
		return nil
	})
}

// RemoveClient returns the text without the client at an address. Comments stay.
func RemoveClient(path string, data []byte, address netip.Addr) ([]byte, error) {
	return edit(path, data, func(clients []network.Client) []network.Client {
		var others []network.Client
		for _, c := range clients {
			if c.Address != address {
				others = append(others, c)
			}
		}
		return others
	}, func(e *editor) error {
		p, found := e.entry(address)
		if !found {
			return fmt.Errorf("%s: found no client %s/32", path, address)
		}
		e.delete(p.key.Line, lastLine(p.value))
		return nil
	})
}

// ReplaceClientKey returns the text with another public key of the client at an
// address.
func ReplaceClientKey(path string, data []byte, address netip.Addr, key network.Key) ([]byte, error) {
	var old network.Key
	return edit(path, data, func(clients []network.Client) []network.Client {
		for i := range clients {
			if clients[i].Address == address {
				old, clients[i].PublicKey = clients[i].PublicKey, key
			}
		}
		return clients
	}, func(e *editor) error {
		p, found := e.entry(address)
		if !found {
			return fmt.Errorf("%s: found no client %s/32", path, address)
		}
		node := p.value
		for _, field := range pairs(p.value) {
			if field.key.Value == "public_key" {
				node = field.value
			}
		}
		before, rest := e.split(node)
		e.lines[node.Line-1] = before + strings.Replace(rest, old.String(), key.String(), 1)
		return nil
	})
}

// otherBreaks end a line of YAML 1.1 (section 5.4) and none of an editor's.
const otherBreaks = "\r\u0085\u2028\u2029"

// editor is a text by its lines, each with its end, and what it says.
type editor struct {
	lines   []string
	newline string
	root    *yaml.Node
	// at is the line that was to be changed.
	at int
}

func edit(path string, data []byte, wanted func([]network.Client) []network.Client, change func(*editor) error) ([]byte, error) {
	text, problem := checkText(path, data)
	if problem != nil {
		return nil, Problems{*problem}
	}
	clients, err := clientsOf(path, text)
	if err != nil {
		return nil, err
	}
	root, problem := parseYAML(path, text)
	if problem != nil {
		return nil, Problems{*problem}
	}
	e := newEditor(string(text), root)
	unedited := func(line int) error {
		return Problem{File: path, Line: line, Found: "it written in a way that cannot be edited line by line", Want: "one client a line; nothing was changed"}
	}
	for i, line := range e.lines {
		if strings.ContainsAny(strings.TrimSuffix(line, "\r\n"), otherBreaks) {
			return nil, unedited(i + 1)
		}
	}
	want := wanted(append([]network.Client{}, clients...))
	if err := change(e); err != nil {
		return nil, err
	}
	edited := strings.Join(e.lines, "")
	if got, err := clientsOf(path, []byte(edited)); err != nil || !same(got, want) {
		return nil, unedited(e.at)
	}
	mark := data[:len(data)-len(text)] // of the byte order, which is no text
	return append(append([]byte{}, mark...), edited...), nil
}

func newEditor(text string, root *yaml.Node) *editor {
	e := &editor{lines: strings.SplitAfter(text, "\n"), newline: "\n", root: root}
	if strings.Contains(text, "\r\n") {
		e.newline = "\r\n"
	}
	if last := len(e.lines) - 1; e.lines[last] == "" {
		e.lines = e.lines[:last]
	} else {
		e.lines[last] += e.newline
	}
	return e
}

// split returns the line of a node before and from where it begins. YAML counts in
// characters.
func (e *editor) split(n *yaml.Node) (before, rest string) {
	line := []rune(e.lines[n.Line-1])
	at := min(n.Column-1, len(line))
	return string(line[:at]), string(line[at:])
}

func same(a, b []network.Client) bool {
	for _, all := range [][]network.Client{a, b} {
		sort.Slice(all, func(i, j int) bool { return all[i].Address.Less(all[j].Address) })
	}
	return len(a) == len(b) && (len(a) == 0 || reflect.DeepEqual(a, b))
}

// table returns the entry extra_wires of the file.
func (e *editor) table() (pair, bool) {
	for _, p := range pairs(e.root) {
		if p.key.Value == "extra_wires" {
			return p, true
		}
	}
	return pair{}, false
}

func (e *editor) entry(address netip.Addr) (pair, bool) {
	table, _ := e.table()
	for _, p := range pairs(table.value) {
		if prefix, err := netip.ParsePrefix(p.key.Value); err == nil && prefix.Addr() == address {
			e.at = p.key.Line
			return p, true
		}
	}
	return pair{}, false
}

// nothing is how a file says that there are no clients yet.
var nothing = regexp.MustCompile(`^(\{[ \t]*\}|~|null|Null|NULL)`)

// insert puts an entry after the last one, in its indentation.
func (e *editor) insert(entry string) {
	table, found := e.table()
	if !found {
		e.lines = append(e.lines, "extra_wires:"+e.newline, "  "+entry+e.newline)
		return
	}
	e.at = table.key.Line
	indentation, after := strings.Repeat(" ", table.key.Column+1), table.key.Line
	if all := pairs(table.value); len(all) > 0 {
		last := all[len(all)-1]
		indentation, after = strings.Repeat(" ", last.key.Column-1), lastLine(last.value)
	} else if table.value.Line == table.key.Line {
		before, rest := e.split(table.value)
		if without := nothing.ReplaceAllString(rest, ""); without != rest {
			e.lines[after-1] = strings.TrimRight(before, " \t") + without
		}
	}
	e.lines = append(e.lines[:after:after], append([]string{indentation + entry + e.newline}, e.lines[after:]...)...)
}

func (e *editor) delete(first, last int) {
	e.lines = append(e.lines[:first-1:first-1], e.lines[last:]...)
}

// lastLine is the last line on which something of a node begins.
func lastLine(n *yaml.Node) int {
	last := n.Line
	for _, child := range n.Content {
		if line := lastLine(child); line > last {
			last = line
		}
	}
	return last
}
