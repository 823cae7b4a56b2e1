//go:build lab

package lab

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// TestMachines goes through what the lab offers, with real machines: it takes some minutes.
func TestMachines(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 9*time.Minute)
	defer cancel()
	hosts := DefaultHosts()
	dynamic := hosts[4]
	dynamic.DHCP, dynamic.Resolved, dynamic.MTU = true, true, 1400
	l, err := Up(ctx, Options{
		Hosts:  []HostSpec{hosts[0], hosts[3], dynamic},
		Dir:    "/run/mobula-labtest",
		Prefix: "mblt", Replace: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if t.Failed() {
			l.Logs(context.Background(), "/tmp/mobula-labtest-logs", os.Stderr)
		}
		if err := l.Down(); err != nil {
			t.Error(err)
		}
	}()
	static, bare, dhcp := l.Hosts[0], l.Hosts[1], l.Hosts[2]
	must := func(h *Host, script string) string {
		t.Helper()
		out, err := h.Run(ctx, script)
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(out)
	}
	step := func(name string, f func(*testing.T)) {
		start := time.Now()
		if !t.Run(name, f) {
			t.FailNow()
		}
		t.Logf("%s: %.1f s", name, time.Since(start).Seconds())
	}

	step("each its own", func(t *testing.T) {
		seen := map[string]string{}
		for _, h := range l.Hosts {
			for _, what := range []string{"cat /etc/machine-id", "cat /etc/ssh/ssh_host_ed25519_key.pub", "hostname"} {
				value := must(h, what)
				if other := seen[value]; other != "" {
					t.Errorf("%s and %s share %s", h.Name, other, value)
				}
				seen[value] = h.Name
			}
			if out, err := h.Run(ctx, "pgrep -a 'ovs|resolved'"); err == nil && !h.Resolved {
				t.Errorf("%s: runs from the start: %s", h.Name, out)
			}
			if got := must(h, "systemctl --failed --no-legend --plain"); got != "" {
				t.Errorf("%s: failed units: %s", h.Name, got)
			}
			if out, err := h.RunAs(ctx, "ops", "sudo id -u", ""); strings.TrimSpace(out) != "0" {
				t.Errorf("%s: ops does not become root: %s %v", h.Name, out, err)
			}
			if got := must(h, "python3 -c 'import socket; print(socket.gethostbyname(\""+OutsideName+"\"))'"); got != OutsideAddress {
				t.Errorf("%s: %s resolves to %s", h.Name, OutsideName, got)
			}
		}
		if got := must(dhcp, "ip -4 -json addr show dev "+NIC); !strings.Contains(got, `"dynamic":true`) {
			t.Errorf("the address did not come by DHCP: %s", got)
		}
		if got := must(dhcp, "cat /sys/class/net/"+NIC+"/mtu; grep nameserver /etc/resolv.conf"); got != "1400\nnameserver 127.0.0.53" {
			t.Errorf("MTU and resolver: %s", got)
		}
		if got := must(static, "ip -4 -json addr show dev "+NIC); strings.Contains(got, `"dynamic":true`) {
			t.Errorf("the address came by DHCP: %s", got)
		}
	})
	step("packages for the bare host", func(t *testing.T) {
		if _, err := bare.Run(ctx, "which ovs-vsctl nft wg"); err == nil {
			t.Error("it is not bare")
		}
		must(bare, "export DEBIAN_FRONTEND=noninteractive; apt-get update && apt-get install -y openvswitch-switch nftables conntrack wireguard-tools && which ovs-vsctl nft conntrack wg")
	})
	step("client", func(t *testing.T) {
		c, err := l.NewClient(ctx, 0)
		if err != nil {
			t.Fatal(err)
		}
		key := must(static, fmt.Sprintf("ip link add wgtest type wireguard; (umask 77; wg genkey >/root/wgtest.key); "+
			"wg set wgtest listen-port 51820 private-key /root/wgtest.key peer %s allowed-ips 10.30.128.1/32; "+
			"ip addr add 10.30.0.1/32 dev wgtest; ip link set wgtest up; ip route add 10.30.128.1/32 dev wgtest; wg show wgtest public-key", c.PublicKey))
		if err := c.Connect(ctx, "10.30.128.1", key, static.Address+":51820"); err != nil {
			t.Fatal(err)
		}
		if out, err := c.Run(ctx, "ping", "-c", "3", "-W", "5", "10.30.0.1"); err != nil {
			t.Error(out, err)
		}
		must(static, "ip link del wgtest")
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	step("meter", func(t *testing.T) {
		m, err := l.StartMeter(ctx, Pairs(l.Hosts, UnderlayAddress), MeterOptions{TCP: true})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		results, err := m.Stop(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := Lossless(results); err != nil || len(results) != 6 {
			t.Error(err)
		}
		t.Log("\n" + Table(results))
	})
	step("save", func(t *testing.T) {
		if err := l.Save("here"); err != nil {
			t.Fatal(err)
		}
		must(static, "touch /root/later && sync")
	})
	step("power cut", func(t *testing.T) {
		if err := static.PowerCut(ctx); err != nil {
			t.Fatal(err)
		}
		must(static, "test -e /root/later && journalctl -b -1 -n 1")
	})
	step("reset", func(t *testing.T) {
		before, err := static.BootID(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := static.Reset(); err != nil {
			t.Fatal(err)
		}
		if err := static.WaitSSH(ctx); err != nil {
			t.Fatal(err)
		}
		if now, err := static.BootID(ctx); err != nil || now == before {
			t.Error("the boot ID is the same", err)
		}
	})
	step("reboot", func(t *testing.T) {
		if err := static.Reboot(ctx); err != nil {
			t.Fatal(err)
		}
	})
	step("carrier", func(t *testing.T) {
		for _, up := range []bool{false, true} {
			if err := static.SetLink(up); err != nil {
				t.Fatal(err)
			}
			out, err := static.Console(ctx, "sleep 0.5; cat /sys/class/net/"+NIC+"/carrier")
			if want := map[bool]string{false: "0", true: "1"}[up]; err != nil || strings.TrimSpace(out) != want {
				t.Errorf("carrier %q, wanted %s: %v", out, want, err)
			}
		}
	})
	step("restore", func(t *testing.T) {
		if err := bare.PowerOff(); err != nil {
			t.Fatal(err)
		}
		if err := l.Restore(ctx, "here"); err != nil {
			t.Fatal(err)
		}
		if must(static, "ls /root/later 2>/dev/null || true") != "" {
			t.Error("what happened after Save is still there")
		}
		must(bare, "which ovs-vsctl")
		if off := must(dhcp, "date +%s"); off < fmt.Sprint(time.Now().Unix()-5) {
			t.Error("the clock is behind: ", off)
		}
	})
}
