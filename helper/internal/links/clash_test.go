package links_test

import (
	"errors"
	"os/exec"
	"strings"
	"testing"

	"mobula/helper/internal/links"
	"mobula/helper/internal/netns/netnstest"
	"mobula/helper/internal/network"
)

const (
	wireTaken   = ", wanted 10.30.0.0/16 to be free (the variable wire_network names another network for all hosts; uninstall those first that are deployed already)"
	accessTaken = ", wanted 10.31.0.0/16 to be free (the variable access_network names another network for all hosts; uninstall those first that are deployed already)"
)

// clashing are hosts that have or use something in the default networks, with all that
// is said, and hosts that only seem to; lan0 is a second NIC.
var clashing = []struct{ name, lines, want string }{
	{"nothing", "", ""},
	{"an address", "address add 10.31.5.5/24 dev lan0", "interface lan0: found address 10.31.5.5/24" + accessTaken},
	{"an address of a wider network", "address add 10.30.5.5/8 dev lan0", "interface lan0: found address 10.30.5.5/8" + wireTaken},
	{"an address without a route", "address add 10.31.5.5/24 dev lan0 noprefixroute", "interface lan0: found address 10.31.5.5/24" + accessTaken},
	{"an address of the loopback", "address add 10.31.255.255/32 dev lo", "interface lo: found address 10.31.255.255/32" + accessTaken},
	{"an address of the uplink", "address add 10.30.0.0/32 dev ens3", "interface ens3: found address 10.30.0.0/32" + wireTaken},
	{"another end", "address add 192.168.7.1 peer 10.31.0.1/32 dev lan0", "interface lan0: found address 192.168.7.1/32 with the peer 10.31.0.1/32" + accessTaken},
	{"a network that holds both", "address add 10.77.0.9/8 dev lan0", ""},
	{"a route to all of one", "route add 10.31.0.0/16 via 198.51.100.9 dev lan0", "interface lan0: found a route to 10.31.0.0/16" + accessTaken},
	{"a route to a part", "route add 10.30.128.0/24 dev lan0", "interface lan0: found a route to 10.30.128.0/24" + wireTaken},
	{"a route to one address", "route add 10.31.0.7 dev ens3 proto 186", "interface ens3: found a route to 10.31.0.7/32" + accessTaken},
	{"a route as a manager makes it", "route add 10.31.5.0/24 dev lan0 proto kernel scope link", "interface lan0: found a route to 10.31.5.0/24" + accessTaken},
	{"a route nowhere", "route add unreachable 10.31.5.0/24", "routes: found a route to 10.31.5.0/24" + accessTaken},
	{"a route to the host itself", "route add local 10.31.5.0/24 dev lo", "interface lo: found a route to 10.31.5.0/24 in table 255" + accessTaken},
	{"a route of several next hops", "route add 10.31.5.0/24 nexthop via 198.51.100.9 dev lan0 nexthop via 192.0.2.9 dev ens3", "interface lan0: found a route to 10.31.5.0/24" + accessTaken},
	{"routes to more", "route add 10.0.0.0/8 via 198.51.100.9 dev lan0; route add 10.30.0.0/15 via 198.51.100.9 dev lan0; route add blackhole 10.16.0.0/12", ""},
	{"a default route of many parts", "route add 0.0.0.0/1 dev lan0; route add 128.0.0.0/1 dev lan0", ""},
	{"a table that is used", "route add 10.31.5.0/24 dev lan0 table 100; rule add from 198.51.100.7 table 100", "interface lan0: found a route to 10.31.5.0/24 in table 100" + accessTaken},
	{"a table that nobody uses", "route add 10.31.5.0/24 dev lan0 table 100", ""},
	{"another table with more", "route add 10.0.0.0/8 dev lan0 table 100; rule add from 198.51.100.7 table 100", ""},
	{"a router", "address add 10.77.0.9/8 dev lan0; route add 203.0.113.0/24 via 10.31.0.254", "interface lan0: found a route to 203.0.113.0/24 by the router 10.31.0.254" + accessTaken},
	{"a router among others", "address add 10.77.0.9/8 dev lan0; route add 203.0.113.0/24 nexthop via 198.51.100.9 dev lan0 nexthop via 10.30.0.254 dev lan0", "interface lan0: found a route to 203.0.113.0/24 by the router 10.30.0.254" + wireTaken},
	{"beside them", "address add 10.32.0.1/16 dev lan0; address add 10.29.255.255/32 dev lan0; route add 10.29.0.0/16 dev lan0", ""},
	{"both", "address add 10.30.0.1/16 dev lan0; route add 10.31.0.0/16 via 10.30.0.2", "interface lan0: found address 10.30.0.1/16" + wireTaken + "\n" +
		"interface lan0: found a route to 10.31.0.0/16" + accessTaken},
}

// TestClashes: what a host has in the two networks is found before anything is touched,
// whether its NIC moves or stays, and a network that has others takes the host.
func TestClashes(t *testing.T) {
	for _, c := range clashing {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			if !netnstest.Alone(t) {
				return
			}
			netnstest.Namespace(t, "isp")
			ip(t, "link add ens3 type veth peer name cable netns isp; link set ens3 up; link add lan0 type veth peer name cable2 netns isp; link set lan0 up; "+
				"address add 192.0.2.2/24 dev ens3; route add default via 192.0.2.1 dev ens3; address add 198.51.100.7/24 dev lan0; "+c.lines)
			for mode, survey := range map[string]func(network.Ranges) error{
				"moved":  func(r network.Ranges) error { _, err := links.Survey(r, "ens3", false); return err },
				"shared": func(r network.Ranges) error { _, err := links.SurveyShared(r); return err },
			} {
				if got := about(survey(network.Ranges{}), "to be free"); got != c.want {
					t.Errorf("%s: found\n%s\nwanted\n%s", mode, got, c.want)
				}
				if got := about(survey(network.NewRanges(10<<8|98, 172<<8|20)), "to be free"); got != "" {
					t.Errorf("%s, in other ranges: found\n%s", mode, got)
				}
			}
		})
	}
}

// TestClashesOfAHostInUse: what is Mobula's own is none, nor what an operator gave the
// access address to.
func TestClashesOfAHostInUse(t *testing.T) {
	if !netnstest.Alone(t) {
		return
	}
	netnstest.Namespace(t, "isp")
	ip(t, "link add veth_fac0 type veth peer name a netns isp; link set veth_fac0 up; link add mo-dir-hs type veth peer name b netns isp; link set mo-dir-hs up; "+
		"link add br0 type veth peer name c netns isp; link set br0 up; "+
		"address add 10.30.1.0/32 dev mo-dir-hs; address add 10.31.129.0/16 dev veth_fac0; route add 10.30.0.0/16 via 10.30.0.0 dev mo-dir-hs onlink table 1030; "+
		"route add default via 10.30.0.0 dev mo-dir-hs onlink; rule add to 10.30.0.0/16 table 1030 priority 1031; route add 10.0.0.0/8 dev br0")
	clashes := func(manual bool) string {
		problems, err := links.Clashes(network.Ranges{}, manual)
		return about(errors.Join(append(problems, err)...), "")
	}
	for _, manual := range []bool{false, true} {
		if got := clashes(manual); got != "" {
			t.Errorf("manual %v: found\n%s", manual, got)
		}
	}
	ip(t, "address add 10.31.7.1/24 dev br0; route add 10.30.7.0/24 dev br0")
	const access, wire = "interface br0: found address 10.31.7.1/24" + accessTaken, "interface br0: found a route to 10.30.7.0/24" + wireTaken
	if got, want := clashes(false), access+"\n"+wire; got != want {
		t.Errorf("found\n%s\nwanted\n%s", got, want)
	}
	if got := clashes(true); got != wire {
		t.Errorf("manual: found\n%s\nwanted\n%s", got, wire)
	}
}

// about returns the lines of an error with a text.
func about(err error, text string) string {
	if err == nil {
		return ""
	}
	var lines []string
	for _, line := range strings.Split(err.Error(), "\n") {
		if strings.Contains(line, text) {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "\n")
}

// ip gives ip(8) commands, parted by semicolons.
func ip(t *testing.T, commands string) {
	t.Helper()
	c := exec.Command("ip", "-batch", "-")
	c.Stdin = strings.NewReader(strings.ReplaceAll(strings.TrimSuffix(strings.TrimSpace(commands), ";"), "; ", "\n") + "\n")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}
