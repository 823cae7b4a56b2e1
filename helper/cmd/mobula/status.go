package main

import (
	"fmt"
	"io"
	"net/netip"
	"strings"
	"text/tabwriter"
	"time"

	"mobula/helper/internal/firewall"
	"mobula/helper/internal/healing"
	"mobula/helper/internal/network"
	"mobula/helper/internal/packetfilter"
	"mobula/helper/internal/spec"
	"mobula/helper/internal/store"
	"mobula/helper/internal/vswitch"
	"mobula/helper/internal/wireguard"
)

// statusReport is what status prints as JSON.
type statusReport struct {
	HostID     uint16       `json:"host_id"`
	Hostname   string       `json:"hostname"`
	Generation string       `json:"generation"`
	Waiting    string       `json:"waiting_for_confirmation,omitempty"`
	PublicKey  network.Key  `json:"public_key"`
	Peers      []peerReport `json:"peers"`
	// Agent is why the agent does not answer; empty if it does.
	Agent string `json:"agent_error,omitempty"`
	// Unverified counts the agents' messages from unknown addresses that were too many
	// to be verified. What was too much of a peer is in its path.
	Unverified uint64 `json:"unverified_messages,omitempty"`
	// Dropped counts the frames on the access network that claimed somebody
	// else's address, DroppedBy tells what they claimed and who sent them.
	Dropped   uint64          `json:"dropped_frames"`
	DroppedBy []droppedReport `json:"dropped"`
	// Flooded counts the frames to everybody, or to stations that nobody knows, that
	// were too many for the other hosts since their bound was set last.
	Flooded uint64 `json:"flood_dropped_frames"`
	// FloodsUnbounded tells that the kernel's Open vSwitch cannot bound them.
	FloodsUnbounded bool `json:"floods_unbounded,omitempty"`
	// Refused counts what guests and clients may not send through the gateway.
	Refused []refusedReport `json:"refused,omitempty"`
	// Closed tells what the host's packet filters drop that Mobula needs.
	Closed []string `json:"closed_by_filters,omitempty"`
	// RelaysForNobody is why this host does not; empty if it relays.
	RelaysForNobody string `json:"relays_for_nobody,omitempty"`
	// Clock is what is wrong with this host's clock; empty: nothing that is known.
	Clock string `json:"clock,omitempty"`
	// Differences are what somebody else changed on this host; nil: not looked for.
	Differences []string `json:"differences"`
}

type droppedReport struct {
	Claimed string `json:"claimed"` // such as "gateway MAC"
	From    string `json:"from"`    // guest, tunnel or gateway
	Frames  uint64 `json:"frames"`
}

type refusedReport struct {
	What    string `json:"what"` // such as "host's metadata"
	Packets uint64 `json:"packets"`
}

type peerReport struct {
	Name          string         `json:"name"`
	HostID        uint16         `json:"host_id,omitempty"`
	Endpoint      netip.AddrPort `json:"endpoint"`
	LastHandshake *time.Time     `json:"last_handshake"`
	ReceiveBytes  int64          `json:"receive_bytes"`
	TransmitBytes int64          `json:"transmit_bytes"`
	// Relay is the name of the host that relays; empty: direct.
	Relay string `json:"relay,omitempty"`
	// Path is what the agent knows; nil for clients, and without an agent.
	Path *healing.PeerState `json:"path,omitempty"`
}

func statusCommand() command {
	return command{
		name: "status", arguments: "[--json] [--quick | --compare | --mesh [--watch]]",
		summary: "print what runs on this host and how its peers are",
		help: `Prints the generation, and for each peer: whether traffic goes to it directly or
over which relay and since when, the round trip, the share of probes lost in the
last seconds and in five minutes, the last handshake, bytes, and whether it runs
the same generation; then what became of the name of its endpoint, and what its agent,
or somebody in its name, asked more often than is answered. Then which frames the
switch dropped because they claimed the address of a gateway or host, how many because
they were too many to everybody, which packets the gateway refused to guests and
clients, what the host's own packet filters close where its NIC stays with it, and whether its
clock is behind what it has said before. --compare adds what differs from the plan, which
takes a look at all that there is; --quick leaves out what was dropped, refused and closed.
` + meshHelp,
		example: `mobula status
mobula status --compare --json
mobula status --mesh`,
		needsRoot: true,
		define: func(c *call) func() error {
			asJSON := c.jsonFlag()
			quick := c.flags.Bool("quick", false, "look at the peers alone")
			compare := c.flags.Bool("compare", false, "compare the host with its plan, too")
			ofMesh := c.meshFlags()
			return func() error {
				if *ofMesh.mesh || *ofMesh.watch {
					if *quick || *compare {
						return ofMesh.refuse()
					}
					return c.meshStatus(ofMesh, *asJSON)
				}
				report, err := c.status(*quick, *compare)
				if err != nil {
					return err
				}
				if *asJSON {
					return c.printJSON(report)
				}
				return c.printStatus(report)
			}
		},
	}
}

func (c *call) status(quick, compare bool) (*statusReport, error) {
	h := c.host()
	report := &statusReport{Generation: "none", Peers: []peerReport{}, DroppedBy: []droppedReport{}}
	pending, err := h.Store.Pending()
	if err != nil {
		return nil, err
	}
	if pending != nil {
		report.Waiting = pending.Generation()
	}
	running, err := h.Running()
	if err != nil || running == nil || running.Document == nil {
		return report, err
	}
	self, _ := running.Self()
	report.HostID, report.Hostname, report.Generation, report.PublicKey = running.HostID, self.Hostname, running.Generation(), self.PublicKey
	if report.Peers, err = c.peerReports(h.Store, running); err != nil {
		return nil, err
	}
	if err := report.addPaths(running.Document); err != nil {
		report.Agent = err.Error()
	}
	if !clockSynchronized() {
		report.Clock = clockBehind(time.Now(), saidBefore(report.Peers)...)
	}
	if self.SharedUplink {
		report.RelaysForNobody = relaying().Unable()
	}
	if quick {
		return report, nil
	}
	stats, err := vswitch.New(vswitch.Options{RunDir: spec.OVSDir}).Stats(c)
	if err != nil {
		return nil, fmt.Errorf("what the switch dropped: %w; 'mobula repair' puts it right, and --quick does not ask it", err)
	}
	report.Dropped = stats.DroppedPackets()
	for _, d := range stats.Dropped {
		report.DroppedBy = append(report.DroppedBy, droppedReport{d.Pin.String(), d.Origin.String(), d.Packets})
	}
	report.Flooded, report.FloodsUnbounded = stats.Flooded, stats.Unbounded
	for _, table := range []*firewall.Firewall{firewall.New(spec.Namespace, spec.RunDir), firewall.NewDoorway(spec.RunDir)} {
		refused, err := table.Refused(c)
		if err != nil {
			return nil, err
		}
		for _, r := range refused {
			report.Refused = append(report.Refused, refusedReport{r.What, r.Packets})
		}
	}
	facts, err := h.Store.Facts()
	if err != nil {
		return nil, err
	}
	if facts != nil {
		report.Closed = closed(c, facts, packetfilter.Evidence{Ranges: running.Document.Ranges, Port: self.ListenPort(), Unreached: self.IsUnreached(), Silent: silentHosts(report.Peers, running.Document, time.Now())})
	}
	if !compare {
		return report, nil
	}
	report.Differences = []string{}
	ops, err := h.Differences(c)
	for _, op := range ops {
		report.Differences = append(report.Differences, op.String())
	}
	return report, err
}

// addPaths asks the agent.
func (r *statusReport) addPaths(d *network.Document) error {
	state, err := healing.ReadState(statePath())
	if err != nil {
		return err
	}
	r.take(state, d)
	return nil
}

// take notes what the agent tells.
func (r *statusReport) take(state *healing.State, d *network.Document) {
	r.Unverified = state.Unverified
	byID := map[uint16]*healing.PeerState{}
	for i := range state.Peers {
		byID[state.Peers[i].HostID] = &state.Peers[i]
	}
	for i := range r.Peers {
		p := &r.Peers[i]
		if p.Path = byID[p.HostID]; p.HostID == 0 || p.Path == nil || p.Path.Via == 0 {
			continue
		}
		if relay, ok := d.Host(p.Path.Via); ok {
			p.Relay = relay.Hostname
		}
	}
}

func (c *call) peerReports(s *store.Store, running *store.Change) ([]peerReport, error) {
	states, err := wireguard.New(spec.Namespace, spec.WireLink, s.Keys()).Peers()
	if err != nil {
		return nil, err
	}
	byKey := map[network.Key]wireguard.PeerState{}
	for _, p := range states {
		byKey[p.PublicKey] = p
	}
	reports := []peerReport{}
	add := func(name string, id uint16, p wireguard.PeerState) {
		r := peerReport{Name: name, HostID: id, Endpoint: p.Endpoint, ReceiveBytes: p.ReceiveBytes, TransmitBytes: p.TransmitBytes}
		if !p.LastHandshake.IsZero() {
			r.LastHandshake = &p.LastHandshake
		}
		reports = append(reports, r)
	}
	for _, host := range running.Document.Hosts {
		if host.ID != running.HostID {
			add(host.Hostname, host.ID, byKey[host.PublicKey].Join(byKey[host.AlsoKey]))
		}
	}
	for _, client := range running.Document.Clients {
		add("client "+client.Address.String(), 0, byKey[client.PublicKey])
	}
	return reports, nil
}

func (c *call) printStatus(r *statusReport) error {
	if r.Hostname == "" {
		fmt.Fprintln(c.stdout, "Mobula does not run on this host; a deploy brings it, or 'mobula apply'")
	} else {
		fmt.Fprintf(c.stdout, "%s (host_id %d), generation %s\n", r.Hostname, r.HostID, r.Generation)
	}
	if r.Waiting != "" {
		fmt.Fprintf(c.stdout, "generation %s waits for confirmation\n", r.Waiting)
	}
	if r.Agent != "" {
		fmt.Fprintf(c.stdout, "the agent does not answer, so nothing is known about paths: %s\n", r.Agent)
	}
	table := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
	if len(r.Peers) > 0 {
		fmt.Fprintln(table, "PEER\tPATH\tSINCE\tRTT\tLOSS\tLOSS 5M\tGENERATION\tHANDSHAKE\tRECEIVED\tSENT\tENDPOINT")
	}
	for _, p := range r.Peers {
		endpoint := "-"
		if p.Endpoint.IsValid() {
			endpoint = p.Endpoint.String()
		}
		if p.Path != nil && p.Path.Name != nil {
			endpoint += " (" + p.Path.Name.Name + ")"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%d\t%d\t%s\n", p.Name, p.pathColumns(), ago(p.LastHandshake, "never"), p.ReceiveBytes, p.TransmitBytes, endpoint)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, p := range r.Peers {
		if p.Path != nil && p.Path.Problem != "" {
			fmt.Fprintf(c.stdout, "%s: %s\n", p.Name, p.Path.Problem)
		}
		if p.Relay != "" {
			fmt.Fprintf(c.stdout, "%s: %s\n", p.Name, p.whyRelayed())
		}
		if p.Path != nil && len(p.Path.OtherEndpoints) > 0 {
			fmt.Fprintf(c.stdout, "%s: also %s\n", p.Name, p.otherEndpoints())
		}
		if p.Path != nil && p.Path.Name != nil {
			p.printName(c.stdout)
		}
		if p.Path != nil && p.Path.Unanswered > 0 {
			fmt.Fprintf(c.stdout, "%s: %d of its probes were too many to be answered\n", p.Name, p.Path.Unanswered)
		}
		if p.Path != nil && p.Path.Unverified > 0 {
			fmt.Fprintf(c.stdout, "%s: %d probes from its address were too many to be verified\n", p.Name, p.Path.Unverified)
		}
	}
	if r.Unverified > 0 {
		fmt.Fprintf(c.stdout, "%d probes from unknown addresses were too many to be verified\n", r.Unverified)
	}
	if r.Dropped > 0 {
		fmt.Fprintf(c.stdout, "%d frames were dropped that claimed somebody else's address:\n", r.Dropped)
	}
	for _, d := range r.DroppedBy {
		fmt.Fprintf(c.stdout, "  %s, from %s: %d\n", d.Claimed, d.From, d.Frames)
	}
	if r.Flooded > 0 {
		fmt.Fprintf(c.stdout, "%d frames to everybody, or to unknown stations, were too many for the other hosts and dropped\n", r.Flooded)
	}
	if r.FloodsUnbounded {
		fmt.Fprintln(c.stdout, "this kernel's Open vSwitch has no meters, so nothing bounds how much guests send to everybody")
	}
	for _, refused := range r.Refused {
		fmt.Fprintf(c.stdout, "%d packets of guests or clients were refused: %s\n", refused.Packets, refused.What)
	}
	for _, sentence := range r.Closed {
		fmt.Fprintln(c.stdout, sentence)
	}
	if r.RelaysForNobody != "" {
		fmt.Fprintln(c.stdout, "this host relays for nobody:", r.RelaysForNobody)
	}
	if r.Clock != "" {
		fmt.Fprintln(c.stdout, r.Clock)
	}
	for _, d := range r.Differences {
		fmt.Fprintln(c.stdout, "differs:", d)
	}
	return nil
}

// printName says what became of the name of the peer's endpoint.
func (p *peerReport) printName(to io.Writer) {
	n := p.Path.Name
	if n.Changed != nil {
		fmt.Fprintf(to, "%s: its name %s has stood for %s, another address than in the document, since %s\n", p.Name, n.Name, n.Endpoint, ago(n.Changed, "-"))
	}
	if n.Problem != "" {
		fmt.Fprintf(to, "%s: its name %s cannot be looked up, since %s: %s; %s counts\n", p.Name, n.Name, ago(n.Since, "-"), n.Problem, n.Endpoint)
	}
}

// otherEndpoints says how the endpoints are that are not used.
func (p *peerReport) otherEndpoints() string {
	var all []string
	for _, e := range p.Path.OtherEndpoints {
		at := e.Endpoint.String()
		if e.Local {
			at += " (LAN)"
		}
		if e.Works {
			all = append(all, fmt.Sprintf("%s: %.1f ms, %.0f %% lost", at, e.RTT, 100*e.Loss))
		} else {
			all = append(all, at+": no answer")
		}
	}
	return strings.Join(all, "; ")
}

// whyRelayed says how the direct path is that is not used.
func (p *peerReport) whyRelayed() string {
	if p.Path.DirectWell == 0 {
		return "the direct path does not answer"
	}
	return fmt.Sprintf("the direct path has been well for %.0f s (%.1f ms, %.0f %% lost) and is taken again after %.0f s",
		p.Path.DirectWell, p.Path.DirectRTT, 100*p.Path.DirectLoss, p.Path.DirectHold)
}

// pathColumns are PATH, SINCE, RTT, LOSS, LOSS 5M and GENERATION.
func (p *peerReport) pathColumns() string {
	if p.Path == nil {
		return "-\t-\t-\t-\t-\t-"
	}
	way := p.Path.State
	if kind := p.Path.Kind(); kind != "" {
		relay := p.Relay
		if relay == "" { // the document has changed
			relay = fmt.Sprint("host ", p.Path.Via)
		}
		way = kind.Words(relay)
	}
	rtt := "-"
	if p.Path.RTT > 0 {
		rtt = fmt.Sprintf("%.1f ms", p.Path.RTT)
	}
	return fmt.Sprintf("%s\t%s\t%s\t%.0f %%\t%.1f %%\t%s", way, ago(&p.Path.Since, "-"), rtt, 100*p.Path.Loss, 100*p.Path.LossMinutes, p.Path.Generation)
}

// ago says how long ago something was; never if it is nil.
func ago(t *time.Time, never string) string {
	if t == nil {
		return never
	}
	return time.Since(*t).Truncate(time.Second).String() + " ago"
}
