// Package inventory makes the network document out of the operator's files: it
// reads them strictly, says everything that is wrong with them at once, with
// file and line, and is the only reader of YAML. It runs on the deployer.
package inventory

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"sort"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"mobula/helper/internal/network"
)

// Resolver resolves the names of endpoints. *net.Resolver is one.
type Resolver interface {
	// LookupNetIP returns the addresses of host; network is "ip4" or "ip6".
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Input is everything that a network is compiled from.
type Input struct {
	// Resolved is the inventory as Ansible resolved it, in JSON:
	//
	//	{"hosts": [{"name": "192.0.2.1", "vars": {"host_id": 1, …}, "other_vars": ["ntp_server", …]}]}
	//
	// It must hold all hosts of the inventory, also those left out by --limit.
	Resolved []byte
	// Sources are the paths of the inventory's sources. Those that are YAML files
	// are read to tell in which line a problem is.
	Sources []string
	// ExtraHostsFile, ExtraWiresFile and KeyFiles are paths. An empty path and a
	// missing or empty file mean none.
	ExtraHostsFile, ExtraWiresFile string
	KeyFiles                       KeyFiles
	// Collected is what the hosts contacted in this run reported, by inventory name.
	Collected map[string]Reported
	// Phase says which of their keys hosts use. Here are the hosts that it begins with, by
	// inventory name; nil: nobody asks whether that is all of them.
	Phase Phase
	Here  []string
	// Resolver resolves endpoints that are names; nil: none of them resolves.
	Resolver Resolver
	// Now becomes the serial of a document that differs from the last one.
	Now time.Time
}

// Compiled is what comes out.
type Compiled struct {
	// Document is valid, in canonical order, and has its serial.
	Document *network.Document
	// Settings has every host by inventory name.
	Settings map[string]HostSettings
	// PublicKeys is what belongs into the key files now, of which Write
	// has to be called: Compile itself writes nothing.
	PublicKeys *PublicKeys
	Warnings   []Warning
}

// Compile reads and validates all input. Its error is a Problems with everything
// that is wrong, or says why the phase cannot begin; nothing is returned besides then.
func Compile(ctx context.Context, in Input) (*Compiled, error) {
	c := newCompilation(in)
	raw := c.resolved(in.Resolved)
	hosts := c.readHosts(raw)
	names := make([]string, len(hosts))
	for i, h := range hosts {
		names[i] = h.Name
	}
	if in.Here != nil {
		if err := in.Phase.begins(names, in.Here); err != nil {
			return nil, err
		}
	}
	c.unknownVariables(raw)
	c.resolveEndpoints(ctx, in.Resolver, hosts)
	c.mergeKeys(in, hosts, names)

	d := &network.Document{Format: network.FormatVersion}
	d.Ranges = c.ranges(hosts)
	d.UnderlayMTU = c.underlayMTU(hosts, in.Collected)
	d.Names = c.extraHosts.extraHosts(d.Ranges, c.extraHosts.open("extra_hosts"))
	d.Clients = c.extraWires.extraWires(fmt.Sprintf("a single address in %s, such as %s/32", d.Extrawire(), d.Extrawire().Addr().Next()), c.extraWires.open("extra_wires"))
	settings := make(map[string]HostSettings, len(hosts))
	for _, h := range hosts {
		for _, field := range h.meaningless() {
			if h.SharedUplink {
				c.warn(h.Name, "%s: has no meaning where uplink_mode is shared: the NIC and what is reachable by it stay as they are", field)
			} else {
				c.warn(h.Name, "%s: has no meaning where uplink_mode is moved: the gateway's firewall and resolver stand before those of the host", field)
			}
		}
		d.Hosts = append(d.Hosts, h.Host)
		settings[h.Name] = h.settings
		if h.PublicKey.IsZero() {
			c.warn(h.Name, "has no key yet; it joins at its first deploy")
		}
		if !d.HasAccessAddress(h.ID) {
			c.warn(h.Name, "host_id %d: has no address on the access network, because %v is its broadcast address: the host's name stands for %v, and its way outside is the direct link; take another ID to have one",
				h.ID, d.AccessBroadcast(), d.IntrawireAddress(h.ID))
		}
	}
	c.validate(d, hosts)
	if err := c.problems.err(); err != nil {
		return nil, err
	}
	c.keys.Number(d, in.Now)
	return &Compiled{d, settings, c.keys, c.warnings}, nil
}

// compilation is the state of one Compile.
type compilation struct {
	problems collection
	warnings []Warning
	sources  *sources
	// sourcesBroken: there may be more hosts than could be read.
	sourcesBroken bool
	// noRanges: nobody knows the networks that addresses have to be in.
	noRanges bool
	places   map[subject]place // what stands elsewhere than in the inventory
	keys     *PublicKeys

	extraHosts, extraWires *strictFile
}

func newCompilation(in Input) *compilation {
	c := &compilation{places: map[subject]place{}}
	c.sources = readSources(in.Sources, &c.problems)
	c.sourcesBroken = len(c.problems.list) > 0
	c.extraHosts = &strictFile{in.ExtraHostsFile, &c.problems, c.places}
	c.extraWires = &strictFile{in.ExtraWiresFile, &c.problems, c.places}
	c.keys = readKeys(in.KeyFiles, &c.problems, c.places)
	return c
}

func (c *compilation) warn(host, format string, args ...any) {
	c.warnings = append(c.warnings, Warning{host, fmt.Sprintf(format, args...)})
}

// report adds a problem of a field and finds out where the field stands.
func (c *compilation) report(entry, field, found, want string) {
	at, known := c.places[subject{entry, field}]
	if !known {
		at, known = c.sources.ownVariable(entry, field)
	}
	if !known {
		at = c.sources.host(entry)
	}
	c.problems.add(Problem{at.file, at.line, entry, field, found, want})
}

// resolved decodes the resolved inventory strictly.
func (c *compilation) resolved(data []byte) []rawHost {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	decoder.UseNumber()
	var raw rawInventory
	err := decoder.Decode(&raw)
	if err == nil {
		if _, err = decoder.Token(); errors.Is(err, io.EOF) {
			err = nil
		} else {
			err = errors.New("more after the end of the JSON object")
		}
	}
	if err != nil {
		found := "what cannot be read (" + err.Error() + ")"
		c.problems.add(Problem{Field: "resolved inventory", Found: found, Want: "one JSON object with the hosts"})
		return nil
	}
	// A source that is broken says itself why there are no hosts.
	if len(raw.Hosts) == 0 && !c.sourcesBroken {
		c.problems.add(Problem{Field: "inventory", Found: "no hosts", Want: "at least one"})
	}
	return raw.Hosts
}

func (c *compilation) readHosts(raw []rawHost) []*host {
	hosts := make([]*host, 0, len(raw))
	seen := make(map[string]bool, len(raw))
	for _, r := range raw {
		switch {
		case !isInventoryName(r.Name):
			c.report(r.Name, "inventory name", shown(r.Name), "1..255 bytes that can be printed")
			continue
		case seen[r.Name]:
			c.report(r.Name, "inventory name", shown(r.Name)+" twice", "each host once")
			continue
		}
		seen[r.Name] = true
		misread := c.withoutMisread(r)
		h := readHost(r, func(field, found, want string) {
			if !misread[field] {
				c.report(r.Name, field, found, want)
			}
		})
		for field := range misread {
			h.bad[field] = true
		}
		hosts = append(hosts, h)
	}
	return hosts
}

// withoutMisread takes out of a host's variables those about whose literals
// everything is said already, and returns them.
func (c *compilation) withoutMisread(r rawHost) (fields map[string]bool) {
	if len(c.sources.misread) == 0 {
		return nil
	}
	fields = map[string]bool{}
	for field := range r.Vars {
		if c.sources.isMisread(r.Name, field) {
			fields[field] = true
		}
	}
	for field := range fields {
		delete(r.Vars, field)
	}
	return fields
}

// isInventoryName reports whether a host's name can stand on one line of a file.
func isInventoryName(s string) bool {
	unprintable := func(r rune) bool { return !unicode.IsPrint(r) }
	return len(s) >= 1 && len(s) <= 255 && utf8.ValidString(s) && strings.IndexFunc(s, unprintable) < 0
}

// unknownVariables reports variables that look like a misspelled one of ours:
// those in a host's own block at each host, inherited ones once.
func (c *compilation) unknownVariables(raw []rawHost) {
	names := variableNames()
	known := setOf(names...)
	suggestions := newSuggester(names...)
	inherited := map[string][]string{} // variable → hosts
	var order []string
	check := func(host, variable string) {
		close := suggestions.suggest(variable)
		if close == "" || known[variable] {
			return
		}
		if _, own := c.sources.ownVariable(host, variable); own {
			c.report(host, variable, unknownFound, unknownWant(close))
			return
		}
		if inherited[variable] == nil {
			order = append(order, variable)
		}
		inherited[variable] = append(inherited[variable], host)
	}
	var unknown []string
	for _, r := range raw {
		unknown = unknown[:0]
		for variable := range r.Vars {
			if !known[variable] {
				unknown = append(unknown, variable)
			}
		}
		sort.Strings(unknown) // a map has no order
		for _, variable := range unknown {
			check(r.Name, variable)
		}
		for _, variable := range r.OtherVars {
			check(r.Name, variable)
		}
	}
	for _, variable := range order {
		hosts, found := inherited[variable], unknownFound
		if len(hosts) > 1 {
			found += fmt.Sprintf(" (on %d other hosts too)", len(hosts)-1)
		}
		at, inGroup := c.sources.groupVariable(variable)
		if !inGroup {
			at = c.sources.host(hosts[0])
		}
		c.problems.add(Problem{at.file, at.line, hosts[0], variable, found, unknownWant(suggestions.suggest(variable))})
	}
}

const unknownFound = "a variable that Mobula does not know"

func unknownWant(close string) string {
	return fmt.Sprintf("%q (did you mean that? rename a variable of your own that is so close to it)", close)
}

// mergeKeys gives the hosts their public keys.
func (c *compilation) mergeKeys(in Input, hosts []*host, names []string) {
	replaced := c.keys.Merge(in.Phase, in.Collected, names)
	for _, h := range hosts {
		k := c.keys.Hosts[h.Name]
		if replaced[h.Name] {
			// What the file says about this host has been replaced.
			delete(c.places, subject{h.Name, "key"})
			delete(c.places, subject{h.Name, "reported MTU"})
			k.HostID = h.ID
		}
		h.PublicKey, h.AlsoKey = k.PublicKey, k.AlsoKey
		if h.mode == "" { // as the host has it; new ones keep their NICs
			h.mode = k.UplinkMode
			if h.mode == "" {
				h.mode = network.UplinkMode(h.PublicKey.IsZero())
			}
		}
		if h.SharedUplink = h.mode == network.UplinkMode(true); !h.PublicKey.IsZero() {
			k.UplinkMode = h.mode
			c.keys.Hosts[h.Name] = k
		}
	}
}

// runningMTU is the underlay MTU in bytes for members whose own is not known, because
// mobula_state.yml was lost: that with which they work.
func runningMTU(collected map[string]Reported) int {
	mtu := 0
	for _, k := range collected {
		if k.NetworkMTU != 0 && (mtu == 0 || k.NetworkMTU < mtu) {
			mtu = k.NetworkMTU
		}
	}
	if mtu < network.MinUnderlayMTU || mtu > network.MaxUnderlayMTU {
		return DefaultUnderlayMTU
	}
	return mtu
}

// underlayMTU returns the smallest MTU in bytes of all uplinks.
func (c *compilation) underlayMTU(hosts []*host, collected map[string]Reported) int {
	smallest, running := network.MaxUnderlayMTU, runningMTU(collected)
	least, want := leastUnderlayMTU(hosts)
	for _, h := range hosts {
		mtu, reported := h.underlayMTU, ""
		if mtu == 0 {
			reported = ", which the host reported"
			mtu = c.keys.Hosts[h.Name].UnderlayMTU
		}
		switch {
		case mtu == 0 && !h.PublicKey.IsZero():
			mtu = running
		case mtu == 0:
			mtu = DefaultUnderlayMTU
		case mtu < least:
			at, known := c.places[subject{h.Name, "reported MTU"}]
			if !known || reported == "" {
				at = c.sources.host(h.Name)
			}
			c.problems.add(Problem{at.file, at.line, h.Name, "underlay_mtu", fmt.Sprint(mtu, reported), want})
			continue
		}
		smallest = min(smallest, mtu)
	}
	if len(hosts) == 0 {
		return DefaultUnderlayMTU
	}
	return smallest
}

// leastUnderlayMTU is the smallest in bytes that the network can do with.
func leastUnderlayMTU(hosts []*host) (least int, want string) {
	ipv6 := slices.ContainsFunc(hosts, func(h *host) bool { return len(h.IPv6Endpoints) > 0 })
	least, want = network.LeastUnderlayMTU(ipv6), wantUnderlayMTU
	if ipv6 {
		want = fmt.Sprintf("an integer in %d..%d bytes, as there are endpoints of IPv6", least, network.MaxUnderlayMTU)
	}
	return least, want
}

// validate adds what is wrong with the network as a whole, except where a field
// is not as it is because it could not be read, and addresses where nobody knows the
// networks that they have to be in.
func (c *compilation) validate(d *network.Document, hosts []*host) {
	unreadable, plural := map[subject]bool{}, map[string]bool{}
	for _, h := range hosts {
		plural[h.Name] = h.plural
		for field := range h.bad {
			unreadable[subject{h.Name, field}] = true
		}
		if h.IsUnreached() && !h.unreached || h.port == 0 {
			unreadable[subject{h.Name, h.endpointField()}] = true
		}
	}
	for _, p := range d.Validate() {
		if p.Field == "endpoint" && plural[p.Entry] {
			p.Field = "endpoints" // it is the first of them
		} else if p.Field == "endpoints" && !plural[p.Entry] {
			p.Field = "endpoint" // it is one of IPv6
		}
		if !unreadable[subject{p.Entry, p.Field}] && (!c.noRanges || p.Field != "address" && p.Field != "endpoint" && p.Field != "endpoints") {
			c.report(p.Entry, p.Field, p.Found, p.Want)
		}
	}
}
