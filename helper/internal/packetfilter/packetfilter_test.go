package packetfilter

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"mobula/helper/internal/network"
)

// recorded are the commands of a host whose packet filters are in files of testdata: what
// the programs printed on Debian 12 with ufw 0.36.2 after 'ufw enable', Docker 20.10.24
// and firewalld 1.3.3 as they are installed.
func recorded(t *testing.T, iptables, nft string) Commands {
	t.Helper()
	return func(_ context.Context, name string, _ ...string) (string, error) {
		text := map[string]string{"iptables-nft-save": iptables, "nft": nft}[name]
		if strings.Contains(text, "\n") || text == "" && name == "iptables-nft-save" {
			return text, nil
		}
		if text == "" {
			return "", exec.ErrNotFound
		}
		data, err := os.ReadFile(filepath.Join("testdata", text))
		return string(data), err
	}
}

func read(t *testing.T, iptables, nft string, ufw bool) *Filters {
	t.Helper()
	root := t.TempDir()
	conf := filepath.Join(root, ufwConf)
	if err := os.MkdirAll(filepath.Dir(conf), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(conf, []byte(fmt.Sprintf("# ENABLED=yes\nENABLED=%s\n", map[bool]string{true: "yes", false: "no"}[ufw])), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := Read(context.Background(), recorded(t, iptables, nft), root)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// input is an iptables filter whose INPUT has these rules and drops all else.
func input(rules ...string) string {
	return "*filter\n:INPUT DROP [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:MINE - [0:0]\n-A INPUT -i lo -j ACCEPT\n" + strings.Join(append(rules, "COMMIT\n"), "\n")
}

// table is a ruleset of nft whose chain of that hook has these rules and drops all else.
func table(hook string, rules ...string) string {
	all := fmt.Sprintf(`{"nftables": [{"table": {"family": "inet", "name": "mine"}},
{"chain": {"family": "inet", "table": "mine", "name": "c", "type": "filter", "hook": %q, "prio": 0, "policy": "drop"}}`, hook)
	for _, r := range rules {
		all += fmt.Sprintf(`, {"rule": {"family": "inet", "table": "mine", "chain": "c", "expr": [%s]}}`, r)
	}
	return all + "]}"
}

const (
	ufwOpensPort   = "ufw is active here: `ufw allow 51820/udp`"
	ufwOpensWay    = "ufw is active here: `ufw route allow in on mo-dir-hs`"
	minePort       = "the iptables chain INPUT drops it here: `iptables -I INPUT -p udp --dport 51820 -j ACCEPT`"
	nftPort        = "the nftables chain inet mine c drops it here: `nft insert rule inet mine c udp dport 51820 accept`"
	acceptEveryone = `{"accept": null}`
)

// TestFindings: what is dropped for certain is found with the command that opens it, and
// what may pass is not.
func TestFindings(t *testing.T) {
	match := func(op, left, right string) string {
		return fmt.Sprintf(`{"match": {"op": %q, "left": %s, "right": %s}}`, op, left, right)
	}
	dport, saddr := `{"payload": {"protocol": "udp", "field": "dport"}}`, `{"payload": {"protocol": "ip", "field": "saddr"}}`
	for _, c := range []struct {
		name, iptables, nft string
		ufw                 bool
		port, way           string
	}{
		{name: "no filter"},
		{"ufw", "ufw.iptables", "", true, ufwOpensPort, ufwOpensWay},
		{"chains of a ufw that is not enabled", "ufw.iptables", "", false, minePort,
			"the iptables chain FORWARD drops it here: `iptables -I FORWARD -i mo-dir-hs -j ACCEPT; iptables -I FORWARD -o mo-dir-hs -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT`"},
		{"ufw enabled and flushed", "", "", true, "", ""},
		{"Docker", "docker.iptables", "", false, "",
			"Docker lets nothing be forwarded here but its own: `iptables -I DOCKER-USER -i mo-dir-hs -j ACCEPT; iptables -I DOCKER-USER -o mo-dir-hs -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT`"},
		{"firewalld", "", "firewalld.json", false,
			"firewalld is running here: `firewall-cmd --zone=public --add-port=51820/udp; firewall-cmd --permanent --zone=public --add-port=51820/udp`",
			"firewalld is running here: `" + strings.Join(FirewalldPolicy(network.Ranges{}), "; ") + "`"},

		{"a port", input("-A INPUT -p udp -m udp --dport 51820 -j ACCEPT"), "", false, "", ""},
		{"another port", input("-A INPUT -p udp -m udp --dport 51821 -j ACCEPT"), "", false, minePort, ""},
		{"another protocol", input("-A INPUT -p tcp -m tcp --dport 51820 -j ACCEPT"), "", false, minePort, ""},
		{"ports", input(`-A INPUT -p udp -m multiport --dports 53,51000:52000 -m comment --comment "what \"I\" want" -j ACCEPT`), "", false, "", ""},
		{"all but a port", input("-A INPUT -p udp -m udp ! --dport 51820 -j ACCEPT"), "", false, minePort, ""},
		{"another interface", input("-A INPUT -i eth1 -j ACCEPT"), "", false, minePort, ""},
		{"interfaces", input("-A INPUT -i eth+ -j ACCEPT"), "", false, "", ""},
		{"everybody", input("-A INPUT -s 0.0.0.0/0 -p udp -j ACCEPT"), "", false, "", ""},
		{"somebody", input("-A INPUT -s 198.51.100.0/24 -j ACCEPT"), "", false, "", ""},
		{"answers", input("-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"), "", false, minePort, ""},
		{"a chain", input("-A INPUT -j MINE", "-A MINE -p udp -m udp --dport 51820 -j ACCEPT"), "", false, "", ""},
		{"a chain that returns", input("-A INPUT -j MINE", "-A INPUT -j ACCEPT", "-A MINE -j RETURN", "-A MINE -j DROP"), "", false, "", ""},
		{"a chain that does not", input("-A INPUT -g MINE", "-A INPUT -j ACCEPT", "-A MINE -j LOG --log-prefix \"x -j ACCEPT\""), "", false, minePort, ""},
		{"a loop", input("-A INPUT -j MINE", "-A MINE -j MINE"), "", false, "", ""},
		{"a rule not understood", input("-A INPUT -m owl --hoots ! 3 -j ACCEPT"), "", false, "", ""},
		{"a rule not understood, for others", input("-A INPUT -i eth1 -m owl --hoots 3 --often -j ACCEPT"), "", false, minePort, ""},
		{"a target not understood", input("-A INPUT -j OWL"), "", false, "", ""},
		{"refused before", input("-A INPUT -p udp -j REJECT --reject-with icmp-port-unreachable", "-A INPUT -m owl -j ACCEPT"), "", false, minePort, ""},
		{"only some are refused", strings.Replace(input("-A INPUT -m owl -j DROP"), ":INPUT DROP", ":INPUT ACCEPT", 1), "", false, "", ""},

		{"nft", "", table("input"), false, nftPort, ""},
		{"nft, outwards", "", table("output"), false, "", ""},
		{"nft: everybody", "", table("input", acceptEveryone), false, "", ""},
		{"nft: a port", "", table("input", match("==", dport, "51820")+", "+acceptEveryone), false, "", ""},
		{"nft: ports", "", table("input", match("==", dport, `{"set": [53, {"range": [51000, 52000]}]}`)+", "+acceptEveryone), false, "", ""},
		{"nft: other ports", "", table("input", match("==", dport, `{"set": [53, {"range": [51000, 51819]}]}`)+", "+acceptEveryone), false, nftPort, ""},
		{"nft: a set with a name", "", table("input", match("==", dport, `"@mine"`)+", "+acceptEveryone), false, "", ""},
		{"nft: other protocols", "", table("input", match("!=", `{"payload": {"protocol": "tcp", "field": "dport"}}`, "1")+", "+acceptEveryone), false, nftPort, ""},
		{"nft: not from here", "", table("input", match("==", saddr, `{"prefix": {"addr": "198.51.100.0", "len": 24}}`)+", "+acceptEveryone), false, "", ""},
		{"nft: states", "", table("input", `{"vmap": {"key": {"ct": {"key": "state"}}, "data": {"set": [["established", {"accept": null}], ["invalid", {"drop": null}]]}}}`), false, nftPort, ""},
		{"nft: states, new", "", table("input", `{"vmap": {"key": {"ct": {"key": "state"}}, "data": {"set": [["established", {"accept": null}], ["new", {"accept": null}]]}}}`), false, "", ""},
		{"nft: a map with a name", "", table("input", `{"vmap": {"key": {"ct": {"key": "state"}}, "data": "@mine"}}`), false, "", ""},
		{"nft: logged", "", table("input", `{"limit": {"rate": 5, "per": "minute"}}, {"log": {"prefix": "x"}}`), false, nftPort, ""},
		{"nft: not understood", "", table("input", `{"owl": null}`), false, "", ""},
		{"nft: ours alone", "", strings.ReplaceAll(table("input"), "mine", "mobula"), false, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := read(t, c.iptables, c.nft, c.ufw)
			for _, q := range []struct {
				what, want string
				found      []Finding
			}{{"port", c.port, f.Port(51820, []string{"eth0"}, netip.Addr{})}, {"way", c.way, f.Outside([]string{"eth0"}, network.Ranges{})}} {
				var got []string
				for _, finding := range q.found {
					got = append(got, finding.String())
				}
				if text := strings.Join(got, "\n"); text != q.want {
					t.Errorf("%s: found %q, wanted %q", q.what, text, q.want)
				}
			}
		})
	}
}

// TestWhoIsMeant: the source decides, and a way outside that is open.
func TestWhoIsMeant(t *testing.T) {
	f := read(t, input("-A INPUT -s 198.51.100.7/32 -j ACCEPT", "-A INPUT -i eth1 -p udp -j ACCEPT"), "", false)
	carol, dave := netip.MustParseAddr("198.51.100.7"), netip.MustParseAddr("198.51.100.8")
	got := f.Say(Evidence{Port: 51820, Outside: []string{"eth0"}, Silent: map[string]netip.Addr{"carol": carol, "dave": dave, "erin": dave}})
	if want := "nothing arrives from dave, erin on udp/51820; " + minePort; len(got) != 1 || got[0] != want {
		t.Errorf("said %q, wanted %q", got, want)
	}
	if got := f.Say(Evidence{Port: 51820, Outside: []string{"eth0", "eth1"}, Silent: map[string]netip.Addr{"dave": dave}}); len(got) > 0 {
		t.Errorf("by eth1 all may come; said %q", got)
	}
	closed := read(t, "ufw.iptables", "", true)
	if got, want := closed.Say(Evidence{Port: 51820, Outside: []string{"eth0"}}), "udp/51820, on which the other hosts begin to speak to this one, is closed; "+ufwOpensPort; len(got) != 2 || got[0] != want {
		t.Errorf("said %q, wanted %q first", got, want)
	} else if unreached := closed.Say(Evidence{Port: 51820, Outside: []string{"eth0"}, Unreached: true}); !slices.Equal(unreached, got[1:]) {
		t.Errorf("of a host to which nobody sends first said %q, wanted %q", unreached, got[1:])
	}
}

// FuzzParse: whatever the programs print, it is read in the end.
func FuzzParse(f *testing.F) {
	for _, name := range []string{"ufw.iptables", "docker.iptables", "firewalld.json"} {
		data, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(data))
	}
	f.Add(input("-A INPUT ! -p", "-A INPUT -j", "-A MINE -g INPUT", "-A INPUT -j MINE"))
	f.Fuzz(func(t *testing.T, text string) {
		all := &Filters{tables: parseIptables(text)}
		if tables, err := parseNFT(text, func(string, string) bool { return false }); err == nil {
			all.tables = append(all.tables, tables...)
		}
		all.Say(Evidence{Port: 51820, Outside: []string{"eth0"}})
	})
}
