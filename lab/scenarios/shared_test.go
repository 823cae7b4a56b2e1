//go:build lab

package scenarios

import (
	"bufio"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"mobula/lab"
)

const (
	// ownNetwork is what of a host that keeps its NIC is its own, without what Mobula adds,
	// to the rules of ufw and Docker, too. A container's link has another name each time.
	ownNetwork = `for d in ens3 ens6 bond0 vmbr0; do [ ! -e /sys/class/net/$d ] || ip -d address show dev $d; done | sed 's/_lft [0-9a-z]*//g; /^ *bridge forward_delay/d'
ip -4 -br address show dev docker0 2>/dev/null || true # whose MAC address is another one after each boot
ip -4 route show table main | grep -v veth_fac0; ip rule | grep -v ^103
cat /etc/resolv.conf; ls /etc/systemd/network | grep -v mobula || true; nft -s list ruleset 2>/dev/null | sed '/^table [a-z]* mobula {/,/^}/d' | grep -vE 'dport 51820|mo-dir-hs' || true`
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
var beforeShared = map[string]string{}

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
	var said strings.Builder
	ping := lab.Command(w.ctx, w.Namespace(), "ping", "-q", "-i", "0.2", host.Address)
	ping.Stdout = &said
	if err := ping.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = ping.Process.Kill()
		_ = session.Process.Kill()
	})
	return func() {
		t.Helper()
		_, _ = io.WriteString(in, "here\n")
		if line, err := lines.ReadString('\n'); line != "still here\n" {
			t.Errorf("the SSH session to the own address of %s says %q, %v", name, line, err)
		}
		_ = session.Wait()
		_ = ping.Process.Signal(syscall.SIGINT)
		_ = ping.Wait()
		m := pinged.FindStringSubmatch(said.String())
		if m == nil || m[1] != m[2] {
			t.Errorf("packets to the own address of %s were lost:\n%s", name, said.String())
		} else {
			t.Logf("%s packets to the own address of %s, none lost", m[1], name)
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
	erin, heidi, grace := w.Host("erin"), w.Host("heidi"), w.Host("grace")
	eventually(t, time.Minute, "all reach each other", func() error {
		for _, pair := range [][2]*lab.Host{{erin, grace}, {grace, erin}, {erin, heidi}, {heidi, erin}, {heidi, grace}, {grace, heidi}} {
			for _, to := range []string{pair[1].IntrawireAddress(), pair[1].AccessAddress(), pair[1].GatewayAddress(), pair[1].FQDN()} {
				if _, err := pair[0].Run(w.ctx, "ping -q -c 2 -i 0.3 -W 2 "+to); err != nil {
					return err
				}
			}
		}
		return nil
	})
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
	for _, c := range []struct{ name, want string }{{"nas.example.com", "10.31.0.254"}, {lab.OutsideName, lab.OutsideAddress}} {
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

// askOutside has the outside say who asks.
const askOutside = `python3 -c "import urllib.request; print(urllib.request.urlopen('http://` + lab.OutsideAddress + `/', timeout=10).read().decode())"`

// guestOf bridges a machine to a host's veth_fac0: in is what runs a command there.
func (w *world) guestOf(t *testing.T, host *lab.Host) (in string, leave func()) {
	t.Helper()
	w.on(t, host.Name, `ip link add lab-br type bridge; ip link set veth_fac0 master lab-br; ip link set lab-br up
ip netns add guest; ip link add lab-g type veth peer name eth0 netns guest; ip link set lab-g master lab-br up
ip -n guest link set eth0 mtu 1386 up; ip -n guest addr add 10.31.200.7/16 dev eth0; ip -n guest route add default via `+host.GatewayAddress())
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
	// What others do to all packet filters, or to forwarding, is put right.
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
	// Whoever is on erin's own network and takes her for a router gets nowhere.
	for _, to := range []string{"10.31.200.7", grace.IntrawireAddress(), lab.OutsideAddress + "/32"} {
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

// sendingTo has grace send 100 packets to a host, a second's fifth apart, and returns 5 s
// later. What it returns waits for the last and says how many were answered.
func (w *world) sendingTo(t *testing.T, host *lab.Host) (arrived func(when string) int) {
	t.Helper()
	var said strings.Builder
	ping := w.Host("grace").SSH(w.ctx, "-S", "none", "ping -q -i 0.2 -c 100 "+host.IntrawireAddress())
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

// anotherAddress: the NIC gets another address, as by DHCP or in another network, while
// grace sends to erin. WireGuard's packets take the new one by themselves.
func anotherAddress(t *testing.T, w *world) {
	const other = "192.0.2.77"
	erin := w.Host("erin")
	change := func(from, to string) string {
		return "ip addr add " + to + "/24 dev ens3; ip addr del " + from + "/24 dev ens3; ip route replace default via " + lab.RouterAddress + " dev ens3"
	}
	arrived := w.sendingTo(t, erin)
	if out, err := erin.Console(w.ctx, change(erin.Address, other)); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	answered := arrived("erin with another address")
	at := ""
	for _, p := range w.quick(t, "grace").Peers {
		if p.Name == erin.Address || p.Name == erin.FQDN() {
			at = p.Endpoint
		}
	}
	if out, err := erin.Console(w.ctx, change(other, erin.Address)); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	erin.Disconnect()
	if answered < 85 { // 3 s
		t.Errorf("%d of 100 packets were answered", answered)
	}
	if !strings.HasPrefix(at, other+":") {
		t.Errorf("grace has erin at %s, wanted %s", at, other)
	}
}
