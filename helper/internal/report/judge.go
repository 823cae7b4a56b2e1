package report

import (
	"fmt"
	"sort"
	"strings"
)

// Problem is something that is wrong, in plain words, and what to do about it.
type Problem struct {
	// Severity is one of the constants.
	Severity string `json:"severity"`
	// Hosts are those that it is about.
	Hosts []uint16 `json:"hosts"`
	Text  string   `json:"text"`
	Do    string   `json:"do,omitempty"`
}

// How bad a problem is: whether data gets lost, or goes another way, or neither.
const (
	Bad  = "bad"
	Poor = "poor"
	Note = "note"
)

// Group are the hosts that say the same, such as the same generation.
type Group struct {
	Value string   `json:"value"`
	Hosts []uint16 `json:"hosts"`
}

// Judge fills in what follows from what the hosts say.
func (m *Mesh) Judge() {
	m.Generations = m.group(func(h *Host) string { return h.Generation })
	m.Versions = m.group(func(h *Host) string { return h.Version })
	j := judge{Mesh: m, byID: map[uint16]*Host{}}
	for i := range m.Hosts {
		j.byID[m.Hosts[i].HostID] = &m.Hosts[i]
	}
	j.answers()
	j.ways()
	j.agreement()
	j.own()
	order := map[string]int{Bad: 0, Poor: 1, Note: 2}
	sort.SliceStable(j.found, func(a, b int) bool { return order[j.found[a].Severity] < order[j.found[b].Severity] })
	m.Problems = append([]Problem{}, j.found...)
}

// group sorts the hosts by what they say; the largest group is first.
func (m *Mesh) group(by func(*Host) string) []Group {
	index, groups := map[string]int{}, []Group{}
	for i := range m.Hosts {
		value := by(&m.Hosts[i])
		if value == "" {
			continue
		}
		at, ok := index[value]
		if !ok {
			at = len(groups)
			index[value], groups = at, append(groups, Group{Value: value})
		}
		groups[at].Hosts = append(groups[at].Hosts, m.Hosts[i].HostID)
	}
	sort.SliceStable(groups, func(a, b int) bool { return len(groups[a].Hosts) > len(groups[b].Hosts) })
	return groups
}

// judge collects problems.
type judge struct {
	*Mesh
	byID  map[uint16]*Host
	found []Problem
}

func (j *judge) add(severity, text, do string, hosts ...uint16) {
	j.found = append(j.found, Problem{Severity: severity, Hosts: append([]uint16{}, hosts...), Text: text, Do: do})
}

// Name is what a host is called; by its ID if it is not in the document.
func (m *Mesh) Name(id uint16) string {
	at := sort.Search(len(m.Hosts), func(i int) bool { return m.Hosts[i].HostID >= id })
	if at < len(m.Hosts) && m.Hosts[at].HostID == id && m.Hosts[at].Name != "" {
		return m.Hosts[at].Name
	}
	return fmt.Sprintf("host %d", id)
}

// names lists hosts, the first few by name.
func (m *Mesh) names(ids []uint16) string {
	const most = 6
	var all []string
	for i, id := range ids {
		if i == most-1 && len(ids) > most {
			all = append(all, fmt.Sprintf("%d more", len(ids)-i))
			break
		}
		all = append(all, m.Name(id))
	}
	if n := len(all); n > 1 {
		return strings.Join(all[:n-1], ", ") + " and " + all[n-1]
	}
	return strings.Join(all, "")
}

// answers tells which hosts do not answer, and who else reaches them.
func (j *judge) answers() {
	sees, answering := j.reached()
	var silent, late, gone []uint16
	for i := range j.Hosts {
		h := &j.Hosts[i]
		switch h.Answer {
		case Silent:
			silent = append(silent, h.HostID)
		case NotInTime:
			late = append(late, h.HostID)
		case InPart:
			j.add(Note, h.Name+" answered in part: some of its ways did not arrive", "Ask again.", h.HostID)
		case Unreachable:
			if by := sees[h.HostID]; by > 0 {
				j.add(Bad, fmt.Sprintf("%s does not reach %s, but %s", j.Name(j.AskedBy), h.Name, count(by, "other host does", "other hosts do")),
					"Look at the packet filters between the two, and ask one of the others: mobula status --mesh.", j.AskedBy, h.HostID)
			} else {
				gone = append(gone, h.HostID)
			}
		}
	}
	j.unreachable(gone, answering)
	if len(silent) > 0 {
		j.add(Note, fmt.Sprintf("%s %s this question: an older version?", j.names(silent), plural(silent, "does not answer", "do not answer")),
			"Deploy there, with the version that the others have. If they have it: on them, journalctl -u mobula-agent.", silent...)
	}
	if len(late) > 0 {
		j.add(Note, fmt.Sprintf("%s %s not answer before time was over", j.names(late), plural(late, "did", "did")), "Ask again.", late...)
	}
}

// unreachable tells of hosts that nobody reaches.
func (j *judge) unreachable(gone []uint16, answering int) {
	switch {
	case len(gone) == 0:
	case answering > 1:
		j.add(Bad, fmt.Sprintf("%s %s unreachable: none of the %d hosts that answer reaches %s", j.names(gone), plural(gone, "is", "are"), answering, plural(gone, "it", "them")),
			"Is it switched on, and is the network there? On it: mobula status. From outside its WireGuard port (UDP) has to be reachable.", gone...)
	case len(gone) > 1 && len(gone) == len(j.Hosts)-1:
		j.add(Bad, j.Name(j.AskedBy)+" reaches none of the others", "It is this host, or its network, that is cut off: on it, mobula status. Ask another host as well.", j.AskedBy)
	default:
		j.add(Bad, fmt.Sprintf("%s %s unreachable from %s", j.names(gone), plural(gone, "is", "are"), j.Name(j.AskedBy)),
			"Is it switched on? Ask another host as well: this one may be the one that is cut off.", gone...)
	}
}

// reached counts, for each host that is unreachable from here, who reaches it; and the hosts
// that answer.
func (j *judge) reached() (by map[uint16]int, answering int) {
	by = map[uint16]int{}
	for i := range j.Hosts {
		if j.Hosts[i].Answers() {
			answering++
		}
	}
	for i := range j.Hosts {
		h := &j.Hosts[i]
		if !h.Answers() || h.HostID == j.AskedBy {
			continue
		}
		told := map[uint16]bool{}
		for _, w := range h.Ways {
			told[w.To] = true
			if other := j.byID[w.To]; other != nil && other.Answer == Unreachable && w.State == Up {
				by[w.To]++
			}
		}
		if j.Mesh.Ways == Exceptions && h.UntoldWays == 0 && h.Answer == Answered { // what is not told is up
			for k := range j.Hosts {
				if to := &j.Hosts[k]; to.Answer == Unreachable && !told[to.HostID] && h.Generation == j.Generation {
					by[to.HostID]++
				}
			}
		}
	}
	return by, answering
}

// Pair are the ways between two hosts of which one at least is an exception.
type Pair struct {
	A, B uint16 // A < B
	// There is the way from A to B, Back that from B to A; nil: not told.
	There, Back *Way
}

// Pairs returns what is not as in a network that is well, by the IDs. Ways to hosts that
// do not answer are not among them: that is told of the host.
func (m *Mesh) Pairs() []Pair {
	byID := map[uint16]*Host{}
	for i := range m.Hosts {
		byID[m.Hosts[i].HostID] = &m.Hosts[i]
	}
	index, pairs := map[[2]uint16]int{}, []Pair{}
	for i := range m.Hosts {
		h := &m.Hosts[i]
		for k := range h.Ways {
			w := &h.Ways[k]
			if to := byID[w.To]; !w.Exception() || to != nil && to.Answer == Unreachable && w.State != Up {
				continue
			}
			key := [2]uint16{min(h.HostID, w.To), max(h.HostID, w.To)}
			at, ok := index[key]
			if !ok {
				at = len(pairs)
				index[key], pairs = at, append(pairs, Pair{A: key[0], B: key[1]})
			}
			if h.HostID == key[0] {
				pairs[at].There = w
			} else {
				pairs[at].Back = w
			}
		}
	}
	sort.Slice(pairs, func(a, b int) bool {
		return pairs[a].A < pairs[b].A || pairs[a].A == pairs[b].A && pairs[a].B < pairs[b].B
	})
	return pairs
}

// ways tells of the ways that are down, relayed or poor. Where one host is the reason of
// many it is told once.
func (j *judge) ways() {
	kinds := []struct {
		is                        func(*Way) bool
		severity, what, ofOne, do string
	}{
		{func(w *Way) bool { return w.State == Down }, Bad, "do not reach each other, nor by a third host", "does not reach %d others, nor by a third host",
			"Look at what is between them: packet filters and routers on the way of WireGuard's UDP ports."},
		{func(w *Way) bool { return w.State == Up && w.Via != 0 }, Poor, "reach each other by a third host: the direct path does not answer, or was poor", "is reached by way of third hosts by %d others",
			"Is WireGuard's UDP port let through between them? On one of them, mobula status says more."},
		{func(w *Way) bool { return w.State == Up && w.LargeLost }, Bad, "lose packets of full size", "loses packets of full size to %d others",
			"The MTU of the way between them is smaller than that of the network: set underlay_mtu, and deploy."},
		{(*Way).lossyWay, Poor, "lose packets", "loses packets to %d others", "Look at the load and the quality of the lines in between."},
	}
	pairs := j.Pairs()
	for _, k := range kinds {
		of := map[uint16]int{}
		var is []Pair
		for _, p := range pairs {
			if p.There != nil && k.is(p.There) || p.Back != nil && k.is(p.Back) {
				is = append(is, p)
				of[p.A]++
				of[p.B]++
			}
		}
		j.culprits(is, of, k.severity, k.what, k.ofOne, k.do)
	}
}

func (w *Way) lossyWay() bool { return w.Lossy() }

// culprits tells of pairs, those of one host that has three or more of them once.
func (j *judge) culprits(pairs []Pair, of map[uint16]int, severity, what, ofOne, do string) {
	const many, most = 3, 10
	told := 0
	for len(pairs) > 0 {
		worst := uint16(0)
		for _, p := range pairs {
			for _, id := range []uint16{p.A, p.B} {
				if worst == 0 || of[id] > of[worst] || of[id] == of[worst] && id < worst {
					worst = id
				}
			}
		}
		if told++; told > most {
			j.add(severity, fmt.Sprintf("%s more %s", count(len(pairs), "pair of hosts", "pairs of hosts"), what), do)
			return
		}
		if of[worst] < many {
			p := pairs[0]
			j.add(severity, fmt.Sprintf("%s and %s %s%s", j.Name(p.A), j.Name(p.B), what, onlyOneWay(p)), do, p.A, p.B)
			pairs = pairs[1:]
			of[p.A]--
			of[p.B]--
			continue
		}
		j.add(severity, fmt.Sprintf("%s "+ofOne, j.Name(worst), of[worst]), do, worst)
		var rest []Pair
		for _, p := range pairs {
			if p.A == worst || p.B == worst {
				of[p.A]--
				of[p.B]--
				continue
			}
			rest = append(rest, p)
		}
		pairs = rest
	}
}

// onlyOneWay says which of two hosts sees what the other one does not.
func onlyOneWay(p Pair) string {
	if p.There != nil && p.Back != nil {
		return ""
	}
	return ", as one of them says"
}

// agreement tells of generations and versions that differ.
func (j *judge) agreement() {
	if len(j.Generations) > 1 {
		j.add(Note, fmt.Sprintf("%d generations of the network run: %s", len(j.Generations), j.groups(j.Generations)), "Deploy to all hosts.", minority(j.Generations)...)
	}
	var other []uint16
	for i := range j.Hosts {
		if j.Hosts[i].OtherGeneration {
			other = append(other, j.Hosts[i].HostID)
		}
	}
	if len(other) > 0 {
		j.add(Note, fmt.Sprintf("%s %s another generation than %s", j.names(other), plural(other, "runs", "run"), j.Name(j.AskedBy)), "Deploy to all hosts.", other...)
	}
	if len(j.Versions) > 1 {
		j.add(Note, fmt.Sprintf("%d versions of Mobula run: %s", len(j.Versions), j.groups(j.Versions)), "Deploy to all hosts.", minority(j.Versions)...)
	}
}

func (j *judge) groups(groups []Group) string {
	const most = 4
	var texts []string
	for i, g := range groups {
		if i == most {
			texts = append(texts, fmt.Sprintf("and %d more", len(groups)-i))
			break
		}
		who := j.names(g.Hosts)
		if i == 0 && len(g.Hosts) > 2 {
			who = count(len(g.Hosts), "host", "hosts")
		}
		texts = append(texts, fmt.Sprintf("%s on %s", g.Value, who))
	}
	return strings.Join(texts, "; ")
}

// minority are the hosts outside of the first group.
func minority(groups []Group) (ids []uint16) {
	for _, g := range groups[1:] {
		ids = append(ids, g.Hosts...)
	}
	return ids
}

// own tells what hosts say of themselves.
func (j *judge) own() {
	for i := range j.Hosts {
		h := &j.Hosts[i]
		for _, text := range h.Problems {
			j.add(Note, h.Name+": "+text, "", h.HostID)
		}
		if h.MoreProblems > 0 {
			j.add(Note, fmt.Sprintf("%s: %d more", h.Name, h.MoreProblems), "On it: mobula status.", h.HostID)
		}
		if h.UntoldWays > 0 {
			j.add(Note, fmt.Sprintf("%s: %d more of its ways are not as they should be", h.Name, h.UntoldWays), "On it: mobula status.", h.HostID)
		}
	}
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

func plural(ids []uint16, one, many string) string {
	if len(ids) == 1 {
		return one
	}
	return many
}
