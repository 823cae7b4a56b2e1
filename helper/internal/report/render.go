package report

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"
)

// Options are those of Render.
type Options struct {
	// Width is that of the terminal, in columns.
	Width int
	// Color: escape sequences color what is not well (ECMA-48, SGR).
	Color bool
}

// maxProblems and maxExceptions bound what is printed; as JSON it is all there.
const (
	maxProblems   = 30
	maxExceptions = 60
)

// paint is how a text looks.
type paint string

const (
	plain  paint = ""
	red    paint = "\x1b[31m"
	yellow paint = "\x1b[33m"
	faint  paint = "\x1b[2m"
	bold   paint = "\x1b[1m"
	reset        = "\x1b[0m"
)

// Render writes a judged Mesh: what is wrong, then the way of each host to each other one
// where that fits into the width, else the exceptions.
func Render(w io.Writer, m *Mesh, o Options) error {
	r := renderer{Mesh: m, Options: o, labels: labels(m)}
	r.head()
	r.problems()
	cells := r.matrix()
	if m.Ways == AllWays && tableWidth(cells) <= o.Width {
		r.line(plain, "")
		r.line(faint, "The way of each host (row) to each other one (column): its round trip in ms, and by whom if it is not direct.")
		r.table(cells)
	} else {
		r.exceptions()
	}
	r.clients()
	r.names()
	r.agreement("generation", m.Generations)
	r.agreement("version", m.Versions)
	_, err := io.WriteString(w, r.out.String())
	return err
}

type renderer struct {
	*Mesh
	Options
	labels map[uint16]string
	out    strings.Builder
}

// labels are what hosts are called where there is little room: the first labels of their
// names, if those tell them apart.
func labels(m *Mesh) map[uint16]string {
	all, seen := map[uint16]string{}, map[string]int{}
	first := func(name string) string { label, _, _ := strings.Cut(name, "."); return label }
	for i := range m.Hosts {
		seen[first(m.Hosts[i].Name)]++
	}
	for i := range m.Hosts {
		h := &m.Hosts[i]
		if all[h.HostID] = first(h.Name); seen[first(h.Name)] > 1 {
			all[h.HostID] = h.Name
		}
	}
	return all
}

// label is what a host is called in a table.
func (r *renderer) label(id uint16) string {
	if l := r.labels[id]; l != "" {
		return l
	}
	return r.Name(id)
}

func (r *renderer) line(p paint, format string, args ...any) {
	r.out.WriteString(r.painted(p, fmt.Sprintf(format, args...)) + "\n")
}

func (r *renderer) painted(p paint, text string) string {
	if !r.Color || p == plain || text == "" {
		return text
	}
	return string(p) + text + reset
}

func (r *renderer) head() {
	answering := 0
	for i := range r.Hosts {
		if r.Hosts[i].Answers() {
			answering++
		}
	}
	r.line(bold, "%d of %s answer, as %s was told in %.1f s", answering, count(len(r.Hosts), "host", "hosts"), r.Name(r.AskedBy), r.TookSeconds)
}

// problems are sentences with what to do, the worst first.
func (r *renderer) problems() {
	if len(r.Problems) == 0 {
		r.line(plain, "nothing is wrong that they know of")
		return
	}
	paints := map[string]paint{Bad: red, Poor: yellow}
	for i, p := range r.Problems {
		if i == maxProblems {
			r.line(plain, "%d more; --json has all", len(r.Problems)-i)
			break
		}
		r.line(paints[p.Severity], "%s", wrapped("* ", p.Text, r.Width))
		if p.Do != "" {
			r.line(faint, "%s", wrapped("  ", p.Do, r.Width))
		}
	}
}

// wrapped breaks a text into lines of that width, where it has spaces; the first begins with
// the given mark, the others with as many spaces.
func wrapped(mark, text string, width int) string {
	var b strings.Builder
	b.WriteString(mark)
	at := len(mark)
	for i, word := range strings.Fields(text) {
		n := utf8.RuneCountInString(word)
		if i > 0 && at+1+n > width {
			b.WriteString("\n" + strings.Repeat(" ", len(mark)))
			at = len(mark)
		} else if i > 0 {
			b.WriteString(" ")
			at++
		}
		b.WriteString(word)
		at += n
	}
	return b.String()
}

// cell is one field of a table.
type cell struct {
	text  string
	paint paint
}

// matrix has a row for each host that answers, a column for each host, and headings.
func (r *renderer) matrix() [][]cell {
	column := map[uint16]int{}
	head := []cell{{}}
	for i := range r.Hosts {
		column[r.Hosts[i].HostID] = len(head)
		head = append(head, cell{r.label(r.Hosts[i].HostID), bold})
	}
	rows := [][]cell{head}
	for i := range r.Hosts {
		h := &r.Hosts[i]
		row := make([]cell, len(head))
		row[0] = cell{r.label(h.HostID), bold}
		for k := range row[1:] {
			row[k+1] = cell{"?", faint}
			if r.Hosts[k].HostID == h.HostID {
				row[k+1] = cell{"·", faint}
			}
		}
		if !h.Answers() {
			row[0].paint = red
		}
		for _, w := range h.Ways {
			if at := column[w.To]; at > 0 {
				row[at] = r.cell(w)
			}
		}
		rows = append(rows, row)
	}
	return rows
}

// cell says in a few characters how a way is.
func (r *renderer) cell(w Way) cell {
	switch w.State {
	case Down:
		return cell{"down", red}
	case Unknown:
		return cell{"?", faint}
	}
	c := cell{text: trip(w.RTT)}
	if w.Via != 0 {
		by := r.label(w.Via)
		if w.Kind == Carried {
			by += " (carried)"
		}
		c = cell{by + " " + c.text, yellow}
	}
	if w.Lossy() {
		c = cell{fmt.Sprintf("%s -%.0f%%", c.text, 100*max(w.LossMinutes, w.Loss)), yellow}
	}
	if w.LargeLost {
		c = cell{c.text + " MTU", red}
	}
	return c
}

// trip is a round trip in milliseconds with two digits that count.
func trip(ms float64) string {
	switch {
	case ms == 0:
		return "up"
	case ms < 10:
		return fmt.Sprintf("%.1f", ms)
	}
	return fmt.Sprintf("%.0f", ms)
}

func widths(rows [][]cell) []int {
	all := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, c := range row {
			all[i] = max(all[i], utf8.RuneCountInString(c.text))
		}
	}
	return all
}

// tableWidth is how many columns of a terminal a table takes.
func tableWidth(rows [][]cell) int {
	n := 0
	for _, w := range widths(rows) {
		n += w + 2
	}
	return n - 2
}

func (r *renderer) table(rows [][]cell) {
	all := widths(rows)
	for _, row := range rows {
		var line strings.Builder
		spaces := 0
		for i, c := range row {
			line.WriteString(strings.Repeat(" ", spaces) + r.painted(c.paint, c.text))
			spaces = all[i] - utf8.RuneCountInString(c.text) + 2
		}
		r.line(plain, "%s", line.String())
	}
}

// exceptions lists what is not as in a network that is well.
func (r *renderer) exceptions() {
	ways, direct := 0, 0
	var trips []float64
	for i := range r.Hosts {
		h := &r.Hosts[i]
		ways += h.Direct + h.Relayed + h.Down + h.Unknown
		direct += h.Direct
		if h.MedianRTT > 0 {
			trips = append(trips, h.MedianRTT)
		}
	}
	r.line(plain, "")
	typical := ""
	if len(trips) > 0 {
		typical = fmt.Sprintf("; the median of a host's round trips is %s ms, on the slowest host %s ms", trip(median(trips)), trip(trips[len(trips)-1]))
	}
	r.line(faint, "%s", wrapped("", fmt.Sprintf("%d of %s are direct%s", direct, count(ways, "way", "ways"), typical), r.Width))
	rows := [][]cell{{{"FROM", bold}, {"TO", bold}, {"WAY", bold}, {"SINCE", bold}, {"RTT", bold}, {"LOSS", bold}, {"LOSS 5M", bold}, {"HANDSHAKE", bold}}}
	told := 0
	for _, p := range r.Pairs() {
		for _, one := range []struct {
			from, to uint16
			way      *Way
		}{{p.A, p.B, p.There}, {p.B, p.A, p.Back}} {
			if one.way == nil {
				continue
			}
			if told++; told <= maxExceptions {
				rows = append(rows, r.exception(one.from, one.to, *one.way))
			}
		}
	}
	if len(rows) > 1 {
		r.table(rows)
	}
	if told > maxExceptions {
		r.line(plain, "%d more; --json has all", told-maxExceptions)
	}
}

func (r *renderer) exception(from, to uint16, w Way) []cell {
	way := cell{w.words(r.label(w.Via)), plain}
	switch {
	case w.State == Down:
		way = cell{"down", red}
	case w.State == Unknown:
		way = cell{"unknown", faint}
	case w.LargeLost && w.Via != 0:
		way = cell{"loses packets of full size, " + way.text, red}
	case w.LargeLost:
		way = cell{"loses packets of full size", red}
	case w.Via != 0, w.Lossy():
		way.paint = yellow
	}
	rtt, handshake := "-", "never"
	if w.RTT > 0 {
		rtt = trip(w.RTT) + " ms"
	}
	if w.HandshakeSeconds >= 0 {
		handshake = ago(uint32(w.HandshakeSeconds)) + " ago"
	}
	return []cell{{r.label(from), plain}, {r.label(to), plain}, way, {ago(w.SinceSeconds), plain}, {rtt, plain},
		{fmt.Sprintf("%.0f %%", 100*w.Loss), plain}, {fmt.Sprintf("%.1f %%", 100*w.LossMinutes), plain}, {handshake, plain}}
}

func ago(seconds uint32) string { return (time.Duration(seconds) * time.Second).String() }

// agreement says what all hosts have in common, or who has what.
func (r *renderer) agreement(what string, groups []Group) {
	if len(groups) == 0 {
		return
	}
	j := judge{Mesh: r.Mesh}
	text := fmt.Sprintf("%s %s", what, groups[0].Value)
	if len(groups) > 1 {
		text = fmt.Sprintf("%ss: %s", what, j.groups(groups))
	} else if n := len(groups[0].Hosts); n < len(r.Hosts) {
		text += fmt.Sprintf(", as far as is known: of %d of %s", n, count(len(r.Hosts), "host", "hosts"))
	}
	r.line(plain, "%s", wrapped("", text, r.Width))
}
