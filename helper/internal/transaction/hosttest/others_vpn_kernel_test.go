//go:build kernel

package hosttest

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"mobula/helper/internal/netns"
	"mobula/helper/internal/netns/netnstest"
)

// TestOthersVPN: another VPN takes all of the host's traffic, as wg-quick has it with
// AllowedIPs = 0.0.0.0/0, before Mobula comes and while it is there. What WireGuard sends
// goes through it, and guests get outside; both go, in either order.
func TestOthersVPN(t *testing.T) {
	for _, first := range []string{"the VPN", "Mobula"} {
		t.Run(first, func(t *testing.T) {
			t.Parallel()
			up := "WG_QUICK_USERSPACE_IMPLEMENTATION=wireguard-go wg-quick up vpn7 2>&1"
			b := newBeside(t, "1: classic", func(b *beside) {
				b.provider()
				if first == "the VPN" {
					t.Log(run(t, up))
				}
			})
			if b == nil {
				return
			}
			if first == "Mobula" {
				b.isBack("the VPN comes", up)
			}
			b.inside()
			b.outside("through the VPN")
			if from := b.seenAs(); from != "10.7.0.2" {
				t.Errorf("what comes from WireGuard's port is seen as %q, wanted it through the VPN", from)
			}
			if first == "Mobula" {
				b.isBack("the VPN goes", "wg-quick down vpn7 2>&1; sysctl -qw net.ipv4.conf.all.src_valid_mark=0") // which wg-quick leaves
				b.inside()
				b.outside("without the VPN")
				if from := b.seenAs(); from != "192.0.2.10" {
					t.Errorf("what comes from WireGuard's port is seen as %q, wanted the NIC's address", from)
				}
				b.uninstall()
				b.same("an uninstall after the VPN went")
				return
			}
			b.uninstall()
			if left := run(t, "ip -o addr | grep -E '10\\.3[01]\\.' || true; ip rule | grep ^103 || true; nft list tables | grep mobula || true"); left != "" {
				t.Errorf("left behind: %s", left)
			}
			if from := b.seenAs(); from != "10.7.0.2" {
				t.Errorf("after an uninstall what the host sends is seen as %q, wanted it through the VPN", from)
			}
			run(t, "wg-quick down vpn7 2>&1")
			b.outsideOfHost()
		})
	}
}

// inside holds that what is inside is asked for over the direct link.
func (b *beside) inside() {
	b.Helper()
	for _, to := range []string{"10.30.0.2", "10.31.0.2 from 10.30.127.255"} {
		if out := run(b.T, "ip route get "+to); !strings.Contains(out, "dev mo-dir-hs") {
			b.Errorf("to %s the host sends %s", to, out)
		}
	}
}

// provider is the other end of the VPN, by which the host reaches all.
func (b *beside) provider() {
	b.Helper()
	run(b.T, `mkdir -p /etc/wireguard /run/wireguard; cd /etc/wireguard; umask 077
wg genkey >a; wg genkey >p; wg pubkey <a >a.pub; wg pubkey <p >p.pub
cat >vpn7.conf <<X
[Interface]
PrivateKey = $(cat a)
Address = 10.7.0.2/32
[Peer]
PublicKey = $(cat p.pub)
AllowedIPs = 0.0.0.0/0
Endpoint = 192.0.2.1:4500
X
ip -n isp addr add 198.51.100.1/32 dev cable`)
	netnstest.Daemon(b.T, "isp", "wireguard-go -f prov7", "wg show prov7")
	err := netns.Do("isp", func() error {
		run(b.T, `cd /etc/wireguard; wg set prov7 listen-port 4500 private-key p peer $(cat a.pub) allowed-ips 10.7.0.2/32; ip link set prov7 up; ip route add 10.7.0.2 dev prov7`)
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
}

// seenAs is the address from which a member hears what the host sends from WireGuard's port.
func (b *beside) seenAs() (from string) {
	b.Helper()
	var at, own net.PacketConn
	err := netns.Do("isp", func() (err error) {
		at, err = net.ListenPacket("udp4", "198.51.100.1:51820")
		return err
	})
	if err == nil {
		own, err = net.ListenPacket("udp4", "0.0.0.0:51820")
	}
	if err != nil {
		b.Fatal(err)
	}
	defer at.Close()
	defer own.Close()
	for try := 0; try < 5 && from == ""; try++ {
		_, _ = own.WriteTo([]byte("handshake"), &net.UDPAddr{IP: net.IPv4(198, 51, 100, 1), Port: 51820})
		_ = at.SetReadDeadline(time.Now().Add(time.Second))
		if _, who, err := at.ReadFrom(make([]byte, 100)); err == nil {
			from, _, _ = strings.Cut(who.String(), ":")
		}
	}
	return from
}

func (b *beside) outsideOfHost() {
	b.Helper()
	run(b.T, fmt.Sprintf("ping -n -c 1 -W 2 %s", b.made.gateway))
}
