package wireguardtest

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
)

// Device implements wireguard.Kernel.
func (l *Live) Device(name string) (*wgtypes.Device, error) {
	text, err := l.device.IpcGet()
	if err != nil {
		return nil, err
	}
	return parseDevice(name, text)
}

// Underlay implements wireguard.Kernel.
func (l *Live) Underlay(string) (bool, error) { return false, nil }

// ConfigureDevice implements wireguard.Kernel.
func (l *Live) ConfigureDevice(_ string, c wgtypes.Config) error {
	c.Peers = batched(c.Peers)
	return l.device.IpcSet(render(c))
}

// render says a configuration the way of wireguard's cross-platform interface, see
// www.wireguard.com/xplatform.
func render(c wgtypes.Config) string {
	var b strings.Builder
	say := func(key string, value any) { fmt.Fprintf(&b, "%s=%v\n", key, value) }
	if c.PrivateKey != nil {
		say("private_key", hex.EncodeToString(c.PrivateKey[:]))
	}
	if c.ListenPort != nil {
		say("listen_port", *c.ListenPort)
	}
	if c.ReplacePeers {
		say("replace_peers", true)
	}
	for _, p := range c.Peers {
		say("public_key", hex.EncodeToString(p.PublicKey[:]))
		if p.UpdateOnly {
			say("update_only", true)
		}
		if p.Remove {
			say("remove", true)
			continue
		}
		if p.PresharedKey != nil {
			say("preshared_key", hex.EncodeToString(p.PresharedKey[:]))
		}
		if p.Endpoint != nil {
			say("endpoint", p.Endpoint)
		}
		if p.ReplaceAllowedIPs {
			say("replace_allowed_ips", true)
		}
		for _, ip := range p.AllowedIPs {
			say("allowed_ip", ip.String())
		}
		if p.PersistentKeepaliveInterval != nil {
			say("persistent_keepalive_interval", int(p.PersistentKeepaliveInterval.Seconds()))
		}
	}
	return b.String()
}

// parseDevice reads what the interface says of a device.
func parseDevice(name, text string) (*wgtypes.Device, error) {
	d := &wgtypes.Device{Name: name}
	var last time.Duration
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		key, value, _ := strings.Cut(lines.Text(), "=")
		if key == "public_key" {
			d.Peers = append(d.Peers, wgtypes.Peer{})
		}
		var p *wgtypes.Peer
		if n := len(d.Peers); n > 0 {
			p = &d.Peers[n-1]
		}
		var err error
		switch key {
		case "private_key":
			d.PrivateKey, err = parseKey(value)
			d.PublicKey = d.PrivateKey.PublicKey()
		case "listen_port":
			d.ListenPort, err = strconv.Atoi(value)
		case "public_key":
			p.PublicKey, err = parseKey(value)
		case "preshared_key":
			p.PresharedKey, err = parseKey(value)
		case "endpoint":
			var at netip.AddrPort
			at, err = netip.ParseAddrPort(value)
			p.Endpoint = net.UDPAddrFromAddrPort(at)
		case "allowed_ip":
			var ip *net.IPNet
			if _, ip, err = net.ParseCIDR(value); err == nil {
				p.AllowedIPs = append(p.AllowedIPs, *ip)
			}
		case "last_handshake_time_sec":
			last, err = time.ParseDuration(value + "s")
		case "last_handshake_time_nsec":
			var rest time.Duration
			if rest, err = time.ParseDuration(value + "ns"); last+rest > 0 {
				p.LastHandshakeTime = time.Unix(0, int64(last+rest))
			}
		case "rx_bytes":
			p.ReceiveBytes, err = strconv.ParseInt(value, 10, 64)
		case "tx_bytes":
			p.TransmitBytes, err = strconv.ParseInt(value, 10, 64)
		case "persistent_keepalive_interval":
			p.PersistentKeepaliveInterval, err = time.ParseDuration(value + "s")
		}
		if err != nil {
			return nil, fmt.Errorf("what wireguard-go says: %q: %w", lines.Text(), err)
		}
	}
	return d, nil
}

func parseKey(value string) (key wgtypes.Key, err error) {
	b, err := hex.DecodeString(value)
	if err == nil && len(b) != len(key) {
		err = fmt.Errorf("found %d bytes, wanted %d", len(b), len(key))
	}
	copy(key[:], b)
	return key, err
}
