package inventory

import (
	"encoding/json"
	"fmt"
	"sort"
	"strings"
)

// Problem is one thing wrong with the input. It is comparable.
type Problem struct {
	File  string `json:"file,omitempty"`  // as it was given; empty: not known
	Line  int    `json:"line,omitempty"`  // from 1; 0: not known
	Host  string `json:"host,omitempty"`  // inventory name, or an extra address; empty: the whole file
	Field string `json:"field,omitempty"` // empty: the whole host
	Found string `json:"found"`
	Want  string `json:"wanted"`
}

// Error returns "file:line: host: field: found X, wanted Y" without the parts
// that are not known.
func (p Problem) Error() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.File != "" && p.Line > 0 {
		fmt.Fprintf(&b, ":%d", p.Line)
	}
	for _, part := range []string{p.Host, p.Field} {
		if b.Len() > 0 && part != "" {
			b.WriteString(": ")
		}
		b.WriteString(part)
	}
	if b.Len() > 0 {
		b.WriteString(": ")
	}
	fmt.Fprintf(&b, "found %s, wanted %s", p.Found, p.Want)
	return b.String()
}

// Problems is everything that is wrong, sorted by file and line, each once. It
// is what the error of Compile and ReadPublicKeys can be converted to with
// errors.As.
type Problems []Problem

// Error returns one line a problem.
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i := range p {
		lines[i] = p[i].Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap lets errors.As find a single Problem.
func (p Problems) Unwrap() []error {
	errs := make([]error, len(p))
	for i := range p {
		errs[i] = p[i]
	}
	return errs
}

// collection gathers problems in the order in which they are found.
type collection struct{ list Problems }

func (c *collection) add(p Problem) { c.list = append(c.list, p) }

// err returns nil, or a Problems in which each problem stands once.
func (c *collection) err() error {
	if len(c.list) == 0 {
		return nil
	}
	seen := make(map[Problem]bool, len(c.list))
	unique := make(Problems, 0, len(c.list))
	for _, p := range c.list {
		if !seen[p] {
			seen[p] = true
			unique = append(unique, p)
		}
	}
	sort.SliceStable(unique, func(i, j int) bool {
		if unique[i].File != unique[j].File {
			return unique[i].File < unique[j].File
		}
		return unique[i].Line < unique[j].Line
	})
	return unique
}

// Warning is something that the operator should know and that stops nothing.
type Warning struct {
	Host string `json:"host,omitempty"` // inventory name; empty: the whole network
	Text string `json:"text"`
}

// String returns "host: text".
func (w Warning) String() string {
	if w.Host == "" {
		return w.Text
	}
	return w.Host + ": " + w.Text
}

// maxShown is the length in runes up to which found values are shown.
const maxShown = 60

// shown returns a value that came out of JSON or YAML as its writer would
// recognize it, on one line and not too long.
func shown(v any) string {
	switch v := v.(type) {
	case nil:
		return "nothing"
	case string:
		return fmt.Sprintf("%q", cut(v, maxShown))
	}
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprintf("a %T", v)
	}
	return cut(string(text), maxShown)
}

// cut shortens s to at most n runes.
func cut(s string, n int) string {
	runes := 0
	for i := range s {
		if runes++; runes > n {
			return s[:i] + "…"
		}
	}
	return s
}
