package inventory

import (
	"fmt"
	"net/netip"
	"reflect"
	"sort"
	"strings"

	"gopkg.in/yaml.v3"

	"mobula/helper/internal/network"
)

// Clients reads extra_wires.yml; a file that does not exist has none.
func Clients(path string) ([]network.Client, error) {
	data, problem := readFile(path)
	if problem != nil {
		return nil, Problems{*problem}
	}
	return clientsOf(path, data)
}

func clientsOf(path string, data []byte) ([]network.Client, error) {
	var problems collection
	f := &strictFile{path, &problems, map[subject]place{}}
	clients := f.extraWires("a single address with /32", f.top(f.parse(data), "extra_wires"))
	return clients, problems.err()
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
		for n := p.key.Line; n <= lastLine(p.value); n++ {
			e.lines[n-1] = strings.Replace(e.lines[n-1], old.String(), key.String(), 1)
		}
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
}

func edit(path string, data []byte, wanted func([]network.Client) []network.Client, change func(*editor) error) ([]byte, error) {
	clients, err := clientsOf(path, data)
	if err != nil {
		return nil, err
	}
	root, problem := parseYAML(path, data)
	if problem != nil {
		return nil, Problems{*problem}
	}
	unedited := fmt.Errorf("%s: found it written in a way that cannot be edited line by line, wanted one client a line; nothing was changed", path)
	if strings.ContainsAny(strings.ReplaceAll(string(data), "\r\n", "\n"), otherBreaks) {
		return nil, unedited
	}
	e := &editor{lines: strings.SplitAfter(string(data), "\n"), newline: "\n", root: root}
	if strings.Contains(string(data), "\r\n") {
		e.newline = "\r\n"
	}
	if last := len(e.lines) - 1; e.lines[last] == "" {
		e.lines = e.lines[:last]
	} else {
		e.lines[last] += e.newline
	}
	want := wanted(append([]network.Client{}, clients...))
	if err := change(e); err != nil {
		return nil, err
	}
	text := []byte(strings.Join(e.lines, ""))
	if got, err := clientsOf(path, text); err != nil || !same(got, want) {
		return nil, unedited
	}
	return text, nil
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
			return p, true
		}
	}
	return pair{}, false
}

// insert puts an entry after the last one, in its indentation.
func (e *editor) insert(entry string) {
	table, found := e.table()
	indentation, after := "  ", len(e.lines)
	all := pairs(table.value)
	switch {
	case !found:
		entry = "extra_wires:" + e.newline + indentation + entry
		indentation = ""
	case len(all) > 0:
		last := all[len(all)-1]
		indentation, after = strings.Repeat(" ", last.key.Column-1), lastLine(last.value)
	default:
		after = table.key.Line
		line := e.lines[after-1]
		for _, nothing := range []string{"{}", "~", "null"} {
			line = strings.Replace(line, "extra_wires: "+nothing, "extra_wires:", 1)
		}
		e.lines[after-1] = line
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
