package firewalltest

import (
	"regexp"
	"strconv"
	"strings"
	"sync"
)

// script is read line by line, as the driver's are written.
type script struct {
	lines []string
	at    int
	tables
	devices map[string]any // of the namespace
}

var (
	addTable    = regexp.MustCompile(`^(?:add )?table (inet|netdev) (\w+)$`)
	deleteTable = regexp.MustCompile(`^delete table (inet|netdev) (\w+)$`)
	openTable   = regexp.MustCompile(`^table (inet|netdev) (\w+) \{$`)
	openObject  = regexp.MustCompile(`^(counter|set|map|chain) (\w+) \{(\})?$`)
	// What a rule refers to has to be there, else the kernel says ENOENT.
	refersTo = regexp.MustCompile(`@(\w+)\b|counter name "(\w+)"|(?:jump|goto) (\w+)`)
	verdict  = regexp.MustCompile(`: (?:jump|goto) (\w+)`)
	byDevice = regexp.MustCompile(` device "([^"]+)"`)
	ruleOf   = regexp.MustCompile(` (accept|drop|notrack|dnat|snat|masquerade|set|to|limit|update|add|counter|jump|goto|return|vmap)( |$)|^(accept|drop|update|masquerade) ?`)
)

// parse returns the tables that a script leaves of those that are there.
func parse(have tables, text string, devices map[string]any) (tables, error) {
	s := &script{lines: strings.Split(text, "\n"), tables: have, devices: devices}
	for s.more() { // nft asks for their numbers before it asks the kernel for anything
		if m := byDevice.FindStringSubmatch(s.line()); m != nil && devices[m[1]] == nil {
			return nil, s.fail(m[1], "Interface does not exist")
		}
	}
	s.at = 0
	for s.more() {
		line := s.line()
		if m := deleteTable.FindStringSubmatch(line); m != nil {
			next, deleted := s.without(m[1], m[2])
			if !deleted {
				return nil, s.fail(m[2], "Could not process rule: No such file or directory")
			}
			s.tables = next
		} else if m := addTable.FindStringSubmatch(line); m != nil {
			s.table(m[1], m[2])
		} else if m := openTable.FindStringSubmatch(line); m != nil {
			if err := s.block(s.table(m[1], m[2])); err != nil {
				return nil, err
			}
		} else {
			return nil, s.fail(line, "syntax error, unexpected string")
		}
	}
	return s.tables, nil
}

// more goes to the next line that says something.
func (s *script) more() bool {
	for s.at < len(s.lines) {
		s.at++
		if line := s.line(); line != "" && !strings.HasPrefix(line, "#") {
			return true
		}
	}
	return false
}

func (s *script) line() string { return strings.TrimSpace(s.lines[s.at-1]) }

func (s *script) fail(word, problem string) error {
	return failure(strconv.Itoa(s.at), s.lines[s.at-1], word, problem)
}

// ended is the complaint about a block without an end.
func (s *script) ended() error {
	s.at = len(s.lines)
	return s.fail(s.lines[s.at-1], "syntax error, unexpected end of file")
}

func (s *script) block(t *table) error {
	for s.more() {
		if s.line() == "}" {
			return nil
		}
		m := openObject.FindStringSubmatch(s.line())
		t.listing = ""
		if m == nil {
			return s.fail(s.line(), "syntax error, unexpected string")
		}
		o := t.object(m[2])
		if o == nil || o.kind != m[1] {
			o = &object{kind: m[1], name: m[2]}
			t.objects = append(t.objects, o)
		}
		if m[3] == "" {
			if err := s.object(t, o); err != nil {
				return err
			}
		}
	}
	return s.ended()
}

func (s *script) object(t *table, o *object) error {
	for s.more() {
		line := s.line()
		if line == "}" {
			if len(o.lines) == 0 && (o.kind == "set" || o.kind == "map") {
				return s.fail(line, "set definition does not specify key")
			}
			return nil
		}
		elements, isList := strings.CutPrefix(line, "elements = {")
		switch {
		case isList:
			list := strings.TrimSpace(strings.TrimSuffix(elements, "}"))
			if list == "" || !strings.HasSuffix(elements, "}") {
				return s.fail("}", "syntax error, unexpected '}'")
			}
			o.elements = sorted(append(o.elements, strings.Split(list, ", ")...))
			for _, m := range verdict.FindAllStringSubmatch(list, -1) {
				if t.object(m[1]) == nil {
					return s.fail(m[1], "Could not process rule: No such file or directory")
				}
			}
		case t.family == "netdev" && strings.HasPrefix(line, "type filter hook "):
			if err := s.hook(o, line); err != nil {
				return err
			}
		case o.kind != "chain" || strings.HasPrefix(line, "type "):
			if !contains(o.lines, line) {
				o.lines = append(o.lines, line)
			}
		default:
			if err := s.rule(t, o, line); err != nil {
				return err
			}
		}
	}
	return s.ended()
}

// rule appends one to a chain.
func (s *script) rule(t *table, chain *object, line string) error {
	r, known := rules.Load(line)
	if !known {
		r = readRule(line)
		rules.Store(line, r)
	}
	rule := r.(readyRule)
	if rule.text == "" {
		return s.fail(line, "syntax error, unexpected newline")
	}
	for _, m := range byDevice.FindAllStringSubmatch(line, -1) {
		chain.sends = append(chain.sends, device{m[1], s.devices[m[1]]})
	}
	for _, name := range rule.refersTo {
		if t.object(name) == nil {
			return s.fail(name, "Could not process rule: No such file or directory")
		}
	}
	chain.rules = append(chain.rules, rule.text)
	return nil
}

// readyRule is a rule as nft prints it, "" for none, and what it refers to.
type readyRule struct {
	text     string
	refersTo []string
}

// rules are those that were read once: tests load the same ones many times.
var rules sync.Map

func readRule(line string) (r readyRule) {
	if !ruleOf.MatchString(line) || strings.Count(line, "{") != strings.Count(line, "}") {
		return r
	}
	r.text = normal(line)
	for _, m := range refersTo.FindAllStringSubmatch(r.text, -1) {
		r.refersTo = append(r.refersTo, m[1]+m[2]+m[3])
	}
	return r
}

func contains(all []string, one string) bool {
	for _, s := range all {
		if s == one {
			return true
		}
	}
	return false
}
