package firewalltest

import (
	"net/netip"
	"regexp"
	"sort"
	"strconv"
	"strings"
)

type tables []*table

type table struct {
	family  string
	name    string
	objects []*object
	listing string // without state, as it was asked for last; "": to be made anew
}

// object is a counter, a set, a map or a chain.
type object struct {
	kind, name string
	lines      []string // of what kind it is
	elements   []string
	rules      []string
	// devices are those of a base chain of the family netdev, and sends those by which its
	// rules send, as they were then.
	devices, sends []device
}

func (t *table) object(name string) *object {
	for _, o := range t.objects {
		if o.name == name {
			return o
		}
	}
	return nil
}

// table returns the named one, which is made if there is none.
func (all *tables) table(family, name string) *table {
	for _, t := range *all {
		if t.family == family && t.name == name {
			return t
		}
	}
	t := &table{family: family, name: name}
	*all = append(*all, t)
	return t
}

func (all tables) names(family string) string {
	text := ""
	for _, t := range all {
		if t.family == family {
			text += "table " + family + " " + t.name + "\n"
		}
	}
	return text
}

func (all tables) without(family, name string) (left tables, deleted bool) {
	for _, t := range all {
		if t.family != family || t.name != name {
			left = append(left, t)
		}
	}
	return left, len(left) < len(all)
}

func (all tables) copied() tables {
	var copies tables
	for _, t := range all {
		c := &table{family: t.family, name: t.name, listing: t.listing}
		for _, o := range t.objects {
			one := *o
			one.sends = one.sends[:len(o.sends):len(o.sends)]
			one.rules, one.elements, one.lines = one.rules[:len(o.rules):len(o.rules)], one.elements[:len(o.elements):len(o.elements)], one.lines[:len(o.lines):len(o.lines)]
			c.objects = append(c.objects, &one)
		}
		copies = append(copies, c)
	}
	return copies
}

// list renders a table the way nft does, which is never its input: counters first,
// then sets and maps, then chains (table_print in nftables' src/rule.c), without
// comments, each with an empty line in front of the next.
func (t *table) list(stateless bool) string {
	if stateless && t.listing != "" {
		return t.listing
	}
	var parts []string
	for _, kinds := range []string{"counter", "set map", "chain"} {
		for _, o := range t.objects {
			if strings.Contains(kinds, o.kind) {
				parts = append(parts, o.list(stateless))
			}
		}
	}
	text := "table " + t.family + " " + t.name + " {\n" + strings.Join(parts, "\n") + "}\n"
	if stateless {
		t.listing = text
	}
	return text
}

func (o *object) list(stateless bool) string {
	text := "\t" + o.kind + " " + o.name + " {\n"
	if o.kind == "counter" && !stateless {
		text += "\t\tpackets 0 bytes 0\n"
	}
	for _, line := range append(append([]string{}, o.printed()...), o.rules...) {
		text += "\t\t" + line + "\n"
	}
	if len(o.elements) > 0 {
		text += "\t\telements = { " + o.wrapped() + " }\n"
	}
	return text + "\t}\n"
}

// wrapped breaks elements into lines by the type of their keys (calculate_delim in
// nftables' src/expression.c).
func (o *object) wrapped() string {
	key, _, _ := strings.Cut(strings.TrimPrefix(o.lines[0], "type "), " : ")
	each := map[string]int{"inet_service": 5, "ipv4_addr": 2, "ether_addr": 2}[key]
	if each == 0 {
		each = 1
	}
	text := ""
	for i, e := range o.elements {
		switch {
		case i > 0 && i%each == 0:
			text += ",\n\t\t\t     "
		case i > 0:
			text += ", "
		}
		text += e
	}
	return text
}

var (
	named     = regexp.MustCompile(`counter name (\w+)`)
	anonymous = regexp.MustCompile(`\{ ([^{}]*) \}`)
)

// normal is a rule as nft prints it: names quoted, sets of one element as that element,
// others sorted, a host's prefix as its address.
func normal(rule string) string {
	rule = named.ReplaceAllString(rule, `counter name "$1"`)
	rule = strings.ReplaceAll(rule, "masquerade to : ", "masquerade to :")
	rule = strings.ReplaceAll(rule, "/32", "")
	return anonymous.ReplaceAllStringFunc(rule, func(set string) string {
		inside := anonymous.FindStringSubmatch(set)[1]
		elements := strings.Split(inside, ", ")
		switch {
		case len(elements) > 1:
			return "{ " + strings.Join(sorted(elements), ", ") + " }"
		case strings.Contains(inside, " "):
			return set // what a set is filled with
		}
		return inside
	})
}

// sorted orders elements by the values of their keys (list_expr_sort in nftables'
// src/mergesort.c).
func sorted(elements []string) []string {
	all := append([]string{}, elements...)
	sort.SliceStable(all, func(i, j int) bool { return value(all[i]) < value(all[j]) })
	return all
}

// value is a key's, in which the first byte weighs most. What has several parts, and
// names of interfaces, are numbers of this machine's, whose last byte does.
func value(element string) string {
	words := strings.Fields(element)
	number, notNumber := strconv.ParseUint(words[0], 10, 16)
	address, notAddress := netip.ParsePrefix(strings.Split(words[0], "/")[0] + "/32")
	switch {
	case strings.HasPrefix(element, `"`):
		return backwards(append(make([]byte, 0, 16), strings.Trim(element, `"`)...))
	case notNumber == nil:
		return string([]byte{byte(number >> 8), byte(number)})
	case notAddress != nil:
		return element
	case len(words) > 2 && words[1] == "." && strings.Contains(words[2], "."):
		second, _ := netip.ParseAddr(words[2])
		return backwards(append(address.Addr().AsSlice(), second.AsSlice()...))
	case len(words) > 2 && words[1] == ".":
		port, _ := strconv.ParseUint(words[2], 10, 16)
		return backwards(append(address.Addr().AsSlice(), byte(port>>8), byte(port)))
	}
	return string(address.Addr().AsSlice())
}

func backwards(bytes []byte) string {
	b := make([]byte, 16)
	for i, c := range bytes {
		b[len(b)-1-i] = c
	}
	return string(b)
}
