//go:build page

package web

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/mailru/easyjson"

	"mobula/helper/internal/report"
)

// axNode is a node of the accessibility tree, as the browser's protocol has it.
type axNode struct {
	ID       string   `json:"nodeId"`
	Ignored  bool     `json:"ignored"`
	Role     axValue  `json:"role"`
	Name     axValue  `json:"name"`
	Children []string `json:"childIds"`
}

type axValue struct {
	Value any `json:"value"`
}

func (v axValue) String() string { return fmt.Sprint(v.Value) }

// tree is what is read aloud.
type tree map[string]axNode

// tree reads it as it comes: the library's types know the roles of its own time only.
func (b *browser) tree() tree {
	b.t.Helper()
	var raw easyjson.RawMessage
	b.do(chromedp.ActionFunc(func(ctx context.Context) error {
		return chromedp.FromContext(ctx).Target.Execute(ctx, "Accessibility.getFullAXTree", nil, &raw)
	}))
	var reply struct {
		Nodes []axNode `json:"nodes"`
	}
	if err := json.Unmarshal(raw, &reply); err != nil {
		b.t.Fatal(err)
	}
	all := tree{}
	for _, n := range reply.Nodes {
		all[n.ID] = n
	}
	return all
}

// rows returns the rows of the table of that name, as lists of what their cells are called.
func (all tree) rows(table string) (rows [][]string) {
	for _, n := range all {
		if n.Role.String() == "table" && strings.HasPrefix(n.Name.String(), table) {
			all.visit(n, func(row axNode) {
				if row.Role.String() != "row" {
					return
				}
				var cells []string
				all.visit(row, func(c axNode) {
					switch c.Role.String() {
					case "cell", "gridcell", "rowheader", "columnheader":
						cells = append(cells, c.Name.String())
					}
				})
				rows = append(rows, cells)
			})
		}
	}
	return rows
}

func (all tree) visit(n axNode, f func(axNode)) {
	if !n.Ignored {
		f(n)
	}
	for _, id := range n.Children {
		all.visit(all[id], f)
	}
}

// compare holds what is read aloud against what the JSON says.
func (b *browser) compare() {
	b.t.Helper()
	m, all := b.told(), b.tree()
	var texts, buttons strings.Builder
	for _, n := range all {
		switch n.Role.String() {
		case "StaticText":
			texts.WriteString(n.Name.String() + "\n")
		case "button":
			buttons.WriteString(n.Name.String() + "\n")
		}
	}
	for _, p := range m.Problems {
		if !strings.Contains(texts.String(), p.Text) || !strings.Contains(texts.String(), p.Do) {
			b.t.Errorf("not read aloud: %q", p.Text)
		}
	}
	b.compareInside(all, m)
	ways, hosts := all.rows("The way of each host"), all.rows("All hosts")
	if len(ways) != len(m.Hosts)+1 || len(hosts) != len(m.Hosts)+1 {
		b.t.Fatalf("found %d and %d rows, wanted %d and a heading", len(ways), len(hosts), len(m.Hosts))
	}
	for i, h := range m.Hosts {
		if !strings.Contains(buttons.String(), h.Name+": ") {
			b.t.Errorf("%s is not on the map", h.Name)
		}
		row := hosts[i+1]
		want := []string{h.Name, "answers", fmt.Sprint(h.Direct), fmt.Sprint(h.Relayed), fmt.Sprint(h.Down), fmt.Sprint(h.Unknown)}
		if !h.Answers() {
			want = []string{h.Name, "unreachable from alice", "–", "–", "–", "–"}
		}
		if fmt.Sprint(row[:6]) != fmt.Sprint(want) {
			b.t.Errorf("found the row %q, wanted %q", row, want)
		}
		told := map[uint16]string{}
		for _, w := range h.Ways {
			told[w.To] = wordsOf(m, w)
		}
		for k, to := range m.Hosts {
			want := told[to.HostID]
			switch {
			case to.HostID == h.HostID:
				want = "·"
			case want == "":
				want = "not told"
			}
			if found := ways[i+1][k+1]; ways[0][k+1] != to.Name || ways[i+1][0] != h.Name || found != want {
				b.t.Errorf("from %s to %s: found %q, wanted %q", ways[i+1][0], ways[0][k+1], found, want)
			}
		}
	}
}

// compareInside holds the tables of names and clients against what the JSON says.
func (b *browser) compareInside(all tree, m report.Mesh) {
	b.t.Helper()
	names, clients := all.rows("Private names"), all.rows("Administrators")
	if len(names) != len(m.Names.List)+1 || len(clients) != len(m.Clients.List)+1 {
		b.t.Fatalf("found %d names and %d clients, wanted %d and %d and a heading", len(names), len(clients), len(m.Names.List), len(m.Clients.List))
	}
	for i, n := range m.Names.List {
		of := n.Of
		if of == "extra" {
			of = "extra_hosts.yml"
		}
		if want := []string{n.Name, n.Address.String(), of}; fmt.Sprint(names[i+1]) != fmt.Sprint(want) {
			b.t.Errorf("found the name %q, wanted %q", names[i+1], want)
		}
	}
	for i, c := range m.Clients.List {
		want := []string{c.Name, c.Address.String(), "none known", "–"}
		if c.Name == "" {
			want[0] = want[1]
		}
		row := clients[i+1]
		if c.LastHandshake != nil {
			want[2], want[3] = row[2], m.Name(c.HostID)
			isAge := false
			for d := time.Duration(-3); d < 300 && !isAge; d++ { // a busy machine has looked before it asks
				isAge = row[2] == ageOf(m.Asked.Sub(*c.LastHandshake)-d*time.Second)
			}
			if !isAge {
				b.t.Errorf("found %q for a handshake at %v, asked at %v", row, c.LastHandshake, m.Asked)
			}
		}
		if fmt.Sprint(row) != fmt.Sprint(want) {
			b.t.Errorf("found the client %q, wanted %q", row, want)
		}
	}
}

// ageOf says how long ago something was, as the page does.
func ageOf(d time.Duration) string {
	s := int(d.Seconds())
	for _, u := range []struct {
		s, less     int
		unit, lower string
	}{{86400, 3600, "d", "h"}, {3600, 60, "h", "min"}, {60, 1, "min", "s"}} {
		if s >= u.s && s%u.s/u.less > 0 {
			return fmt.Sprintf("%d %s %d %s ago", s/u.s, u.unit, s%u.s/u.less, u.lower)
		} else if s >= u.s {
			return fmt.Sprintf("%d %s ago", s/u.s, u.unit)
		}
	}
	return fmt.Sprintf("%d s ago", s)
}

// wordsOf says how a way is, as a table does.
func wordsOf(m report.Mesh, w report.Way) string {
	if w.State != report.Up {
		return w.State
	}
	text := fmt.Sprintf("%.0f ms", w.RTT)
	if w.RTT < 10 {
		text = fmt.Sprintf("%.1f ms", w.RTT)
	}
	switch {
	case w.Kind == report.Carried:
		return "by " + m.Name(w.Via) + " (carried) " + text
	case w.Via != 0:
		return "by " + m.Name(w.Via) + " " + text
	case w.Kind == report.Punched:
		return "punched " + text
	}
	return text
}
