package firewall

import (
	"context"
	"encoding/json"
	"fmt"
)

// Refused counts packets that the gateway or its host dropped because a guest or client may
// not send them, since the rules were loaded.
type Refused struct {
	What    string // such as "host's metadata"
	Packets uint64
}

// refusals are the ruleset's named counters, in words.
var refusals = []struct{ counter, what string }{
	{"guest_metadata", "host's metadata"},
	{"guest_source", "address of another network"},
	{"guest_connections", "more connections than one may have"},
	{"guest_neighbors", "asks for too many addresses of the access network"},
	{"guest_host", "host's addresses outside"},
}

// Refused reads the counters; those that are 0 are left out.
func (f *Firewall) Refused(ctx context.Context) ([]Refused, error) {
	if !f.program.Exists(f.namespace) || f.rare && !f.onRecord() {
		return nil, nil
	}
	out, err := f.nft(ctx, "", "--json", "list", "counters", "inet")
	if err != nil {
		return nil, err
	}
	var listing struct {
		NFTables []struct {
			Counter *struct {
				Table, Name string
				Packets     uint64
			}
		}
	}
	if err := json.Unmarshal([]byte(out), &listing); err != nil {
		return nil, fmt.Errorf("nft's list of counters: %w", err)
	}
	packets := map[string]uint64{}
	for _, o := range listing.NFTables {
		if o.Counter != nil && o.Counter.Table == table {
			packets[o.Counter.Name] = o.Counter.Packets
		}
	}
	var all []Refused
	for _, r := range refusals {
		if n := packets[r.counter]; n > 0 {
			all = append(all, Refused{r.what, n})
		}
	}
	return all, nil
}
