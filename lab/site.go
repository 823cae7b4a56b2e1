package lab

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// The site is a network like those at home and in offices: its router hides it behind one
// public address and forwards some ports. The deployer has a foot in it.
const (
	SiteRouterAddress   = "203.0.113.254"
	siteDeployerAddress = "203.0.113.250"
	SiteNetwork         = "203.0.113.0/24"
	siteBridge          = "site"
	// MovingName is a name whose address changes (see SetName).
	MovingName = "moves.example.net"
	// SitePublicAddress is the address that those outside see.
	SitePublicAddress = RouterAddress
)

// forwarded are the ports of the site's router, with where they lead.
func (l *Lab) forwarded() (rules []string) {
	const toRouter = "ip daddr { " + SitePublicAddress + ", " + RouterOutsideAddress + " }"
	for _, h := range l.Hosts {
		if h.Site {
			rules = append(rules,
				fmt.Sprintf("%s udp dport %d dnat to %s:51820", toRouter, h.SitePort(), h.Address),
				fmt.Sprintf("%s tcp dport 8080 dnat to %s:8080", toRouter, h.Address))
		}
	}
	return rules
}

// SitePort is the router's UDP port that leads to the host's WireGuard.
func (s HostSpec) SitePort() int { return 51000 + s.ID }

func (l *Lab) hasSite() bool {
	return slices.ContainsFunc(l.Hosts, func(h *Host) bool { return h.Site || h.TwoUplinks })
}

// createSite makes the site's network, if a host stands in it.
func (l *Lab) createSite(ctx context.Context) error {
	if !l.hasSite() {
		return nil
	}
	lab, router := l.Namespace(), l.routerNamespace()
	if err := ipBatch(ctx,
		"-n "+lab+" link add "+siteBridge+" address 02:6c:61:62:00:02 type bridge forward_delay 0 mcast_snooping 0",
		"-n "+lab+" link set "+siteBridge+" up",
		"-n "+lab+" link add deployer-site type veth peer name p-deployer-site",
		"-n "+lab+" link set p-deployer-site master "+siteBridge+" up",
		"-n "+lab+" addr add "+siteDeployerAddress+"/24 dev deployer-site",
		"-n "+lab+" link set deployer-site up",
		"-n "+lab+" link add p-router-site type veth peer name site netns "+router,
		"-n "+lab+" link set p-router-site master "+siteBridge+" up",
		"-n "+router+" addr add "+SiteRouterAddress+"/24 dev site",
		"-n "+router+" link set site up",
	); err != nil {
		return err
	}
	_, err := outputWithInput(ctx, fmt.Sprintf(`table ip lab {
	chain prerouting {
		type nat hook prerouting priority dstnat
		%s
	}
	chain postrouting {
		type nat hook postrouting priority srcnat
		ip saddr %s oifname != "site" masquerade
		ip daddr %[2]s ip saddr %[2]s masquerade
	}
	chain forward {
		type filter hook forward priority filter
		oifname "site" ct state established,related accept
		oifname "site" ct status dnat accept
		oifname "site" drop
	}
}
`, strings.Join(l.forwarded(), "\n\t\t"), SiteNetwork), "ip", "netns", "exec", router, "nft", "-f", "-")
	return err
}

// deployerHosts has the deployer, which asks no resolver, know the address that MovingName
// begins with (ip-netns(8) puts the file in the place of /etc/hosts).
func (l *Lab) deployerHosts() error {
	for _, h := range l.Hosts {
		if h.TwoUplinks {
			if err := os.MkdirAll(l.etc(), 0o755); err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(l.etc(), "hosts"), []byte("127.0.0.1 localhost\n"+h.Address+" "+MovingName+"\n"), 0o644)
		}
	}
	return nil
}

func (l *Lab) etc() string { return filepath.Join("/etc/netns", l.Namespace()) }

// namesFile holds names that change, a line each: "name address".
func namesFile(dir string) string { return dir + "/names" }

// SetName has the resolver outside answer a name with another address from now on.
func (l *Lab) SetName(name, address string) error {
	if net.ParseIP(address) == nil {
		return fmt.Errorf("found %q, wanted an IP address", address)
	}
	return os.WriteFile(namesFile(l.Dir), []byte(name+". "+address+"\n"), 0o600)
}
