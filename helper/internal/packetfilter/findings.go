package packetfilter

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"mobula/helper/internal/network"
	"mobula/helper/internal/spec"
)

// Finding is a packet filter that drops what Mobula needs, and what lets it pass.
type Finding struct {
	Who      string // such as "ufw is active here"
	Commands []string
}

// known reports that it is one of those that Opener opens.
func (f Finding) known() bool {
	return f.Who == whoUFW || f.Who == whoFirewalld || f.Who == whoDocker
}

// String is part of a sentence.
func (f Finding) String() string {
	return f.Who + ": `" + strings.Join(f.Commands, "; ") + "`"
}

// Port returns what keeps others from beginning to speak to a UDP port of this host, by
// whichever of the interfaces they come. The zero address is anybody.
func (f *Filters) Port(port uint16, outside []string, from netip.Addr) []Finding {
	return f.findings(outside, func(t *Table, nic string) (*Closed, func(*Closed) Finding) {
		p := Packet{In: nic, Protocol: "udp", Port: port, From: from, State: "new"}
		return t.Closes(p, Prerouting, Input), func(c *Closed) Finding { return f.openPort(c, port) }
	})
}

// Outside returns what keeps the gateway and its guests from the outside: their way leads
// through the host by the direct link.
func (f *Filters) Outside(outside []string, ranges network.Ranges) []Finding {
	return f.findings(outside, func(t *Table, nic string) (*Closed, func(*Closed) Finding) {
		web := Packet{In: spec.DirectHost, Out: nic, Protocol: "tcp", Port: 443, From: ranges.DirectGateway(), State: "new"}
		names := web
		names.Protocol, names.Port = "udp", 53
		answer := Packet{In: nic, Out: spec.DirectHost, Protocol: "tcp", Port: 50000, State: "established"}
		closed := t.Closes(web, Prerouting, Forward)
		if closed == nil || t.Closes(names, Prerouting, Forward) == nil {
			closed = t.Closes(answer, Prerouting, Forward)
		}
		return closed, func(c *Closed) Finding { return f.openWay(c, ranges) }
	})
}

// findings are the tables that close all of the interfaces.
func (f *Filters) findings(outside []string, ask func(*Table, string) (*Closed, func(*Closed) Finding)) (all []Finding) {
	for _, t := range f.tables {
		var said []Finding
		for _, nic := range outside {
			closed, finding := ask(t, nic)
			if closed == nil {
				said = nil
				break
			}
			said = append(said, finding(closed))
		}
		for _, one := range said {
			if !slices.ContainsFunc(all, func(f Finding) bool { return f.String() == one.String() }) {
				all = append(all, one)
			}
		}
	}
	return all
}

// jumpsTo reports that the chain leads to others whose names begin so.
func (c *Closed) jumpsTo(beginning string) bool {
	return slices.ContainsFunc(c.Path, func(name string) bool { return strings.HasPrefix(name, beginning) })
}

func (c *Closed) byFirewalld() bool { return c.Table.Name == "firewalld" && c.Table.Family == "inet" }

const (
	whoUFW       = "ufw is active here"
	whoFirewalld = "firewalld is running here"
	whoDocker    = "Docker lets nothing be forwarded here but its own"
)

func (f *Filters) openPort(c *Closed, port uint16) Finding {
	switch {
	case c.Table.Iptables && f.ufw && c.jumpsTo("ufw-"):
		return Finding{whoUFW, []string{fmt.Sprintf("ufw allow %d/udp", port)}}
	case c.byFirewalld():
		zone := zoneOf(c.Path)
		add := fmt.Sprintf("--add-port=%d/udp", port)
		return Finding{whoFirewalld, []string{"firewall-cmd " + zone + add, "firewall-cmd --permanent " + zone + add}}
	case c.Table.Iptables:
		return c.iptables(fmt.Sprintf("-p udp --dport %d", port))
	}
	return c.nft(fmt.Sprintf("udp dport %d accept", port))
}

func (f *Filters) openWay(c *Closed, ranges network.Ranges) Finding {
	there, back := "-i "+spec.DirectHost, "-o "+spec.DirectHost+" -m conntrack --ctstate RELATED,ESTABLISHED"
	switch {
	case c.Table.Iptables && f.ufw && c.jumpsTo("ufw-"):
		return Finding{whoUFW, []string{"ufw route allow in on " + spec.DirectHost}}
	case c.byFirewalld():
		return Finding{whoFirewalld, FirewalldPolicy(ranges)}
	case c.Table.Iptables && c.jumpsTo("DOCKER-USER"):
		f := Finding{Who: whoDocker}
		for _, what := range []string{there, back} {
			f.Commands = append(f.Commands, "iptables -I DOCKER-USER "+what+" -j ACCEPT")
		}
		return f
	case c.Table.Iptables:
		return c.iptables(there, back)
	}
	return c.nft(fmt.Sprintf("iifname %s accept", spec.DirectHost), fmt.Sprintf("oifname %s ct state established,related accept", spec.DirectHost))
}

// Policy is the name of Mobula's policy of firewalld.
const Policy = "mobula"

// PolicyRule lets pass what the gateway sends outside: it comes from gatewaySource, which
// Mobula's own table takes from nobody else.
func PolicyRule(ranges network.Ranges) string { return policyRule(gatewaySource(ranges)) }

func policyRule(source string) string {
	return fmt.Sprintf(`rule family="ipv4" source address="%s" accept`, source)
}

func gatewaySource(ranges network.Ranges) string { return ranges.DirectGateway().String() + "/32" }

// FirewalldPolicy returns the commands that make the policy. firewalld knows it once it
// is loaded again.
func FirewalldPolicy(ranges network.Ranges) []string {
	const in = "firewall-cmd --permanent --policy=" + Policy
	return []string{"firewall-cmd --permanent --new-policy=" + Policy, in + " --add-ingress-zone=ANY", in + " --add-egress-zone=ANY",
		in + " --add-rich-rule='" + PolicyRule(ranges) + "'", "firewall-cmd --reload"}
}

// zoneChain is where firewalld keeps what a zone lets in (firewalld 1.3 and 2.3).
var zoneChain = regexp.MustCompile(`^filter_IN_(.+)$`)

// zoneOf returns the option that names the zone by which a packet went.
func zoneOf(path []string) string {
	for _, name := range path {
		if m := zoneChain.FindStringSubmatch(name); m != nil && !strings.HasPrefix(m[1], "policy_") {
			return "--zone=" + m[1] + " "
		}
	}
	return ""
}

func (c *Closed) iptables(what ...string) Finding {
	f := Finding{Who: "the iptables chain " + c.Chain + " drops it here"}
	in := c.Chain
	if c.Table.Name != "filter" {
		in = "-t " + c.Table.Name + " " + c.Chain
	}
	for _, w := range what {
		f.Commands = append(f.Commands, "iptables -I "+in+" "+w+" -j ACCEPT")
	}
	return f
}

func (c *Closed) nft(what ...string) Finding {
	chain := fmt.Sprintf("%s %s %s", c.Table.Family, c.Table.Name, c.Chain)
	f := Finding{Who: "the nftables chain " + chain + " drops it here"}
	for _, w := range what {
		f.Commands = append(f.Commands, "nft insert rule "+chain+" "+w)
	}
	return f
}

// Evidence are the sentences on what this host's packet filters close. Silent are hosts
// of which nothing is heard, with their addresses outside.
type Evidence struct {
	Ranges  network.Ranges
	Port    uint16 // of WireGuard
	Outside []string
	Silent  map[string]netip.Addr
	// Unreached: nobody has to be able to send to the host first.
	Unreached bool
	// Opens: Mobula will open what it can by itself.
	Opens bool
}

// Say returns the sentences; none if what Mobula needs may pass.
func (f *Filters) Say(e Evidence) (sentences []string) {
	left := func(all []Finding) []Finding {
		return slices.DeleteFunc(all, func(one Finding) bool { return e.Opens && one.known() })
	}
	byFinding := map[string][]string{}
	for name, from := range e.Silent {
		for _, finding := range left(f.Port(e.Port, e.Outside, from)) {
			byFinding[finding.String()] = append(byFinding[finding.String()], name)
		}
	}
	for finding, names := range byFinding {
		slices.Sort(names)
		sentences = append(sentences, fmt.Sprintf("nothing arrives from %s on udp/%d; %s", strings.Join(names, ", "), e.Port, finding))
	}
	for _, finding := range left(f.Port(e.Port, e.Outside, netip.Addr{})) {
		if !e.Unreached && byFinding[finding.String()] == nil {
			sentences = append(sentences, fmt.Sprintf("udp/%d, on which the other hosts begin to speak to this one, is closed; %s", e.Port, finding))
		}
	}
	slices.Sort(sentences)
	for _, finding := range left(f.Outside(e.Outside, e.Ranges)) {
		sentences = append(sentences, fmt.Sprintf("guests do not get outside by this host, and its gateway reaches no resolver there; %s", finding))
	}
	return sentences
}
