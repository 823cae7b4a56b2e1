//go:build kernel

package firewall

import (
	"context"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"mobula/helper/internal/firewall/firewalltest"
	"mobula/helper/internal/netns/netnstest"
	"mobula/helper/internal/spec"
)

// TestNFTAsTheRealOne asks the real nft and the one of tests the same, one after the
// other: both succeed or fail with the same problem, and have the same objects.
func TestNFTAsTheRealOne(t *testing.T) {
	if !netnstest.Alone(t) {
		return
	}
	const ns = "gateway"
	netnstest.Namespace(t, ns)
	inside := new(int)
	fake := &firewalltest.NFT{Namespace: func(name string) any {
		if name == ns {
			return inside
		}
		return nil
	}, Devices: func(string) map[string]any { return map[string]any{"lo": 1, "eth0": 2, "eth1": 3} }}
	netnstest.Run(t, ns, "ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth1")
	far := &spec.Onward{Links: []spec.OnwardLink{{Name: "eth0", MTU: 1500}, {Name: "eth1", MTU: 1400}}}
	for i, to := range relayDoorway().Targets() {
		far.Ways = append(far.Ways, spec.Way{From: netip.MustParseAddr("192.0.2.1"), To: to, Hop: to, Link: far.Links[i%2].Name})
	}
	relays, oneLink := RenderRelays(relayDoorway(), far), &spec.Onward{Links: far.Links[:1], Ways: far.Ways[:1]}
	rules, shared, doorway := Render(firewallOf(2), plenty), Render(sharedFirewallOf(2), plenty), RenderDoorway(doorwayOf(2))
	many := firewallOf(1)
	for i := byte(9); i > 0; i-- {
		address := netip.AddrFrom4([4]byte{203, 0, 113, i})
		many.Public, many.Members = append(many.Public, address), append(many.Members, netip.AddrPortFrom(address, 51820))
		many.Relays = append(many.Relays, spec.Relay{HostID: 100 + uint16(i), Port: 33000 + uint16(i), Endpoint: netip.AddrPortFrom(address, 51820)})
	}
	list, stateless, remove := "list table inet mobula", "--stateless list table inet mobula", "delete table inet mobula"
	for _, c := range []struct{ script, command string }{
		{"", "list tables inet"}, {"", stateless}, {"", remove},
		{rules, "-f -"}, {"", "list tables inet"}, {"", list}, {"", stateless},
		{rules, "-f -"}, {"", stateless},
		{rules + "delete table inet other", "-f -"}, {"", stateless},
		{strings.TrimSuffix(rules, "}\n"), "-f -"}, {"", stateless},
		{rules + "table inet mobula {\n\tset x {\n\t\ttype ipv4_addr\n\t\telements = {  }\n\t}\n}\n", "-f -"},
		{"table inet mobula {\n\tchain input {\n\t\tip saddr @nowhere accept\n\t}\n}\n", "-f -"},
		{"table inet mobula {\n\tchain input {\n\t\tcounter name nowhere accept\n\t}\n}\n", "-f -"},
		{"table inet mobula {\n\tset x {\n\t}\n}\n", "-f -"}, {"", stateless},
		{"table inet mobula {\n\tchain input {\n\t\taccept\n\t}\n}\ntable inet other {\n}\n", "-f -"}, {"", "list tables inet"}, {"", stateless},
		{Render(many, plenty), "-f -"}, {"", stateless},
		{shared, "-f -"}, {"", stateless}, {doorway, "-f -"}, {"", list}, {"", stateless},
		{relays, "-f -"}, {"", "list tables netdev"}, {"", "list tables inet"}, {"", "list table netdev mobula"}, {"", "--stateless list table netdev mobula"},
		{RenderRelays(relayDoorway(), oneLink), "-f -"}, {"", "--stateless list table netdev mobula"},
		{strings.ReplaceAll(relays, `"eth1"`, `"eth7"`), "-f -"}, {strings.Replace(relays, "device \"eth1\"", "device \"eth7\"", 1), "-f -"},
		{strings.Replace(relays, "goto way_1", "goto way_9", 1), "-f -"}, {fmt.Sprintf(smallest, `"eth0"`), "--check -f -"}, {fmt.Sprintf(smallest, `"eth7"`), "--check -f -"},
		{"", "--stateless list table netdev mobula"}, {"", "delete table netdev mobula"}, {"", "list tables netdev"},
		{"", remove}, {"", remove}, {"", "list tables inet"}, {"", "list table inet other"}, {"", "no such command"},
	} {
		ask := func(n NFT) (string, string) {
			out, err := n.Run(context.Background(), ns, c.script, strings.Fields(c.command)...)
			return outline(out), problem(err)
		}
		real, realProblem := ask(program{})
		got, gotProblem := ask(fake)
		if got != real || gotProblem != realProblem {
			t.Errorf("nft %s\nwith the end %q: found %q, wanted %q as of the real one\n%s", c.command, c.script[max(0, len(c.script)-100):], gotProblem, realProblem, different(got, real))
		}
	}
	if _, err := fake.Run(context.Background(), "other", "", "list", "tables", "inet"); problem(err) == "" {
		t.Error("it runs without a namespace")
	}
}

// problem is how nft ends, and what the kernel says of it.
func problem(err error) string {
	switch {
	case err == nil:
		return ""
	case !strings.Contains(err.Error(), "exit status 1"):
		return err.Error()
	case strings.Contains(err.Error(), "No such file or directory"):
		return "exit status 1, no such file or directory"
	}
	return "exit status 1"
}

var inBraces = regexp.MustCompile(`\{ [^{}]* \}`)

// outline is a listing without what rules say, but for how many of them there are and
// for those that are simple. The elements of anonymous sets may be merged.
func outline(listing string) string {
	var lines []string
	inChain := false
	for _, line := range strings.Split(listing, "\n") {
		if strings.HasPrefix(line, "\tchain ") {
			inChain = true
		} else if line == "\t}" {
			inChain = false
		}
		if inChain && strings.HasPrefix(line, "\t\t") && !strings.HasPrefix(line, "\t\ttype ") {
			words := strings.Fields(inBraces.ReplaceAllString(line, ""))
			line = "\t\t" + words[0] + " … " + words[len(words)-1]
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

// different are the lines that one listing has more often than the other.
func different(got, want string) string {
	count, text := map[string]int{}, ""
	for _, line := range strings.Split(got, "\n") {
		count[line]++
	}
	for _, line := range strings.Split(want, "\n") {
		count[line]--
	}
	for line, n := range count {
		if n != 0 {
			text += fmt.Sprintf("%+d %s\n", n, line)
		}
	}
	return text
}
