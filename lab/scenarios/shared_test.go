//go:build lab

package scenarios

import (
	"bufio"
	"fmt"
	"io"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"mobula/lab"
)

const (
	// ownNetwork is what of a host that keeps its NIC is its own, without what Mobula adds,
	// to the rules of ufw and Docker, too. A container's link has another name each time.
	ownNetwork = `for d in ens3 ens6 bond0 bond0.42 vmbr0; do [ ! -e /sys/class/net/$d ] || ip -d address show dev $d; done | sed 's/_lft [0-9a-z]*//g; /^ *bridge forward_delay/d'
ip -4 -br address show dev docker0 2>/dev/null || true # whose MAC address is another one after each boot
ip -4 route show table main | grep -v veth_fac0; ip rule | grep -v ^103
cat /etc/resolv.conf; ls /etc/systemd/network /run/systemd/network 2>/dev/null | grep -v mobula || true; cat /etc/netplan/* 2>/dev/null || true; nft -s list ruleset 2>/dev/null | sed '/^table [a-z]* mobula {/,/^}/d' | grep -vE 'dport 51820|mo-dir-hs' || true`
	// ufwRules are what ufw keeps.
	ufwRules = `ufw status verbose; cat /etc/ufw/user.rules`
	// useUFW is what an administrator does who thinks of SSH.
	useUFW = `ufw allow 22/tcp comment 'not to be locked out'; ufw --force enable`
	// forwarding is which interfaces forward.
	forwarding = `grep -s . /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/conf/{all,default,ens3,vmbr0}/forwarding || true`
	// allOfShared is everything that is their own.
	allOfShared = ownNetwork + "; cat /etc/hosts; " + forwarding + "; ! ufw status 2>/dev/null | grep -q ' active' || { " + ufwRules + "; }"
)

// sharing are the hosts that keep their NICs.
var sharing = []string{"erin", "heidi"}

// beforeShared is their own network before anything of Mobula touched it, by name.
var beforeShared map[string]string

func (w *world) allOfShared(t *testing.T) map[string]string {
	t.Helper()
	return w.onSharing(t, allOfShared)
}

// onSharing runs a script on each of them, by name.
func (w *world) onSharing(t *testing.T, script string) map[string]string {
	t.Helper()
	scripts := map[string]string{}
	for _, name := range sharing {
		scripts[name] = script
	}
	return w.onAll(t, scripts)
}

var pinged = regexp.MustCompile(`(\d+) packets transmitted, (\d+) received`)

// onTheNICs is onTheNIC for all hosts that keep theirs.
func onTheNICs(t *testing.T, w *world) (undisturbed func()) {
	t.Helper()
	var all []func()
	for _, name := range sharing {
		all = append(all, onTheNIC(t, w, name))
	}
	return func() {
		t.Helper()
		for _, undisturbed := range all {
			undisturbed()
		}
	}
}

// onTheNIC sends packets to a host's own address all the time, and keeps an SSH connection
// there. What it returns ends both: nothing may have been lost.
func onTheNIC(t *testing.T, w *world, name string) (undisturbed func()) {
	t.Helper()
	host := w.Host(name)
	session := host.SSH(w.ctx, "-S", "none", "echo in; read answer; echo still $answer")
	in, err := session.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := session.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	if err := session.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := lines.ReadString('\n'); line != "in\n" {
		t.Fatalf("an SSH session says %q, %v", line, err)
	}
	ended := w.pinging(t, host.Address)
	t.Cleanup(func() { _ = session.Process.Kill() })
	return func() {
		t.Helper()
		_, _ = io.WriteString(in, "here\n")
		if line, err := lines.ReadString('\n'); line != "still here\n" {
			t.Errorf("the SSH session to the own address of %s says %q, %v", name, line, err)
		}
		_ = session.Wait()
		if sent, missing, err := ended(); err != nil || len(missing) > 0 {
			t.Errorf("of %d packets to the own address of %s, these were lost: %v %v", sent, name, missing, err)
		} else {
			t.Logf("%d packets to the own address of %s, none lost", sent, name)
		}
	}
}

// nicStays: the host's own network is what it was, and beside it the host is a member
// like any other, also to one whose NIC has moved.
func nicStays(t *testing.T, w *world) {
	for _, name := range sharing {
		was, _, _ := strings.Cut(beforeShared[name], "127.0.0.1 localhost")
		if now := w.on(t, name, ownNetwork); strings.TrimSpace(now) != strings.TrimSpace(was) {
			t.Errorf("%s: its own network is another one: %s", name, difference(was, now))
		}
		if s := w.status(t, name); len(s.Differences) > 0 || s.Waiting != "" {
			t.Errorf("%s: %+v", name, s)
		}
	}
	w.reachEachOther(t)
	eventually(t, 30*time.Second, "a direct path", func() error {
		for _, host := range []string{"erin", "heidi", "grace"} {
			for _, p := range w.quick(t, host).Peers {
				if p.Path == nil || p.Path.State != "up" || p.Relay != "" {
					return fmt.Errorf("%s: %+v, path %+v", host, p, p.Path)
				}
			}
		}
		return nil
	})
	for _, c := range []struct{ name, want string }{{"nas.example.com", w.nas()}, {lab.OutsideName, lab.OutsideAddress}} {
		for _, name := range sharing {
			if found := w.on(t, name, "getent ahostsv4 "+c.name+" || true"); !strings.HasPrefix(found, c.want+" ") {
				t.Errorf("%s: %s: found %q, wanted %s", name, c.name, found, c.want)
			}
		}
	}
	// The resolver of her gateway, for guests and clients, looks up other names through her.
	if found := w.on(t, "grace", "python3 -c \"import socket; print(socket.gethostbyname('"+lab.OutsideName+"'))\""); found != lab.OutsideAddress {
		t.Errorf("grace: %s: found %q", lab.OutsideName, found)
	}
}

// reachEachOther: every pair on every path.
func (w *world) reachEachOther(t *testing.T) {
	t.Helper()
	eventually(t, time.Minute, "all reach each other", func() error {
		for _, from := range w.members() {
			for _, to := range w.members() {
				if from == to {
					continue
				}
				for _, address := range []string{to.IntrawireAddress(), to.AccessAddress(), to.GatewayAddress(), to.FQDN()} {
					if _, err := from.Run(w.ctx, "ping -q -c 2 -i 0.3 -W 2 "+address); err != nil {
						return err
					}
				}
			}
		}
		return nil
	})
}

// askOutside has the outside say who asks.
const askOutside = `python3 -c "import urllib.request; print(urllib.request.urlopen('http://` + lab.OutsideAddress + `/', timeout=10).read().decode())"`

// guestOf bridges a machine to a host's veth_fac0: in is what runs a command there.
func (w *world) guestOf(t *testing.T, host *lab.Host) (in string, leave func()) {
	t.Helper()
	w.on(t, host.Name, `ip link add lab-br type bridge; ip link set veth_fac0 master lab-br; ip link set lab-br up
ip netns add guest; ip link add lab-g type veth peer name eth0 netns guest; ip link set lab-g master lab-br up
ip -n guest link set eth0 mtu 1386 up; ip -n guest addr add `+host.InAccess(200, 7)+`/16 dev eth0; ip -n guest route add default via `+host.GatewayAddress())
	return "ip netns exec guest ", func() {
		t.Helper()
		if _, err := host.Run(w.ctx, "ip netns del guest; ip link set veth_fac0 nomaster; ip link del lab-br"); err != nil {
			t.Error(err)
		}
	}
}

// guestThrough: a machine bridged to erin's veth_fac0 gets outside through her, as her,
// and nobody from outside gets in; her own services are not for guests.
func guestThrough(t *testing.T, w *world) {
	erin, grace := w.Host("erin"), w.Host("grace")
	in, leave := w.guestOf(t, erin)
	defer leave()
	for _, address := range []string{erin.GatewayAddress(), erin.IntrawireAddress(), grace.GatewayAddress(), grace.AccessAddress(), grace.IntrawireAddress(), lab.OutsideAddress} {
		w.on(t, "erin", in+"ping -q -c 2 -i 0.3 -W 5 "+address)
	}
	if from := w.on(t, "erin", in+askOutside); !strings.Contains(from, erin.Address) {
		t.Errorf("the outside sees the guest as %q, wanted erin's own address", from)
	}
	for what, command := range map[string]string{
		"the metadata of erin's cloud": "ping -q -c 2 -i 0.3 -W 1 169.254.169.254",
		"SSH at erin's own address":    "timeout 3 bash -c 'exec 3<>/dev/tcp/" + erin.Address + "/22'",
	} {
		if _, err := erin.Run(w.ctx, in+command); err == nil {
			t.Errorf("the guest reaches %s", what)
		}
	}
	w.on(t, "erin", "timeout 5 bash -c 'exec 3<>/dev/tcp/"+grace.IntrawireAddress()+"/22'")
	w.tellsInside(t, in)
	// What others do to all packet filters, or to forwarding, is repaired.
	for _, what := range []string{"nft flush ruleset", "sysctl -q -w net.ipv4.ip_forward=1; sysctl -q -w net.ipv4.ip_forward=0"} {
		w.on(t, "erin", what)
		eventually(t, 30*time.Second, "the guest gets outside after "+what, func() error {
			if _, err := erin.Run(w.ctx, "nft list table inet mobula >/dev/null"); err != nil {
				return err
			}
			_, err := erin.Run(w.ctx, in+"ping -q -c 1 -W 2 "+lab.OutsideAddress)
			return err
		})
	}
	w.on(t, "erin", "ufw reload") // which its administrator has to do himself
	// Whoever is on erin's own network and takes her for a router gets nowhere.
	for _, to := range []string{grace.InAccess(200, 7), grace.IntrawireAddress(), lab.OutsideAddress + "/32"} {
		address, _, _ := strings.Cut(to, "/")
		route := []string{"route", "replace", address + "/32", "via", erin.Address}
		if out, err := lab.Command(w.ctx, w.Namespace(), "ip", route...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		err := lab.Command(w.ctx, w.Namespace(), "ping", "-q", "-c", "2", "-i", "0.3", "-W", "1", address).Run()
		_ = lab.Command(w.ctx, w.Namespace(), "ip", "route", "del", address+"/32").Run()
		if err == nil {
			t.Errorf("the outside reaches %s through erin", address)
		}
	}
}

// sendingTo has a host send 100 packets to another, a second's fifth apart, and returns 5 s
// later. What it returns waits for the last and says how many were answered.
func (w *world) sendingTo(t *testing.T, from string, host *lab.Host) (arrived func(when string) int) {
	t.Helper()
	var said strings.Builder
	ping := w.Host(from).SSH(w.ctx, "-S", "none", "ping -q -i 0.2 -c 100 "+host.IntrawireAddress())
	ping.Stdout = &said
	if err := ping.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(5 * time.Second)
	return func(when string) int {
		t.Helper()
		_ = ping.Wait()
		t.Logf("%s: %s", when, strings.TrimSpace(said.String()))
		m := pinged.FindStringSubmatch(said.String())
		if m == nil || m[1] != "100" {
			t.Error("the pings did not end")
			return 0
		}
		answered, _ := strconv.Atoi(m[2])
		return answered
	}
}

// sees is where a host has another one's WireGuard.
func (w *world) sees(t *testing.T, host string, other *lab.Host) netip.AddrPort {
	t.Helper()
	for _, p := range w.quick(t, host).Peers {
		if p.Name == other.Address || p.Name == other.FQDN() {
			return netip.MustParseAddrPort(p.Endpoint)
		}
	}
	t.Fatalf("%s does not know %s", host, other.Name)
	return netip.AddrPort{}
}

// onlyAnswers has the lab drop datagrams of hosts that the host has sent nothing to for a
// while, as most firewalls do.
func (w *world) onlyAnswers(t *testing.T, host string) (open func()) {
	t.Helper()
	return w.filterFrames(t, "lab-answers", fmt.Sprintf(`	set asked { type ipv4_addr; flags dynamic,timeout; timeout 30s; }
	chain forward {
		type filter hook forward priority 0
		iifname "tap-%[1]s" meta l4proto udp update @asked { ip daddr }
		oifname "tap-%[1]s" meta l4proto udp ip saddr != @asked drop
	}
`, host))
}

// filterFrames has the lab filter what its hosts send each other by a table of nftables.
func (w *world) filterFrames(t *testing.T, table, content string) (undo func()) {
	t.Helper()
	nft := func(stdin string, args ...string) {
		t.Helper()
		cmd := lab.Command(w.ctx, w.Namespace(), "nft", args...)
		cmd.Stdin = strings.NewReader(stdin)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	nft("table bridge "+table+" {\n"+content+"}\n", "-f", "-")
	return func() {
		t.Helper()
		nft("", "delete", "table", "bridge", table)
	}
}

// withoutCable pulls the cable of a host's NIC while grace sends to it, looks at what became
// of it, and puts the cable back. It returns how many of 100 packets were answered.
func (w *world) withoutCable(t *testing.T, host *lab.Host, when string, look func()) (answered int) {
	t.Helper()
	arrived := w.sendingTo(t, "grace", host)
	if err := host.SetLink(false); err != nil {
		t.Fatal(err)
	}
	answered = arrived(when)
	look()
	if err := host.SetLink(true); err != nil {
		t.Fatal(err)
	}
	return answered
}

// firstUplinkFails: erin's cable is pulled while grace sends to her. The other uplink, behind
// a router, goes on, and when the first is back it counts again.
func firstUplinkFails(t *testing.T, w *world) {
	erin := w.Host("erin")
	at := ""
	answered := w.withoutCable(t, erin, "erin without the first of two uplinks", func() {
		at = w.sees(t, "grace", erin).Addr().String()
	})
	erin.Disconnect()
	if answered < 85 || at != lab.SitePublicAddress { // 3 s
		t.Errorf("%d of 100 packets were answered, and grace has erin at %s, wanted %s", answered, at, lab.SitePublicAddress)
	}
	if err := erin.WaitSSH(w.ctx); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, "erin is back where she was", func() error {
		if at := w.sees(t, "grace", erin).Addr().String(); at != erin.Address {
			return fmt.Errorf("grace has her at %s", at)
		}
		return nil
	})
	eventually(t, 30*time.Second, "erin goes on as before", func() error {
		if s := w.status(t, "erin"); len(s.Differences) > 0 {
			return fmt.Errorf("%v", s.Differences)
		}
		return nil
	})
	w.reachEachOther(t)
}
