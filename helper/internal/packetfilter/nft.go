package packetfilter

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// object is one of a ruleset as nft prints it (libnftables-json(5)).
type object struct {
	Chain *struct {
		Family, Table, Name, Hook, Policy string
	}
	Rule *struct {
		Family, Table, Chain string
		Expr                 []map[string]json.RawMessage
	}
}

// parseNFT reads what 'nft --json list ruleset' prints. Tables that see no IPv4 are left
// out, and others may be by their family and name.
func parseNFT(listing string, without func(family, name string) bool) ([]*Table, error) {
	var all struct{ NFTables []object }
	if err := json.Unmarshal([]byte(listing), &all); err != nil {
		return nil, fmt.Errorf("what nft prints: %w", err)
	}
	var tables []*Table
	find := func(family, name string) *Table {
		for _, t := range tables {
			if t.Family == family && t.Name == name {
				return t
			}
		}
		return nil
	}
	for _, o := range all.NFTables {
		if c := o.Chain; c != nil && (c.Family == "ip" || c.Family == "inet") && !without(c.Family, c.Table) {
			t := find(c.Family, c.Table)
			if t == nil {
				t = &Table{Family: c.Family, Name: c.Table, chains: map[string]*Chain{}}
				tables = append(tables, t)
			}
			t.chains[c.Name] = &Chain{Name: c.Name, hook: Hook(c.Hook), policy: accepted}
			if c.Policy == "drop" {
				t.chains[c.Name].policy = dropped
			}
		}
	}
	for _, o := range all.NFTables {
		if r := o.Rule; r != nil {
			if t := find(r.Family, r.Table); t != nil && t.chains[r.Chain] != nil {
				t.chains[r.Chain].rules = append(t.chains[r.Chain].rules, nftRule(r.Expr))
			}
		}
	}
	return tables, nil
}

// passive are statements after which a rule goes on as before, and choosy those that
// may end it.
var (
	passive = []string{"counter", "log", "mangle", "notrack"}
	choosy  = []string{"limit", "quota", "ct count", "meter", "set"}
)

// unknown is what a rule may do of which that is not known.
var unknown = []choice{{step: step{fate: accepted | dropped | onward}}}

func nftRule(statements []map[string]json.RawMessage) (r rule) {
	for _, statement := range statements {
		for name, value := range statement {
			s := nftStep(name, value)
			switch {
			case s != nil:
				r.then = []choice{{step: *s}}
			case name == "match":
				r.matches = append(r.matches, nftMatch(value))
			case name == "vmap":
				r.then = nftMap(value)
			case slices.Contains(choosy, name) || name == "xt" && strings.Contains(string(value), `"match"`):
				r.matches = append(r.matches, perhaps)
			case !slices.Contains(passive, name):
				r.then = unknown
			}
		}
	}
	return r
}

// nftStep returns nil for what is no verdict.
func nftStep(name string, value json.RawMessage) *step {
	switch name {
	case "accept":
		return &step{fate: accepted}
	case "drop", "reject":
		return &step{fate: dropped}
	case "return":
		return &step{fate: returned}
	case "continue":
		return &step{fate: onward}
	case "jump", "goto":
		var to struct{ Target string }
		if json.Unmarshal(value, &to) == nil {
			return &step{chain: to.Target, leaves: name == "goto"}
		}
	}
	return nil
}

// nftMap reads a verdict map. One with a name may do anything.
func nftMap(value json.RawMessage) (all []choice) {
	var m struct {
		Key  json.RawMessage
		Data struct{ Set [][2]json.RawMessage }
	}
	if json.Unmarshal(value, &m) != nil {
		return unknown
	}
	for _, element := range m.Data.Set {
		var verdict map[string]json.RawMessage
		if json.Unmarshal(element[1], &verdict) != nil || len(verdict) != 1 {
			return unknown
		}
		for name, value := range verdict {
			s := nftStep(name, value)
			if s == nil {
				return unknown
			}
			all = append(all, choice{comparing(m.Key, element[0]), *s})
		}
	}
	return all
}

func nftMatch(value json.RawMessage) match {
	var m struct {
		Op          string
		Left, Right json.RawMessage
	}
	if json.Unmarshal(value, &m) != nil {
		return perhaps
	}
	other := otherProtocol(m.Left)
	compare := comparing(m.Left, m.Right)
	switch m.Op {
	case "!=":
		compare = negated(compare, true)
	case "==", "in":
	default:
		compare = perhaps
	}
	return func(p Packet) answer {
		if other(p) { // whatever is asked of its header
			return no
		}
		return compare(p)
	}
}

// expression is the left side of a match.
type expression struct {
	Meta    *struct{ Key string }
	Payload *struct{ Protocol, Field string }
	CT      *struct{ Key string }
	FIB     *struct {
		Result string
		Flags  json.RawMessage
	}
}

// otherProtocol reports that a packet has no such header.
func otherProtocol(left json.RawMessage) func(Packet) bool {
	var e expression
	if json.Unmarshal(left, &e) != nil || e.Payload == nil {
		return func(Packet) bool { return false }
	}
	header := e.Payload.Protocol
	return func(p Packet) bool {
		return header != "" && header != "ip" && header != "th" && header != "ether" && header != "vlan" && header != p.Protocol
	}
}

// comparing is an expression that equals one of some values.
func comparing(left, right json.RawMessage) match {
	var e expression
	values, known := nftValues(right)
	if json.Unmarshal(left, &e) != nil || !known {
		return perhaps
	}
	switch {
	case e.Meta != nil:
		return comparingMeta(e.Meta.Key, values)
	case e.Payload != nil && e.Payload.Field == "dport":
		return func(p Packet) answer { return inPorts(p.Port, values, "-") }
	case e.Payload != nil && e.Payload.Protocol == "ip" && e.Payload.Field == "saddr":
		return func(p Packet) answer { return anyOf(values, func(v string) answer { return address(p.From, v) }) }
	case e.Payload != nil && e.Payload.Protocol == "ip" && e.Payload.Field == "protocol":
		return comparingMeta("l4proto", values)
	case e.CT != nil && e.CT.Key == "state":
		return func(p Packet) answer { return either(slices.Contains(values, p.State)) }
	case e.CT != nil && e.CT.Key == "status": // what nothing was done to by a nat table
		return func(Packet) answer { return either(false) }
	case e.FIB != nil && e.FIB.Result == "type" && strings.Trim(string(e.FIB.Flags), `[]" `) == "daddr":
		return func(p Packet) answer { return anyOf(values, func(v string) answer { return destined(v)(p) }) }
	}
	return perhaps
}

func comparingMeta(key string, values []string) match {
	of := func(value func(Packet) string) match {
		return func(p Packet) answer { return either(slices.Contains(values, value(p))) }
	}
	switch key {
	case "iifname", "iif":
		return func(p Packet) answer { return anyOf(values, func(v string) answer { return named(p.In, v, "*") }) }
	case "oifname", "oif":
		return func(p Packet) answer { return anyOf(values, func(v string) answer { return named(p.Out, v, "*") }) }
	case "l4proto":
		return of(func(p Packet) string { return p.Protocol })
	case "nfproto":
		return of(func(Packet) string { return "ipv4" })
	case "protocol":
		return of(func(Packet) string { return "ip" })
	}
	return perhaps
}

func anyOf(values []string, is func(string) answer) (a answer) {
	for _, v := range values {
		a = max(a, is(v))
	}
	return a
}

// nftValues are those of the right side of a match, ranges and prefixes as text. A set
// with a name is not known.
func nftValues(right json.RawMessage) (values []string, known bool) {
	var some []json.RawMessage
	var set struct{ Set []json.RawMessage }
	if json.Unmarshal(right, &some) != nil {
		if json.Unmarshal(right, &set) == nil && set.Set != nil {
			some = set.Set
		} else {
			some = []json.RawMessage{right}
		}
	}
	for _, raw := range some {
		v, ok := nftValue(raw)
		if !ok {
			return nil, false
		}
		values = append(values, v)
	}
	return values, true
}

func nftValue(raw json.RawMessage) (string, bool) {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return text, !strings.HasPrefix(text, "@")
	}
	var number uint64
	if json.Unmarshal(raw, &number) == nil {
		return strconv.FormatUint(number, 10), true
	}
	var object struct {
		Range  []json.RawMessage
		Prefix *struct {
			Addr string
			Len  int
		}
	}
	if json.Unmarshal(raw, &object) != nil {
		return "", false
	}
	if p := object.Prefix; p != nil {
		return fmt.Sprintf("%s/%d", p.Addr, p.Len), true
	}
	if len(object.Range) == 2 {
		first, ok := nftValue(object.Range[0])
		last, ok2 := nftValue(object.Range[1])
		return first + "-" + last, ok && ok2
	}
	return "", false
}
