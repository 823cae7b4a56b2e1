package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"mobula/helper/internal/inventory"
	"mobula/helper/internal/links"
	"mobula/helper/internal/network"
	"mobula/helper/internal/packetfilter"
	"mobula/helper/internal/spec"
	"mobula/helper/internal/store"
	"mobula/helper/internal/system"
	"mobula/helper/internal/transaction"
	"mobula/helper/internal/wireguard"
	"mobula/helper/internal/worker"
)

// hostReport is what the deployer has to know of a host before it goes on.
type hostReport struct {
	Problems []string `json:"problems"`
	// Warnings are what an operator should know before the first change.
	Warnings []string `json:"warnings"`
	// Closed are warnings of what the host's packet filters drop that Mobula needs.
	Closed []string `json:"closed"`
	// MissingPackages have to be installed first, by their Debian names.
	MissingPackages []string `json:"missing_packages"`
	// UnderlayMTU is the uplink's MTU in bytes.
	UnderlayMTU int    `json:"underlay_mtu"`
	Uplink      string `json:"uplink"`
	// UplinkMode is that of the inventory, else the one that the host has, else the default.
	UplinkMode string `json:"uplink_mode"`
	// PublicKey is the key that the host uses, or would use; empty: none yet.
	PublicKey string `json:"public_key"`
	// Generation is what the host has confirmed, and NetworkMTU the underlay MTU in
	// bytes that the document says; 0: none.
	Generation string `json:"generation"`
	NetworkMTU int    `json:"network_mtu,omitempty"`
}

// intended is what the inventory says of a host, as far as the look at it needs it.
type intended struct {
	host network.Host
	// ranges are nil where the inventory is not asked: as the host has them.
	ranges *network.Ranges
	// mode is uplink_mode; "": the inventory says none.
	mode    string
	outside system.Outside
	// unreached: nobody has to be able to send to the host first.
	unreached bool
	// brought: the operator brings what is missing.
	brought bool
}

// hostFlags are those of check --host.
type hostFlags struct {
	uplink, mode, access, resolver, dns, publish *string
	wire, accessNetwork                          *string
	port                                         *uint16
	open, unreached, brought                     *bool
}

func newHostFlags(c *call) hostFlags {
	f := hostFlags{
		uplink:        c.flags.String("uplink", "", "with --host: the `NIC` to the outside (default: that of the default route)"),
		mode:          c.flags.String("uplink-mode", "", "with --host: `MODE`, moved or shared (default: as the host has it, shared if it is new)"),
		access:        c.flags.String("access-address", "auto", "with --host: `MODE`, auto or manual"),
		resolver:      c.flags.String("resolver", "", "with --host: `WHO`, host or gateway (default: as uplink_mode has it)"),
		dns:           c.flags.String("upstream-dns", "", "with --host: `ADDRESSES` of resolvers, with commas between them (default: those of the host)"),
		publish:       c.flags.String("publish", "", "with --host: `PORTS` that will be reachable, such as tcp/443,udp/53"),
		open:          c.flags.Bool("open-firewall", false, "with --host: say nothing of packet filters that will be opened"),
		unreached:     c.flags.Bool("no-endpoint", false, "with --host: nobody has to be able to send to the host first"),
		wire:          c.flags.String("wire-network", "", "with --host: `NETWORK`, wire_network of the inventory (default: as the host has it)"),
		accessNetwork: c.flags.String("access-network", "", "with --host: `NETWORK`, access_network of the inventory (default: as the host has it)"),
		brought:       c.flags.Bool("packages-brought", false, "with --host: a package that is missing is a problem, nobody else installs it"),
		port:          c.flags.Uint16("wireguard-port", inventory.DefaultWireGuardPort, "with --host: UDP `PORT` of WireGuard"),
	}
	c.offer("uplink", interfaces)
	c.choice("uplink-mode", network.UplinkMode(false), network.UplinkMode(true))
	c.choice("access-address", "auto", "manual")
	c.choice("resolver", "host", "gateway")
	return f
}

func (f hostFlags) intended() (intended, error) {
	i := intended{
		host:    network.Host{Uplink: *f.uplink, OpenFirewall: *f.open, ManualAccess: *f.access == "manual", GatewayResolver: *f.resolver == "gateway"},
		mode:    *f.mode,
		brought: *f.brought, unreached: *f.unreached,
		outside: system.Outside{WireGuardPort: *f.port, ClientPorts: system.ClientPorts()},
	}
	var err error
	if i.ranges, err = f.ranges(); err != nil {
		return i, err
	}
	for _, s := range items(*f.dns) {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return i, exitError{exitUsage, fmt.Errorf("--upstream-dns: found %q, wanted IPv4 addresses with commas between them", *f.dns)}
		}
		i.outside.UpstreamDNS = append(i.outside.UpstreamDNS, a)
	}
	i.host.UpstreamDNS = i.outside.UpstreamDNS
	for _, s := range items(*f.publish) {
		p, ok := inventory.ParsePort(s)
		if !ok {
			return i, exitError{exitUsage, fmt.Errorf("--publish: found %q, wanted a port such as tcp/443", s)}
		}
		i.outside.Published = append(i.outside.Published, p)
	}
	return i, nil
}

// ranges are those of the inventory; nil: nobody said any.
func (f hostFlags) ranges() (*network.Ranges, error) {
	var named [2]network.Slash16
	if *f.wire == "" && *f.accessNetwork == "" {
		return nil, nil
	}
	for i, s := range []string{*f.wire, *f.accessNetwork} {
		if s == "" {
			continue
		}
		n, err := network.ParseSlash16(s)
		if err != nil {
			return nil, exitError{exitUsage, fmt.Errorf("--%s-network: %w", [2]string{"wire", "access"}[i], err)}
		}
		named[i] = n
	}
	ranges := network.NewRanges(named[0], named[1])
	return &ranges, nil
}

// items splits a list with commas.
func items(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' })
}

// checkHost says everything that keeps Mobula from working here.
func (c *call) checkHost(i intended, asJSON bool) error {
	report, err := c.inspectHost(i)
	if err != nil {
		return err
	}
	if asJSON {
		return c.printJSON(report)
	}
	for _, p := range report.Problems {
		fmt.Fprintln(c.stderr, p)
	}
	for _, w := range append(report.Warnings, report.Closed...) {
		fmt.Fprintln(c.stdout, "warning:", w)
	}
	for _, p := range report.MissingPackages {
		fmt.Fprintf(c.stdout, "package %s is missing\n", p)
	}
	if len(report.Problems) > 0 {
		return fmt.Errorf("%d problems, nothing was changed", len(report.Problems))
	}
	_, err = fmt.Fprintf(c.stdout, "Mobula can work on this host: uplink %s, MTU %d bytes\n", report.Uplink, report.UnderlayMTU)
	return err
}

func (c *call) inspectHost(i intended) (*hostReport, error) {
	if err := root(); err != nil {
		return nil, err
	}
	h := c.host()
	facts, err := h.Known()
	if err != nil {
		return nil, err
	}
	confirmed, err := h.Store.Confirmed()
	if err != nil {
		return nil, err
	}
	ranges := i.rangesOf(confirmed)
	if i.mode == "" {
		i.mode = network.UplinkMode(facts == nil || facts.IsShared())
	}
	i.host.SharedUplink = i.mode == network.UplinkMode(true)
	report := newReport(i)
	if facts == nil || facts.IsShared() != i.host.SharedUplink {
		known := facts
		if facts, err = survey(c, ranges, i.host, known); err != nil {
			report.Problems = append(report.Problems, lines(err)...)
		}
		if facts != nil {
			report.beforeTheChange(c, facts, known != nil, i)
		}
		report.Problems = append(report.Problems, lines(h.ModeChanges(known, i.host.SharedUplink))...)
	} else if err := facts.Suit(i.host); err != nil {
		report.Problems = append(report.Problems, err.Error())
	}
	if facts != nil {
		report.UnderlayMTU, report.Uplink = facts.MTU, facts.Uplink
		if facts.IsShared() {
			report.Uplink = "shared"
		}
		report.Closed = closed(c, facts, packetfilter.Evidence{Ranges: ranges, Port: i.outside.WireGuardPort, Unreached: i.unreached, Opens: i.host.OpenFirewall})
	}
	report.Generation = confirmed.Generation()
	if confirmed != nil && confirmed.Document != nil {
		report.NetworkMTU = confirmed.Document.UnderlayMTU
		report.Problems = append(report.Problems, lines(transaction.SameRanges(confirmed.Document.Ranges, ranges))...)
		// It works all the same, but for what the error names.
		clashes, err := links.Clashes(confirmed.Document.Ranges, i.host.ManualAccess)
		report.Warnings = append(report.Warnings, lines(errors.Join(append(clashes, err)...))...)
	}
	key, err := currentKey(h.Store)
	report.PublicKey = key.String()
	return report, err
}

// newReport has what is true of the host whatever its network is.
func newReport(i intended) *hostReport {
	r := &hostReport{UplinkMode: i.mode, Warnings: []string{}, Closed: []string{}, MissingPackages: append([]string{}, system.MissingPackages()...)}
	cannot := []error{system.Modules(links.HasFamily), system.Supported()}
	if i.brought {
		cannot = append(cannot, system.Brought())
	}
	r.Problems = lines(errors.Join(cannot...))
	return r
}

// rangesOf are the ranges that the host is to have, which has this change, or none.
func (i intended) rangesOf(confirmed *store.Change) network.Ranges {
	switch {
	case i.ranges != nil:
		return *i.ranges
	case confirmed != nil && confirmed.Document != nil:
		return confirmed.Document.Ranges
	}
	return network.Ranges{}
}

// beforeTheChange adds what the operator has to know before the first change, or before
// the NIC of a host in use moves or comes back.
func (r *hostReport) beforeTheChange(ctx context.Context, facts *spec.Facts, inUse bool, i intended) {
	files := append(spec.OwnedFiles(facts.Uplink), spec.StateDir, spec.Helper)
	if slices.Contains(facts.Managers, spec.Dhcpcd) {
		files = append(files, spec.DhcpcdConf)
	}
	switch {
	case i.host.SharedUplink && !i.host.GatewayResolver:
		files = append(files, spec.HostsPath)
	case i.host.SharedUplink || !i.host.ManualAccess:
		files = append(files, spec.ResolvConfPath)
	}
	r.Problems = append(r.Problems, lines(system.Changeable(files))...)
	sockets, err := system.Sockets()
	if err != nil {
		r.Problems = append(r.Problems, fmt.Sprintf("sockets: %v", err))
	}
	if inUse {
		sockets = system.WithoutKernels(sockets, i.outside.WireGuardPort) // Mobula's own
	}
	// The names only make the message clearer: without them it is true, too.
	wireguards, _ := wireguard.Listening(i.outside.WireGuardPort)
	if i.host.SharedUplink {
		r.Problems = append(r.Problems, lines(i.outside.PortTaken(sockets, wireguards))...)
		r.Warnings = append(r.Warnings, i.outside.NoResolvers(facts)...)
		return
	}
	if len(facts.IPv6Addresses) > 0 {
		r.Warnings = append(r.Warnings, fmt.Sprintf("uplink %s: IPv6 addresses %v do not answer while Mobula is on the host: it carries IPv4 only", facts.Uplink, facts.IPv6Addresses))
	}
	problem, warnings := i.outside.Exposure(facts, sockets, wireguards)
	r.Problems = append(r.Problems, lines(problem)...)
	r.Warnings = append(append(r.Warnings, warnings...), i.outside.LeftBehind(ctx, facts)...)
}

// currentKey returns the key of the confirmed document, else the newest one;
// zero if there is none.
func currentKey(s *store.Store) (network.Key, error) {
	confirmed, err := s.Confirmed()
	if err != nil {
		return network.Key{}, err
	}
	if self, ok := confirmed.Self(); ok {
		if _, err := s.Keys().PrivateKey(self.PublicKey); err == nil {
			return self.PublicKey, nil
		}
	}
	return s.Keys().Newest()
}

// keyReport is what key prints as JSON.
type keyReport struct {
	Created   bool   `json:"created"`
	PublicKey string `json:"public_key"`
}

func keyCommand() command {
	return command{
		name: "key", arguments: "[--new] [--json]",
		summary: "print this host's public key, making a pair if there is none",
		help: `The private half stays in ` + spec.StateDir + `/keys with mode 0600 and never leaves the host.
With --new it makes another pair, which is used as soon as a network document
names it. Confirming a document deletes the keys that it does not name.`,
		example:   "mobula key --json",
		exits:     []exit{busyExit},
		needsRoot: true,
		define: func(c *call) func() error {
			fresh := c.flags.Bool("new", false, "make another key")
			asJSON := c.jsonFlag()
			return func() error {
				unlock, err := worker.Lock(c, "key", worker.Patience)
				if err != nil {
					return err
				}
				defer unlock()
				s := store.New(spec.StateDir)
				key, err := currentKey(s)
				created := false
				if err == nil && (key.IsZero() || *fresh) {
					key, err = s.Keys().Create()
					created = true
				}
				if err != nil {
					return err
				}
				if key.IsZero() {
					return errors.New("no key was made")
				}
				if *asJSON {
					return c.printJSON(keyReport{created, key.String()})
				}
				_, err = fmt.Fprintln(c.stdout, key)
				return err
			}
		},
	}
}
