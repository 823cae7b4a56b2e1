package packetfilter

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// hooks are those of iptables' chains, by their names (iptables(8)).
var hooks = map[string]Hook{"PREROUTING": Prerouting, "INPUT": Input, "FORWARD": Forward}

// goesOn are the targets after which a packet goes on with the next rule
// (iptables-extensions(8)).
var goesOn = []string{"LOG", "NFLOG", "MARK", "CONNMARK", "SET", "CT", "TCPMSS", "TRACE", "AUDIT", "CHECKSUM", "TOS", "DSCP", "TTL", "CLASSIFY", "RATEEST", "CONNSECMARK", "SECMARK"}

// byOptions are the matches that ask for nothing but what their options say.
var byOptions = []string{"udp", "tcp", "multiport", "comment", "conntrack", "state", "addrtype"}

// parseIptables reads what iptables-save(8) prints. Addresses are not translated with
// nat tables, which no packet is dropped by.
func parseIptables(saved string) (tables []*Table) {
	var t *Table
	for _, line := range strings.Split(saved, "\n") {
		switch words := splitWords(line); {
		case len(words) == 0 || strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, "*"):
			t = &Table{Family: "ip", Name: line[1:], Iptables: true, chains: map[string]*Chain{}}
			if t.Name != "nat" {
				tables = append(tables, t)
			}
		case t == nil:
		case strings.HasPrefix(line, ":") && len(words) > 1:
			c := &Chain{Name: words[0][1:], policy: accepted}
			if words[1] != "-" {
				c.hook = hooks[c.Name]
			}
			if words[1] == "DROP" {
				c.policy = dropped
			}
			t.chains[c.Name] = c
		case words[0] == "-A" && len(words) > 1 && t.chains[words[1]] != nil:
			c := t.chains[words[1]]
			c.rules = append(c.rules, parseIptablesRule(words[2:], t))
		}
	}
	return tables
}

// splitWords are those of a line, of which some stand in quotes.
func splitWords(line string) (words []string) {
	var word strings.Builder
	in, quoted, escaped := false, false, false
	for _, c := range line {
		switch {
		case escaped:
			word.WriteRune(c)
			escaped = false
		case c == '\\' && quoted:
			escaped = true
		case c == '"':
			in, quoted = true, !quoted
		case c == ' ' && !quoted:
			if in {
				words = append(words, word.String())
				word.Reset()
			}
			in = false
		default:
			in = true
			word.WriteRune(c)
		}
	}
	if in {
		words = append(words, word.String())
	}
	return words
}

func parseIptablesRule(words []string, t *Table) (r rule) {
	for len(words) > 0 {
		negate := words[0] == "!"
		if negate {
			words = words[1:]
		}
		if len(words) < 2 {
			r.matches = append(r.matches, perhaps)
			break
		}
		option, value := words[0], words[1]
		words = words[2:]
		if option == "-j" || option == "-g" {
			r.then = []choice{{step: iptablesTarget(value, option == "-g", t)}}
			break // what follows is the target's
		}
		if m := iptablesMatch(option, value); m != nil {
			r.matches = append(r.matches, negated(m, negate))
		}
		// What is not known may have several values, or none.
		if !strings.HasPrefix(option, "-") || strings.HasPrefix(value, "-") || value == "!" {
			words = append([]string{value}, words...)
		}
	}
	return r
}

func iptablesTarget(name string, leaves bool, t *Table) step {
	switch {
	case name == "ACCEPT":
		return step{fate: accepted}
	case name == "DROP", name == "REJECT":
		return step{fate: dropped}
	case name == "RETURN":
		return step{fate: returned}
	case slices.Contains(goesOn, name):
		return step{fate: onward}
	case t.chains[name] != nil: // all of them stand before the rules
		return step{chain: name, leaves: leaves}
	}
	return step{fate: accepted | dropped | onward}
}

// iptablesMatch returns nil for what asks for nothing by itself.
func iptablesMatch(option, value string) match {
	switch option {
	case "-m":
		if slices.Contains(byOptions, value) {
			return nil
		}
	case "--comment":
		return nil
	case "-i":
		return func(p Packet) answer { return named(p.In, value, "+") }
	case "-o":
		return func(p Packet) answer { return named(p.Out, value, "+") }
	case "-p":
		if _, err := strconv.Atoi(value); err == nil {
			return perhaps
		}
		return func(p Packet) answer { return either(value == p.Protocol || value == "all") }
	case "-s":
		return func(p Packet) answer { return address(p.From, value) }
	case "--dport", "--dports", "--destination-port", "--destination-ports":
		return func(p Packet) answer { return inPorts(p.Port, strings.Split(value, ","), ":") }
	case "--ctstate", "--state":
		return func(p Packet) answer {
			return either(slices.Contains(strings.Split(strings.ToLower(value), ","), p.State))
		}
	case "--dst-type":
		return destined(value)
	}
	return perhaps
}

// perhaps is what is not known.
func perhaps(Packet) answer { return maybe }

func negated(m match, negate bool) match {
	if !negate {
		return m
	}
	return func(p Packet) answer { return m(p).not() }
}

// destined asks for the kind of the destination: the host itself, if it is what the host
// receives.
func destined(kind string) match {
	return func(p Packet) answer {
		return either(strings.EqualFold(kind, "local") && p.Out == "" || strings.EqualFold(kind, "unicast") && p.Out != "")
	}
}

// named compares an interface with a name that may end in a wildcard. What the host
// receives leaves by none.
func named(link, name, wildcard string) answer {
	if beginning, open := strings.CutSuffix(name, wildcard); open {
		return either(link != "" && strings.HasPrefix(link, beginning))
	}
	return either(link == name)
}

func address(a netip.Addr, prefix string) answer {
	p, err := netip.ParsePrefix(prefix)
	if err != nil {
		single, err := netip.ParseAddr(prefix)
		if err != nil {
			return maybe
		}
		p = netip.PrefixFrom(single, single.BitLen())
	}
	switch {
	case p.Bits() == 0:
		return yes
	case !a.IsValid():
		return maybe
	}
	return either(p.Contains(a))
}

// inPorts reports that a port is one of some, or of ranges.
func inPorts(port uint16, some []string, between string) answer {
	for _, s := range some {
		first, last, isRange := strings.Cut(s, between)
		if !isRange {
			last = first
		}
		from, err := strconv.ParseUint(first, 10, 16)
		to, err2 := strconv.ParseUint(last, 10, 16)
		if err != nil || err2 != nil {
			return maybe
		}
		if uint64(port) >= from && uint64(port) <= to {
			return yes
		}
	}
	return no
}
