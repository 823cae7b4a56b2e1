package lab

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"strings"
	"time"
)

// Key is the file with the private SSH key that opens every host as root and as ops.
func (l *Lab) Key() string { return l.path("id_ed25519") }

func (l *Lab) makeKey(ctx context.Context) error {
	_, err := output(ctx, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", l.Key())
	return err
}

// writeSeed makes the archive with what distinguishes this host from others of its image;
// /usr/local/sbin/lab-init unpacks it at the first boot.
func (h *Host) writeSeed(ctx context.Context) error {
	hostKey := h.lab.path(h.Name + ".hostkey")
	if _, err := output(ctx, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", h.FQDN(), "-f", hostKey); err != nil {
		return err
	}
	private, err := os.ReadFile(hostKey)
	if err != nil {
		return err
	}
	public, err := os.ReadFile(hostKey + ".pub")
	if err != nil {
		return err
	}
	authorized, err := os.ReadFile(h.lab.Key() + ".pub")
	if err != nil {
		return err
	}
	machineID := sha256.Sum256(public)

	s := newSeed()
	s.file("etc/hostname", 0o644, h.FQDN()+"\n")
	s.file("etc/hosts", 0o644, fmt.Sprintf("127.0.0.1 localhost\n127.0.1.1 %s %s\n", h.FQDN(), h.Name))
	s.file("etc/machine-id", 0o444, fmt.Sprintf("%x\n", machineID[:16]))
	if h.Resolved {
		s.link("etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf")
		s.link("etc/systemd/system/sysinit.target.wants/systemd-resolved.service", "/lib/systemd/system/systemd-resolved.service")
		s.link("etc/systemd/system/dbus-org.freedesktop.resolve1.service", "/lib/systemd/system/systemd-resolved.service")
	} else {
		// Where there is none, systemd-resolved's tmpfiles.d(5) makes the link to its stub, even if it
		// is off, and NetworkManager does not write through a link.
		s.file("etc/resolv.conf", 0o644, "nameserver "+ResolverAddress+"\n")
	}
	s.file("etc/ssh/ssh_host_ed25519_key", 0o600, string(private))
	s.file("etc/ssh/ssh_host_ed25519_key.pub", 0o644, string(public))
	s.authorizedKeys("root", 0, string(authorized))
	s.authorizedKeys("home/ops", 1000, string(authorized))
	if h.Docker {
		// What `systemctl enable docker` does.
		for _, unit := range []string{"containerd.service", "docker.service"} {
			s.link("etc/systemd/system/multi-user.target.wants/"+unit, "/lib/systemd/system/"+unit)
		}
		s.link("etc/systemd/system/sockets.target.wants/docker.socket", "/lib/systemd/system/docker.socket")
	}
	if err := h.seedNetwork(s); err != nil {
		return err
	}
	data, err := s.bytes()
	if err != nil {
		return err
	}
	return os.WriteFile(h.seed(), data, 0o600)
}

// withIfupdown is what `systemctl enable networking` does.
func (s *seed) withIfupdown() {
	for _, target := range []string{"multi-user", "network-online"} {
		s.link("etc/systemd/system/"+target+".target.wants/networking.service", "/lib/systemd/system/networking.service")
	}
}

func (h *Host) seedNetwork(s *seed) error {
	const units = "etc/systemd/system/"
	switch {
	case h.Manager == "ifupdown" && h.Debian != 13 && !h.DHCP:
		lines := []string{
			"source /etc/network/interfaces.d/*", "",
			"auto lo", "iface lo inet loopback", "",
			"allow-hotplug " + NIC,
			"iface " + NIC + " inet static",
			"    address " + h.Address + "/24",
			"    gateway " + RouterAddress,
		}

		if h.MTU != 0 {
			lines = append(lines, fmt.Sprintf("    mtu %d", h.MTU))
		}
		lines = append(lines, "iface "+NIC+" inet6 static", "    address "+h.IPv6Address()+"/64", "    gateway "+ipv6Gateway, "    dad-attempts 0")
		s.file("etc/network/interfaces", 0o644, strings.Join(lines, "\n")+"\n")
		s.withIfupdown()
	case h.Manager == "networkd" && !h.TwoUplinks:
		// As on hosts that came from ifupdown, which has no more than lo now.
		s.file("etc/network/interfaces", 0o644, "auto lo\niface lo inet loopback\n")
		s.withIfupdown()
		network := "Address=" + h.Address + "/24\nGateway=" + h.Router() + "\nDNS=" + ResolverAddress + "\n"
		if h.DHCP {
			network = "DHCP=ipv4\n"
		}
		if !h.NoIPv6 {
			network += "Address=" + h.IPv6Address() + "/64\nGateway=" + ipv6Gateway + "\n"
		}
		if h.Bridged {
			network += "IPv6AcceptRA=no\n" // the bridge would be waited for until a router may have answered
		}
		if h.MTU != 0 {
			network += fmt.Sprintf("\n[Link]\nMTUBytes=%d\n", h.MTU)
		}
		s.file("etc/systemd/network/10-uplink.network", 0o644, "[Match]\nName="+h.Uplink()+"\n\n[Network]\n"+network)
		if h.Bridged {
			s.bridged(h.MAC())
		}
		// What `systemctl enable systemd-networkd` does.
		s.link(units+"dbus-org.freedesktop.network1.service", "/lib/systemd/system/systemd-networkd.service")
		s.link(units+"multi-user.target.wants/systemd-networkd.service", "/lib/systemd/system/systemd-networkd.service")
		s.link(units+"sockets.target.wants/systemd-networkd.socket", "/lib/systemd/system/systemd-networkd.socket")
		s.link(units+"sysinit.target.wants/systemd-network-generator.service", "/lib/systemd/system/systemd-network-generator.service")
		s.link(units+"network-online.target.wants/systemd-networkd-wait-online.service", "/lib/systemd/system/systemd-networkd-wait-online.service")
	case h.Manager == "netplan" && h.Debian == 13:
		// As cloud-init writes it. netplan turns systemd-networkd on by itself.
		s.file("etc/netplan/50-cloud-init.yaml", 0o600, h.netplan())
		s.file(units+"cloud-init-network.service", 0o644, cloudInit)
		s.link(units+"multi-user.target.wants/cloud-init-network.service", "../cloud-init-network.service")
	case h.Manager == "NetworkManager" && h.Debian == 13 && !h.DHCP:
		s.file("etc/NetworkManager/system-connections/"+NIC+".nmconnection", 0o600, fmt.Sprintf(`[connection]
id=%[1]s
type=ethernet
interface-name=%[1]s

[ipv4]
method=manual
address1=%[2]s/24,%[3]s
dns=%[4]s;

[ipv6]
method=manual
address1=%[5]s/64,%[6]s
`, NIC, h.Address, RouterAddress, ResolverAddress, h.IPv6Address(), ipv6Gateway))
		// Or it asks for an address by DHCP for 45 s on a NIC that has not got its name yet.
		s.file("etc/NetworkManager/conf.d/10-servers.conf", 0o644, "[main]\nno-auto-default=*\n")
		// What `systemctl enable NetworkManager` does.
		s.link(units+"multi-user.target.wants/NetworkManager.service", "/lib/systemd/system/NetworkManager.service")
		s.link(units+"network-online.target.wants/NetworkManager-wait-online.service", "/lib/systemd/system/NetworkManager-wait-online.service")
		s.link(units+"dbus-org.freedesktop.nm-dispatcher.service", "/lib/systemd/system/NetworkManager-dispatcher.service")
	default:
		return fmt.Errorf("host %s: no network manager %q (Debian %d, DHCP: %v) in the lab; there are networkd, ifupdown (Debian 12, static), netplan (Debian 13) and NetworkManager (Debian 13, static)", h.Name, h.Manager, h.Debian, h.DHCP)
	}
	return nil
}

// netplan is its configuration (netplan-yaml(5)).
func (h *Host) netplan() string {
	const nic = `    %[1]s:
      match:
        macaddress: %[2]s
      set-name: %[1]s
`
	text := "network:\n  version: 2\n  ethernets:\n" + fmt.Sprintf(nic, NIC, h.MAC())
	if h.DHCP {
		text += "      dhcp4: true\n"
	} else {
		text += fmt.Sprintf(`      addresses: [%s/24, "%s/64"]
      nameservers:
        addresses: [%s]
      routes:
        - to: default
          via: %s
        - to: default
          via: %s
`, h.Address, h.IPv6Address(), ResolverAddress, RouterAddress, ipv6Gateway)
	}
	if h.TwoUplinks {
		text += fmt.Sprintf(nic, SecondNIC, h.nics()[1].mac) + fmt.Sprintf(`      accept-ra: false
      addresses: [203.0.113.%d/24]
      routes:
        - to: default
          via: %s
          metric: 2048
`, h.ID%250, SiteRouterAddress)
	}
	return text
}

// bridged is a bridge over a VLAN of a bond of the two NICs (systemd.netdev(5)). By its MAC
// address DHCP knows the host.
func (s *seed) bridged(mac string) {
	const folder = "etc/systemd/network/"
	s.file(folder+"05-bond.netdev", 0o644, "[NetDev]\nName="+Bond+"\nKind=bond\n\n[Bond]\nMode=active-backup\nMIIMonitorSec=100ms\n")
	s.file(folder+"05-bridge.netdev", 0o644, "[NetDev]\nName="+Bridge+"\nKind=bridge\nMACAddress="+mac+"\n\n[Bridge]\nForwardDelaySec=0\n")
	s.file(folder+"06-first.network", 0o644, "[Match]\nName="+NIC+"\n\n[Network]\nBond="+Bond+"\nPrimarySlave=yes\n")
	s.file(folder+"06-second.network", 0o644, "[Match]\nName="+SecondNIC+"\n\n[Network]\nBond="+Bond+"\n")
	s.file(folder+"05-vlan.netdev", 0o644, fmt.Sprintf("[NetDev]\nName=%s\nKind=vlan\n\n[VLAN]\nId=%d\n", BondVLAN, VLAN))
	s.file(folder+"07-bond.network", 0o644, "[Match]\nName="+Bond+"\n\n[Network]\nVLAN="+BondVLAN+"\nLinkLocalAddressing=no\n")
	s.file(folder+"08-vlan.network", 0o644, "[Match]\nName="+BondVLAN+"\n\n[Network]\nBridge="+Bridge+"\n")
}

// cloudInit comes at boot when cloud-init's network stage does (its unit in Debian 13):
// between the network and the rest of the system.
const cloudInit = `[Unit]
DefaultDependencies=no
After=cloud-init-local.service systemd-networkd-wait-online.service networking.service
Before=network-online.target systemd-user-sessions.service sysinit.target shutdown.target
Conflicts=shutdown.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/true
`

// seed is a tar archive in the making; the first error sticks.
type seed struct {
	buf bytes.Buffer
	w   *tar.Writer
	err error
}

func newSeed() *seed {
	s := &seed{}
	s.w = tar.NewWriter(&s.buf)
	return s
}

func (s *seed) add(h *tar.Header, content string) {
	if s.err != nil {
		return
	}
	h.ModTime, h.Gid, h.Size = time.Now().Truncate(time.Second), h.Uid, int64(len(content))
	if s.err = s.w.WriteHeader(h); s.err == nil {
		_, s.err = s.w.Write([]byte(content))
	}
}

func (s *seed) file(name string, mode int64, content string) {
	s.add(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode}, content)
}

func (s *seed) link(name, target string) {
	s.add(&tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777}, "")
}

// authorizedKeys opens an account to the lab's key.
func (s *seed) authorizedKeys(home string, uid int, keys string) {
	s.add(&tar.Header{Typeflag: tar.TypeDir, Name: home + "/.ssh/", Mode: 0o700, Uid: uid}, "")
	s.add(&tar.Header{Typeflag: tar.TypeReg, Name: home + "/.ssh/authorized_keys", Mode: 0o600, Uid: uid}, keys)
}

// bytes ends the archive and pads it to whole disk sectors.
func (s *seed) bytes() ([]byte, error) {
	if s.err == nil {
		s.err = s.w.Close()
	}
	for s.buf.Len()%4096 != 0 {
		s.buf.WriteByte(0)
	}
	return s.buf.Bytes(), s.err
}
