// Package packetfilter tells what the host's own packet filters, those of other people,
// evidently drop of that which Mobula needs, and the command that lets it pass. A rule
// that is not understood may let everything pass, so nothing is said then.
package packetfilter

import (
	"net/netip"
	"slices"
)

// Packet is one that is asked about. What is not known of it has the zero value: a rule
// that asks for it may match.
type Packet struct {
	In, Out  string // interfaces; Out is "" for what the host receives
	Protocol string // tcp or udp
	Port     uint16 // destination
	From     netip.Addr
	State    string // of its connection: new or established
}

// Hook is where in the kernel a chain stands (nft(8), address families).
type Hook string

// The hooks that a packet from elsewhere passes.
const (
	Prerouting Hook = "prerouting"
	Input      Hook = "input"
	Forward    Hook = "forward"
)

// answer is whether a rule matches a packet.
type answer int

const (
	no answer = iota
	maybe
	yes
)

func either(is bool) answer {
	if is {
		return yes
	}
	return no
}

// not keeps what is not known.
func (a answer) not() answer { return yes - a }

type match func(Packet) answer

// fate is a set of what may become of a packet.
type fate uint8

const (
	accepted fate = 1 << iota
	dropped
	returned // it goes on after the jump that led here
	onward   // it goes on with the next rule
)

// step is what a rule does with packets that it matches: one of fates, or on with a chain.
type step struct {
	fate fate
	// chain is where it goes on, and leaves says that it does not come back from there
	// (goto).
	chain  string
	leaves bool
}

type rule struct {
	matches []match
	then    []choice
}

// choice is a step and for which packets it is: a verdict map has several.
type choice struct {
	match match // nil: for all
	step
}

// Chain is a list of rules of one table.
type Chain struct {
	Name   string
	hook   Hook // "": others jump to it
	policy fate
	rules  []rule
}

// Table is a table of a packet filter, as far as it sees IPv4.
type Table struct {
	Family, Name string
	// Iptables: it is managed by that.
	Iptables bool
	chains   map[string]*Chain
}

// Closed is where a packet is dropped.
type Closed struct {
	Table *Table
	Chain string // with the hook
	Path  []string
}

// Closes returns where a table evidently drops a packet at one of the hooks; nil if it
// may let it pass.
func (t *Table) Closes(p Packet, hooks ...Hook) *Closed {
	for _, c := range t.sorted() {
		if !slices.Contains(hooks, c.hook) {
			continue
		}
		w := walk{table: t, packet: p}
		f := w.chain(c.Name)
		if f&returned != 0 {
			f = f&^returned | c.policy
		}
		if f == dropped {
			return &Closed{t, c.Name, w.path}
		}
	}
	return nil
}

func (t *Table) sorted() (all []*Chain) {
	for _, c := range t.chains {
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b *Chain) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return all
}

// maxChains is how many chains are walked for a packet: of one that meets more nothing
// is known.
const maxChains = 10000

// walk is a packet's way through a table; path are the chains that it may come to.
type walk struct {
	table  *Table
	packet Packet
	path   []string
}

func (w *walk) chain(name string) (f fate) {
	c := w.table.chains[name]
	if c == nil || len(w.path) >= maxChains {
		return accepted | dropped | returned
	}
	w.path = append(w.path, name)
	for _, r := range c.rules {
		matched := yes
		for _, m := range r.matches {
			matched = min(matched, m(w.packet))
		}
		if matched == no {
			continue
		}
		did := w.choose(r.then)
		f |= did &^ onward
		if matched == yes && did&onward == 0 {
			return f
		}
	}
	return f | returned
}

// choose takes the first choice that matches; with none it is onward.
func (w *walk) choose(all []choice) (f fate) {
	for _, c := range all {
		matched := yes
		if c.match != nil {
			matched = c.match(w.packet)
		}
		if matched == no {
			continue
		}
		f |= w.step(c.step)
		if matched == yes {
			return f
		}
	}
	return f | onward
}

func (w *walk) step(s step) fate {
	if s.chain == "" {
		return s.fate
	}
	f := w.chain(s.chain)
	if f&returned != 0 && !s.leaves {
		f = f&^returned | onward
	}
	return f
}
