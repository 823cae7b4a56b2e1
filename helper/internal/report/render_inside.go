package report

import (
	"fmt"
	"math"
	"time"
)

// maxClientRows bounds the clients that are printed.
const maxClientRows = 20

// clients lists the administrators' clients, first those that were heard last.
func (r *renderer) clients() {
	c := r.Mesh.Clients
	if c == nil || len(c.List) == 0 {
		return
	}
	r.line(plain, "")
	rows := [][]cell{{{"CLIENT", bold}, {"ADDRESS", bold}, {"HANDSHAKE", bold}, {"AT", bold}}}
	for i, client := range c.List {
		if i == maxClientRows {
			break
		}
		rows = append(rows, r.client(client))
	}
	r.table(rows)
	if more := len(c.List) + c.More - (len(rows) - 1); more > 0 {
		r.line(plain, "%s", wrapped("", fmt.Sprintf("%d more; --json has those that were heard last, up to %d", more, MaxClients), r.Width))
	}
	if len(c.UnknownAt) > 0 {
		j := judge{Mesh: r.Mesh}
		r.line(plain, "%s", wrapped("", fmt.Sprintf("Clients may have come in by %s meanwhile, which %s: no answer, not a whole one, or an older version.",
			j.names(c.UnknownAt), plural(c.UnknownAt, "does not tell", "do not tell")), r.Width))
	}
}

func (r *renderer) client(c Client) []cell {
	row := []cell{{c.Name, plain}, {c.Address.String(), plain}, {"none known", faint}, {"", plain}}
	if c.Name == "" {
		row[0].text = "-"
	}
	if c.LastHandshake != nil {
		since := max(0, r.Asked.Sub(*c.LastHandshake)) / time.Second
		row[2], row[3] = cell{ago(uint32(min(since, math.MaxUint32))) + " ago", plain}, cell{r.label(c.HostID), plain}
	}
	return row
}

// names counts the private names: there are as many as hosts, at least.
func (r *renderer) names() {
	if n := r.Mesh.Names; n != nil && len(n.List) > 0 {
		r.line(plain, "%s; --json lists them", count(len(n.List)+n.More, "private name", "private names"))
	}
}
