// Package firewalltest has an nft(8) for tests that holds the tables of network
// namespaces.
package firewalltest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sort"
	"strings"
)

// NFT implements firewall.NFT. What it does was seen with nft 1.0.6; TestNFTAsTheRealOne
// asks the real one the same.
type NFT struct {
	// Namespace returns a value that is another one for each network namespace that
	// ever had the name; nil if there is none. Tables go with their namespace
	// (nf_tables_pre_exit_net of the kernel).
	Namespace func(name string) any
	// Devices returns the interfaces of a namespace, each with a value that is another one
	// when it was made anew; nil: there are none.
	Devices func(namespace string) map[string]any

	namespaces map[string]*namespace
}

type namespace struct {
	identity any
	tables   tables
	devices  map[string]any
}

// in returns what a namespace has; nil if there is no such namespace.
func (n *NFT) in(name string) *namespace {
	identity := n.Namespace(name)
	if identity == nil {
		return nil
	}
	if n.namespaces == nil {
		n.namespaces = map[string]*namespace{}
	}
	if ns := n.namespaces[name]; ns == nil || ns.identity != identity {
		n.namespaces[name] = &namespace{identity: identity}
	}
	ns := n.namespaces[name]
	if n.Devices != nil {
		ns.devices = n.Devices(name)
	}
	ns.tables.lose(ns.devices)
	return ns
}

// Exists implements firewall.NFT.
func (n *NFT) Exists(name string) bool { return n.in(name) != nil }

// Run implements firewall.NFT for what the driver asks, and refuses all else.
func (n *NFT) Run(ctx context.Context, name, stdin string, args ...string) (string, error) {
	ns := n.in(name)
	if ns == nil {
		return "", fmt.Errorf("network namespace %s: %w", name, os.ErrNotExist)
	}
	if err := ctx.Err(); err != nil {
		return "", err
	}
	stateless := len(args) > 0 && args[0] == "--stateless"
	if stateless {
		args = args[1:]
	}
	command := strings.Join(args, " ")
	family, table := "inet", ""
	if len(args) > 2 {
		family = args[2]
	}
	if len(args) > 3 {
		table = args[3]
	}
	switch {
	case command == "-f -":
		return "", ns.load(stdin)
	case command == "--check -f -":
		_, err := parse(ns.tables.copied(), stdin, ns.devices)
		return "", err
	case command == "list tables "+family:
		return ns.tables.names(family), nil
	case command == "list table "+family+" "+table:
		for _, t := range ns.tables {
			if t.family == family && t.name == table {
				return t.list(stateless), nil
			}
		}
		return "", failure("", command, table, "No such file or directory")
	case command == "delete table "+family+" "+table:
		next, deleted := ns.tables.without(family, table)
		if !deleted {
			return "", failure("", command, table, "Could not process rule: No such file or directory")
		}
		ns.tables = next
		return "", nil
	}
	return "", errors.New("exit status 1: Error: the nft of tests knows no " + command)
}

// load carries a script out, as a whole or not at all: it is one transaction of the
// kernel ("all commands... are applied atomically", -f in nft(8)).
func (ns *namespace) load(script string) error {
	next, err := parse(ns.tables.copied(), script, ns.devices)
	if err == nil {
		ns.tables = next
	}
	return err
}

// failure is what nft says and ends with 1: where, what, the line, and a mark below
// the word that it means.
func failure(where, line, word, problem string) error {
	column := strings.LastIndex(line, word)
	if where != "" {
		where = fmt.Sprintf("/dev/stdin:%s:%d-%d: ", where, column+1, column+len(word))
	}
	return fmt.Errorf("exit status 1: %sError: %s\n%s\n%s%s", where, problem, line, strings.Repeat(" ", column), strings.Repeat("^", len(word)))
}

// Fill puts an element into a set as a packet would (the add and update statements).
func (n *NFT) Fill(namespace, table, set, element string) error {
	ns := n.in(namespace)
	if ns == nil {
		return os.ErrNotExist
	}
	for _, t := range ns.tables {
		if o := t.object(set); t.family == "inet" && t.name == table && o != nil {
			o.elements, t.listing = sorted(append(o.elements, element)), ""
			return nil
		}
	}
	return os.ErrNotExist
}

// String renders all tables of all namespaces that stand.
func (n *NFT) String() string {
	var lines []string
	for name := range n.namespaces {
		for _, t := range n.tablesOf(name) {
			lines = append(lines, fmt.Sprintf("in %q: %s", name, t.list(true)))
		}
	}
	sort.Strings(lines)
	return strings.Join(lines, "")
}

func (n *NFT) tablesOf(name string) tables {
	if ns := n.in(name); ns != nil {
		return ns.tables
	}
	return nil
}
