package inventory

import (
	"fmt"
	"net/netip"

	"gopkg.in/yaml.v3"

	"mobula/helper/internal/network"
)

// place is where something stands.
type place struct {
	file string
	line int
}

// subject is what a place is remembered for: a field of a host or of an extra
// address, named as network.Problem names it.
type subject struct{ entry, field string }

// strictFile reads a file of which every key must be known.
type strictFile struct {
	path     string
	problems *collection
	places   map[subject]place
}

func (f *strictFile) add(n *yaml.Node, entry, field, found, want string) {
	f.problems.add(Problem{File: f.path, Line: n.Line, Host: entry, Field: field, Found: found, Want: want})
}

// open returns the values of the top-level keys of a file. A missing or empty
// file and null values give nothing.
func (f *strictFile) open(known ...string) map[string]*yaml.Node {
	return f.top(f.root(), known...)
}

// root returns the one YAML document in the file, nil if there is none.
func (f *strictFile) root() *yaml.Node {
	data, problem := readFile(f.path)
	if problem != nil {
		f.problems.add(*problem)
		return nil
	}
	return f.parse(data)
}

func (f *strictFile) parse(data []byte) *yaml.Node {
	root, problem := parseYAML(f.path, data)
	if problem != nil {
		f.problems.add(*problem)
		return nil
	}
	if root != nil {
		reportDuplicates(f.problems, f.path, root, "")
	}
	return root
}

func (f *strictFile) top(root *yaml.Node, known ...string) map[string]*yaml.Node {
	switch {
	case root == nil:
		return nil
	case root.Kind != yaml.MappingNode:
		f.add(root, "", "", describe(root), "a mapping with the key "+known[0])
		return nil
	}
	return f.known(root, "", known...)
}

// known returns the values of a mapping by key and reports keys that are not
// known.
func (f *strictFile) known(n *yaml.Node, entry string, known ...string) map[string]*yaml.Node {
	values := map[string]*yaml.Node{}
	names := setOf(known...)
	for _, p := range distinctPairs(n) {
		key, isText := text(p.key)
		switch {
		case !isText || !names[key]:
			want := known[0]
			for _, other := range known[1:] {
				want += ", " + other
			}
			if close := newSuggester(known...).suggest(key); close != "" {
				want = fmt.Sprintf("%q (did you mean that?)", close)
			}
			f.add(p.key, entry, "", "the unknown key "+describe(p.key), want)
		case !isNull(p.value):
			values[key] = p.value
		}
	}
	return values
}

// entries returns the entries of the mapping at a top-level key.
func (f *strictFile) entries(n *yaml.Node, key, want string) []pair {
	if n == nil {
		return nil
	}
	if n.Kind != yaml.MappingNode {
		f.add(n, "", key, describe(n), want)
		return nil
	}
	return distinctPairs(n)
}

// extraHosts returns the names that can be read; what they must be beyond that
// is for network.Document.Validate to say.
func (f *strictFile) extraHosts(ranges network.Ranges, top map[string]*yaml.Node) []network.Name {
	var names []network.Name
	for _, p := range f.entries(top["extra_hosts"], "extra_hosts", "a mapping of addresses to names") {
		entry := cut(p.key.Value, maxShown)
		address, err := netip.ParseAddr(p.key.Value)
		if _, isText := text(p.key); !isText || err != nil || !address.Is4() {
			f.add(p.key, entry, "address", describe(p.key), "an IPv4 address in "+ranges.Access().String())
			continue
		}
		f.places[subject{entry, "address"}] = place{f.path, p.key.Line}
		f.places[subject{entry, "name"}] = place{f.path, p.value.Line}
		if list := f.names(entry, p.value); len(list) > 0 {
			names = append(names, network.Name{Address: address, Names: list})
		}
	}
	return names
}

// names reads one name or a list of names.
func (f *strictFile) names(entry string, n *yaml.Node) []string {
	items := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode && len(n.Content) > 0 {
		items = n.Content
	}
	var names []string
	for _, item := range items {
		if name, isText := text(item); isText && network.IsFQDN(name) {
			names = append(names, name)
			continue
		}
		found := describe(item)
		if item.Kind == yaml.SequenceNode && len(item.Content) == 0 {
			found = "an empty list"
		}
		f.add(item, entry, "name", found, "a fully qualified name such as nas.example.com, or a list of them")
	}
	return names
}

// extraWires returns the clients that can be read; want is what their addresses are.
func (f *strictFile) extraWires(want string, top map[string]*yaml.Node) []network.Client {
	var clients []network.Client
	for _, p := range f.entries(top["extra_wires"], "extra_wires", "a mapping of addresses to WireGuard public keys") {
		entry := cut(p.key.Value, maxShown)
		prefix, err := netip.ParsePrefix(p.key.Value)
		_, isText := text(p.key)
		goodAddress := isText && err == nil && prefix.Addr().Is4() && prefix.Bits() == 32
		if !goodAddress {
			f.add(p.key, entry, "address", describe(p.key), want)
		}
		f.places[subject{entry, "address"}] = place{f.path, p.key.Line}
		f.places[subject{entry, "key"}] = place{f.path, p.value.Line}
		f.places[subject{entry, "name"}] = place{f.path, p.value.Line}
		if c, good := f.client(entry, p.value); good && goodAddress {
			c.Address = prefix.Addr()
			clients = append(clients, c)
		}
	}
	return clients
}

// client reads a public key, or a mapping that also gives the client a name.
func (f *strictFile) client(entry string, n *yaml.Node) (c network.Client, good bool) {
	if n.Kind != yaml.MappingNode {
		c.PublicKey, good = f.publicKey(entry, "key", n)
		return c, good
	}
	values := f.known(n, entry, "name", "public_key")
	key, name := values["public_key"], values["name"]
	if key == nil {
		f.add(n, entry, "key", "nothing", "public_key: a WireGuard public key")
	} else {
		c.PublicKey, good = f.publicKey(entry, "key", key)
	}
	if name != nil {
		s, isText := text(name)
		if !isText || !network.IsFQDN(s) {
			f.add(name, entry, "name", describe(name), "a fully qualified name such as laptop.example.com")
			good = false
		}
		c.Name = s
	}
	return c, good
}

// shownKey is how many runes of a broken key are shown: enough to find it, and
// not all of it in case it was meant to be a private one.
const shownKey = 16

// exampleKey is the one in extra_wires.yml.example, of which nobody has the private half.
const exampleKey = "EXAMPLE-KEY-REPLACE-IT-BY-YOURS!"

// publicKey reads a WireGuard public key.
func (f *strictFile) publicKey(entry, field string, n *yaml.Node) (network.Key, bool) {
	const want = "a WireGuard public key (32 bytes of base64)"
	s, isText := text(n)
	if !isText {
		f.add(n, entry, field, describe(n), want)
		return network.Key{}, false
	}
	key, err := network.ParseKey(s)
	if err != nil {
		f.add(n, entry, field, fmt.Sprintf("%q, %v", cut(s, shownKey), err), want)
		return network.Key{}, false
	}
	if string(key[:]) == exampleKey {
		f.add(n, entry, field, "the key of the example, which is nobody's", "a key of your own (mobula client add makes one)")
		return network.Key{}, false
	}
	return key, true
}
