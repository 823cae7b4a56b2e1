package vswitch

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// bridge is a bridge as the database has it.
type bridge struct {
	name     string
	settings map[string]string // column or column:key → value
	external map[string]string
	ports    map[string]bridgePort // by name
	waits    bool                  // ovs-vswitchd leaves the kernel's flows alone until it is told to go on
}

// bridgePort is a port of a bridge with its one interface.
type bridgePort struct {
	Type      string
	Options   map[string]string
	OFPort    int // -1: ovs-vswitchd could not make it; 0: not yet
	Requested int
	MTU       int // requested
	Error     string
}

// row is one row of a table of the database.
type row map[string]json.RawMessage

// listing is what ovs-vsctl --format=json prints for a table.
type listing struct {
	Headings []string            `json:"headings"`
	Data     [][]json.RawMessage `json:"data"`
}

// observe reads all bridges in one transaction. It returns none, and no error,
// if the database is not served.
func (s *Switch) observe(ctx context.Context) (map[string]bridge, error) {
	if !s.databaseRuns() {
		return nil, nil
	}
	out, err := s.tools.vsctl(ctx, "--no-wait", "--dry-run", "--format=json",
		"--", "--columns=name,ports,fail_mode,datapath_type,protocols,mcast_snooping_enable,stp_enable,rstp_enable,other_config,external_ids", "list", "Bridge",
		"--", "--columns=_uuid,name,interfaces", "list", "Port",
		"--", "--columns=_uuid,name,type,options,ofport,ofport_request,mtu_request,error", "list", "Interface",
		"--", "--columns=other_config", "list", "Open_vSwitch")
	if err != nil {
		return nil, fmt.Errorf("reading the switch: %w", err)
	}
	bridges, err := parseDatabase(out)
	if err != nil {
		return nil, fmt.Errorf("reading the switch: %w", err)
	}
	return bridges, nil
}

func parseDatabase(out []byte) (map[string]bridge, error) {
	var tables [4][]row
	decoder := json.NewDecoder(bytes.NewReader(out))
	for i := range tables {
		var l listing
		if err := decoder.Decode(&l); err != nil {
			return nil, fmt.Errorf("table %d: %w", i, err)
		}
		for _, values := range l.Data {
			if len(values) != len(l.Headings) {
				return nil, errors.New("a row is not as long as its headings")
			}
			r := row{}
			for j, heading := range l.Headings {
				r[heading] = values[j]
			}
			tables[i] = append(tables[i], r)
		}
	}
	bridges, err := assemble(tables[0], tables[1], tables[2])
	if err != nil {
		return nil, err
	}
	for _, r := range tables[3] {
		for name, b := range bridges {
			b.waits = r.pairs("other_config")[restoreWait] == "true"
			bridges[name] = b
		}
	}
	return bridges, nil
}

func assemble(bridgeRows, portRows, interfaceRows []row) (map[string]bridge, error) {
	interfaces := map[string]bridgePort{}
	for _, r := range interfaceRows {
		interfaces[r.text("_uuid")] = bridgePort{
			Type: r.text("type"), Options: r.pairs("options"), OFPort: r.number("ofport"),
			Requested: r.number("ofport_request"), MTU: r.number("mtu_request"), Error: r.text("error"),
		}
	}
	ports := map[string]row{}
	for _, r := range portRows {
		ports[r.text("_uuid")] = r
	}
	bridges := map[string]bridge{}
	for _, r := range bridgeRows {
		b := bridge{name: r.text("name"), settings: map[string]string{}, external: r.pairs("external_ids"), ports: map[string]bridgePort{}}
		for _, column := range []string{"fail_mode", "datapath_type", "protocols", "mcast_snooping_enable", "stp_enable", "rstp_enable"} {
			b.settings[column] = r.text(column)
		}
		for key, value := range r.pairs("other_config") {
			b.settings["other_config:"+key] = value
		}
		for _, id := range r.list("ports") {
			p, ok := ports[id]
			if !ok {
				return nil, fmt.Errorf("bridge %s has an unknown port", b.name)
			}
			b.ports[p.text("name")] = interfaces[p.text("interfaces")]
		}
		bridges[b.name] = b
	}
	return bridges, nil
}

// text returns a value as text, a set as its members with commas between.
func (r row) text(column string) string { return strings.Join(r.list(column), ",") }

func (r row) number(column string) (n int) {
	_ = json.Unmarshal(r[column], &n) // an empty set stays 0
	return n
}

// list returns the members of a value as text (RFC 7047 section 5.1: an atom,
// ["uuid", …] or ["set", […]]).
func (r row) list(column string) []string {
	kind, content := tagged(r[column])
	if kind != "set" {
		return []string{atom(r[column])}
	}
	var members []json.RawMessage
	_ = json.Unmarshal(content, &members)
	var all []string
	for _, m := range members {
		all = append(all, atom(m))
	}
	return all
}

// pairs returns a value of the form ["map", [[key, value], …]].
func (r row) pairs(column string) map[string]string {
	all := map[string]string{}
	if kind, content := tagged(r[column]); kind == "map" {
		var pairs [][2]json.RawMessage
		_ = json.Unmarshal(content, &pairs)
		for _, p := range pairs {
			all[atom(p[0])] = atom(p[1])
		}
	}
	return all
}

// tagged splits ["set", …], ["map", …] and ["uuid", …].
func tagged(raw json.RawMessage) (kind string, content json.RawMessage) {
	var pair [2]json.RawMessage
	if json.Unmarshal(raw, &pair) == nil && json.Unmarshal(pair[0], &kind) == nil {
		return kind, pair[1]
	}
	return "", nil
}

// atom returns a string, number, boolean or UUID as text.
func atom(raw json.RawMessage) string {
	if kind, content := tagged(raw); kind == "uuid" {
		raw = content
	}
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	return string(raw)
}
