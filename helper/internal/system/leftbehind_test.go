package system

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"mobula/helper/internal/plan/plantest"
	"mobula/helper/internal/spec"
)

// programs stands in for those of a host: what each prints, by its name. "!" begins an
// error; one that is not there is not installed.
func programs(prints map[string]string) Commands {
	return func(_ context.Context, name string, args ...string) (string, error) {
		out, installed := prints[name]
		if problem, failed := strings.CutPrefix(out, "!"); failed {
			return "", errors.New(name + ": " + problem)
		}
		if !installed {
			return "", fmt.Errorf("%s: %w", name, &exec.Error{Name: name, Err: exec.ErrNotFound})
		}
		return out, nil
	}
}

func byUplink(netip.Addr) (string, error) { return "eth0", nil }

// left returns what is left behind of the host whose programs print that.
func left(prints map[string]string, m ...spec.Manager) []string {
	facts := plantest.Facts(m...)
	facts.AltNames = []string{"enp0s3"}
	return Outside{}.leftBehind(context.Background(), programs(prints), byUplink, facts)
}

// TestRulesThatNameTheUplink has lines as nft 1.0.6 and iptables 1.8.9 print them.
func TestRulesThatNameTheUplink(t *testing.T) {
	const other, loads, fails = "", "will not match any more", "will not load at boot"
	for _, c := range []struct{ program, line, want string }{
		{"nft", `iif "eth0" accept`, fails},
		{"nft", `oif "eth0" drop`, fails},
		{"nft", `iif . tcp dport { "eth0" . 22 } accept`, fails},
		{"nft", `type filter hook ingress device "eth0" priority filter; policy accept;`, fails},
		{"nft", `devices = { eth1, eth0 }`, fails},
		{"nft", `iifname "eth0" tcp dport 80 counter packets 0 bytes 0 accept`, loads},
		{"nft", `iifname != "eth0" drop`, loads},
		{"nft", `iifname vmap { "lo" : accept, "eth0" : jump outside }`, loads},
		{"nft", `iifname "enp0s3" accept`, loads},
		{"nft", `oifname "et*" masquerade`, loads},
		{"nft", `	     "eth0",`, loads}, // an element of a set
		{"nft", `iifname "eth01" accept`, other},
		{"nft", `iifname "wg*" accept`, other},
		{"nft", `iif "lo" accept`, other},
		{"nft", `devices = { eth01, eth1 }`, other},
		{"nft", `tcp dport 1 accept comment "eth0"`, other},
		{"nft", `log prefix "eth0"`, other},
		{"nft", `chain eth0 {`, other},
		{"iptables-save", "-A INPUT -i eth0 -p tcp -m tcp --dport 80 -j ACCEPT", loads},
		{"iptables-save", "-A POSTROUTING ! -o eth+ -j MASQUERADE", loads},
		{"iptables-legacy-save", "-A INPUT -i eth0 -j ACCEPT", loads},
		{"iptables-save", "-A INPUT -i eth01 -j ACCEPT", other},
		{"iptables-save", "-A POSTROUTING ! -o docker0 -j MASQUERADE", other},
		{"iptables-save", "-A INPUT -j eth0", other},
	} {
		got := left(map[string]string{c.program: "\t\t" + c.line + "\n"})
		switch {
		case c.want == other && len(got) > 0, c.want != other && len(got) != 1:
			t.Errorf("%s: found %q", c.line, got)
		case c.want == other:
		case !strings.Contains(got[0], c.want) || !strings.Contains(got[0], loads) || !strings.Contains(got[0], spec.DirectHost):
			t.Errorf("%s: found %s, wanted that it %s", c.line, got[0], c.want)
		case c.want == loads && strings.Contains(got[0], fails):
			t.Errorf("%s: found %s", c.line, got[0])
		}
	}
	// One warning, whoever says it.
	got := left(map[string]string{"nft": "iifname \"eth0\" accept\n", "iptables-save": "-A INPUT -i eth0 -j ACCEPT\n", "iptables-legacy-save": "!Permission denied"})
	if len(got) != 1 || !strings.Contains(got[0], `such as "iifname \"eth0\" accept", which`) {
		t.Errorf("found %q", got)
	}
	if got := left(map[string]string{"nft": "!Operation not permitted"}); len(got) != 1 || !strings.HasPrefix(got[0], "packet filter: cannot tell whether its rules name eth0: nft: Operation not permitted") {
		t.Errorf("found %q", got)
	}
	if got := left(nil); len(got) > 0 {
		t.Errorf("without a packet filter: found %q", got)
	}
}

// TestCommandsOfIfupdown has what ifquery of ifupdown 0.8.41 prints.
func TestCommandsOfIfupdown(t *testing.T) {
	const addresses = "address: 192.0.2.2\ngateway: 192.0.2.1\nbroadcast: 192.0.2.255\nnetmask: 255.255.255.0\n"
	const commands = "up: ip route add 10.0.0.0/8 via 192.0.2.1\npre-up: iptables-restore /etc/rules\ndown: echo up: down\n"
	got := left(map[string]string{"ifquery": addresses + commands}, spec.Ifupdown)
	if len(got) != 1 || !strings.HasPrefix(got[0], "ifupdown: found commands for eth0 (up: ip route add 10.0.0.0/8 via 192.0.2.1; pre-up: iptables-restore /etc/rules; down: echo up: down), which are not run at boots") {
		t.Errorf("found %q", got)
	}
	for name, got := range map[string][]string{
		"no commands":     left(map[string]string{"ifquery": addresses}, spec.Ifupdown),
		"another manager": left(map[string]string{"ifquery": commands}, spec.Networkd),
		"not defined":     left(map[string]string{"ifquery": "!exit status 1"}, spec.Ifupdown),
	} {
		if len(got) > 0 {
			t.Errorf("%s: found %q", name, got)
		}
	}
}

// TestResolversElsewhere: the gateway asks by the uplink alone.
func TestResolversElsewhere(t *testing.T) {
	facts := plantest.Facts()
	facts.Resolvers = []netip.Addr{netip.MustParseAddr("192.0.2.53"), netip.MustParseAddr("10.9.0.1"), netip.MustParseAddr("10.8.0.1")}
	through := func(a netip.Addr) (string, error) {
		switch a.String() {
		case "10.9.0.1":
			return "ens4", nil
		case "10.8.0.1":
			return "", errors.New("network is unreachable")
		}
		return facts.Uplink, nil
	}
	got := Outside{}.leftBehind(context.Background(), programs(nil), through, facts)
	if len(got) != 1 || !strings.HasPrefix(got[0], "resolvers: found 10.9.0.1 by ens4, 10.8.0.1 (network is unreachable), wanted them reached by eth0") || !strings.Contains(got[0], "set upstream_dns") {
		t.Errorf("found %q", got)
	}
	named := Outside{UpstreamDNS: facts.Resolvers[:1]}
	if got := named.leftBehind(context.Background(), programs(nil), through, facts); len(got) > 0 {
		t.Errorf("with upstream_dns: found %q", got)
	}
}

// TestHooksOfTheUplink has lines as nft 1.0.6 prints them.
func TestHooksOfTheUplink(t *testing.T) {
	for _, c := range []struct {
		line    string
		refused bool
	}{
		{`type filter hook ingress device "eth0" priority filter; policy accept;`, true},
		{`type filter hook egress device "enp0s3" priority filter; policy accept;`, true},
		{`type filter hook ingress devices = { eth1, eth0 } priority filter; policy accept;`, true},
		{`devices = { eth0 }`, true},
		{`type filter hook ingress device "eth01" priority filter; policy accept;`, false},
		{`type filter hook ingress devices = { eth1, eth01 } priority filter; policy accept;`, false},
		{`devices = { eth1 }`, false},
		{`type filter hook input priority filter; policy accept;`, false},
		{`iif "eth0" accept`, false},
		{`iifname "eth0" log prefix "type filter hook ingress device eth0"`, false},
	} {
		facts := plantest.Facts()
		facts.AltNames = []string{"enp0s3"}
		err := surveyHooks(context.Background(), programs(map[string]string{"nft": "\tchain c {\n\t\t" + c.line + "\n\t}\n"}), facts)
		if (err != nil) != c.refused || err != nil && !strings.Contains(err.Error(), c.line[:12]) {
			t.Errorf("%s: found %v, wanted it refused: %v", c.line, err, c.refused)
		}
	}
	own := func(table string) string {
		return "table netdev " + table + " {\n\tchain outside {\n\t\ttype filter hook ingress device \"eth0\" priority filter; policy accept;\n\t}\n}\n"
	}
	if err := surveyHooks(context.Background(), programs(map[string]string{"nft": own("mobula")}), plantest.Facts()); err != nil {
		t.Errorf("the relays of a host that had its NIC: %v", err)
	}
	if err := surveyHooks(context.Background(), programs(map[string]string{"nft": own("mobula") + own("mobula2")}), plantest.Facts()); err == nil {
		t.Error("another's table is not seen beside Mobula's")
	}
	if err := surveyHooks(context.Background(), programs(nil), plantest.Facts()); err != nil {
		t.Errorf("without nft: %v", err)
	}
}
