//go:build kernel

package hosttest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// persistent gives the host what the packages netfilter-persistent and iptables-persistent
// have, where lab/deps.sh has unpacked them, and returns how it is called.
func (b *beside) persistent() (call func(doing string)) {
	b.Helper()
	cache := os.Getenv("MOBULA_LAB_CACHE")
	if cache == "" {
		cache = "/var/cache/mobula-lab"
	}
	const plugins = "/usr/share/netfilter-persistent/plugins.d"
	program := filepath.Join(cache+"-persistent", "usr/sbin/netfilter-persistent")
	script, err := os.ReadFile(program)
	if err != nil || strings.Count(string(script), plugins) != 1 {
		b.Fatalf("%s: %v; lab/deps.sh test unpacks it", program, err)
	}
	// There only the path is another one.
	here := strings.ReplaceAll(string(script), plugins, cache+"-persistent"+plugins)
	if err := os.WriteFile("/run/netfilter-persistent", []byte(here), 0o755); err != nil {
		b.Fatal(err)
	}
	run(b.T, "rm -rf /etc/iptables; mkdir /etc/iptables; cp "+cache+"-persistent/etc/default/netfilter-persistent /etc/default/")
	return func(doing string) {
		b.Helper()
		b.Logf("%s: %s", doing, run(b.T, "/run/netfilter-persistent "+doing+" 2>&1"))
	}
}

// TestOthersPersistent: netfilter-persistent keeps, loads and flushes the host's rules while
// Mobula is there. It takes nothing of Mobula's away, keeps nothing of it, and so brings
// nothing of it back when Mobula has gone. iptables is the old or the new one.
func TestOthersPersistent(t *testing.T) {
	for _, program := range []string{"nft", "legacy"} {
		t.Run(program, func(t *testing.T) {
			t.Parallel()
			var persistent func(string)
			b := newBeside(t, "1: classic", func(b *beside) {
				persistent = b.persistent()
				run(t, "for p in iptables ip6tables; do for q in '' -save -restore; do ln -sf /usr/sbin/$p-"+program+"$q /etc/alternatives/$p$q; done; done")
				run(t, "iptables -A INPUT -p tcp --dport 7 -j DROP; iptables -t nat -A POSTROUTING -s 10.99.0.0/16 -j MASQUERADE; ip6tables -A INPUT -p tcp --dport 7 -j DROP")
				persistent("save")
				persistent("reload") // all of its chains are there then
			})
			if b == nil {
				return
			}
			kept := func() string {
				return run(t, "cat /etc/iptables/rules.v4 /etc/iptables/rules.v6 | grep -v '^#' | sed 's/ \\[.*//'")
			}
			first := kept()
			for _, doing := range []string{"save", "reload", "flush", "start", "save"} {
				persistent(doing)
				b.holds("netfilter-persistent does " + doing)
				b.outside("after " + doing)
				if got := kept(); got != first {
					t.Errorf("after %s it keeps\n%s\nwanted\n%s", doing, got, first)
				}
			}
			b.uninstall()
			persistent("reload")
			b.same("an uninstall and a reload of what was kept beside Mobula")
		})
	}
}
