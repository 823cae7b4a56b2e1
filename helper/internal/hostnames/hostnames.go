// Package hostnames has a host that keeps its resolver find the private names: where
// systemd-resolved answers its lookups by domains of a link of Mobula's own, set at run
// time, else by a part of /etc/hosts. Others may change at any time which it is.
package hostnames

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"
	"time"

	"mobula/helper/internal/block"
	"mobula/helper/internal/reconcile"
	"mobula/helper/internal/spec"
)

// Commands runs a program and returns what it prints.
type Commands func(ctx context.Context, name string, args ...string) (string, error)

// Resolver is the reconcile.Subject for that.
type Resolver struct {
	// Root is in front of all paths; "" outside of tests.
	Root string
	Run  Commands
	// WriteFile replaces a file in one step.
	WriteFile func(path string, data []byte, mode fs.FileMode) error
	// Index returns the number (ifindex) of a link of the host's own namespace; 0: there is
	// none.
	Index func(link string) int
	// Patience is how long systemd-resolved may take to notice a new link.
	Patience time.Duration
}

// New returns the subject of this host.
func New(run Commands, writeFile func(string, []byte, fs.FileMode) error) *Resolver {
	return &Resolver{Run: run, WriteFile: writeFile, Patience: 2 * time.Second, Index: func(link string) int {
		found, err := net.InterfaceByName(link)
		if err != nil {
			return 0
		}
		return found.Index
	}}
}

// Name implements reconcile.Subject.
func (r *Resolver) Name() string { return "names" }

// Diff implements reconcile.Subject.
func (r *Resolver) Diff(ctx context.Context, want, _ *spec.Host) ([]reconcile.Operation, error) {
	s, err := r.look(ctx, want.Names)
	if err != nil {
		return nil, err
	}
	hosts, route := s.wanted(want.Names)
	if route && !s.runs {
		return nil, nil // it comes, and the agent sees it; until then what there is stays
	}
	lines, err := r.lines(hosts)
	if err != nil {
		return nil, err
	}
	asks := r.asking(s, want.Names, route)
	if route { // nobody is without the names meanwhile
		return append(asks, lines...), nil
	}
	return append(lines, asks...), nil
}

// asking is what differs in systemd-resolved.
func (r *Resolver) asking(s seen, n *spec.Names, route bool) []reconcile.Operation {
	op := reconcile.Operation{Step: reconcile.StepNames, Verb: reconcile.Change, Object: "names by " + spec.DirectHost}
	switch {
	case route && s.link.is(n), !route && s.link.isEmpty():
		return nil
	case route:
		if s.link.isEmpty() {
			op.Verb = reconcile.Add
		}
		op.Detail = fmt.Sprintf("systemd-resolved asks %s for %d domains", n.Server, len(n.Domains))
		op.Do = func(ctx context.Context) error { return r.route(ctx, n) }
	default: // a change: with the boot unit, removed last, goes who would do the rest
		op.Detail = "systemd-resolved asks nobody"
		op.Do = func(ctx context.Context) error { return r.resolvectl(ctx, "revert", spec.DirectHost) }
	}
	return []reconcile.Operation{op}
}

// lines is what differs in /etc/hosts.
func (r *Resolver) lines(wanted string) ([]reconcile.Operation, error) {
	b := block.Block{Path: r.Root + spec.HostsPath, Lines: wanted}
	same, found, err := b.Compare()
	if err != nil || same {
		return nil, err
	}
	op := reconcile.Operation{Step: reconcile.StepNames, Verb: reconcile.Change, Object: "file " + spec.HostsPath,
		Do: func(context.Context) error { return b.Put(r.WriteFile) }}
	switch {
	case wanted == "":
		op.Detail = "without the private names"
	case !found:
		op.Verb, op.Detail = reconcile.Add, "the private names"
	}
	return []reconcile.Operation{op}, nil
}

// seen is what matters of the host.
type seen struct {
	// answers: systemd-resolved answers the host's own lookups, now or as soon as it runs.
	answers, runs bool
	link          link
}

// wanted returns which lines are to be in /etc/hosts, and whether systemd-resolved is to
// be told.
func (s seen) wanted(n *spec.Names) (block string, route bool) {
	switch {
	case n == nil:
		return "", false
	case s.answers:
		return n.Beside, true
	}
	return n.All, false
}

func (r *Resolver) look(ctx context.Context, n *spec.Names) (s seen, err error) {
	if n != nil {
		s.answers = r.answers(ctx)
	}
	if _, err := os.Stat(r.Root + runDir); errors.Is(err, fs.ErrNotExist) {
		return s, nil // it has not run since the boot
	}
	if s.runs = r.runs(ctx); !s.runs {
		return s, nil
	}
	if index := r.Index(spec.DirectHost); index > 0 {
		s.link, err = r.linkNow(ctx, index)
	}
	return s, err
}

// route has systemd-resolved ask for the domains by the link. They come first, by which
// what was interrupted shows, and the server last: without it nothing is asked there. What
// the host says of DNSSEC and DNS over TLS does not hold here: nobody signs private names,
// and the gateway is next door.
func (r *Resolver) route(ctx context.Context, n *spec.Names) error {
	domains := []string{"domain", n.Link}
	for _, d := range n.Domains {
		domains = append(domains, "~"+d)
	}
	for end := time.Now().Add(r.Patience); ; time.Sleep(r.Patience / 20) {
		err := r.resolvectl(ctx, domains...)
		if err == nil {
			break
		}
		if ctx.Err() != nil || time.Now().After(end) {
			return err
		}
	}
	for _, setting := range []string{"default-route", "llmnr", "mdns", "dnssec", "dnsovertls"} {
		if err := r.resolvectl(ctx, setting, n.Link, "no"); err != nil {
			return err
		}
	}
	return r.resolvectl(ctx, "dns", n.Link, n.Server.String())
}

func (r *Resolver) resolvectl(ctx context.Context, args ...string) error {
	_, err := r.Run(ctx, "resolvectl", args...)
	return err
}

// link is what systemd-resolved knows of a link; the zero value is what a new one has.
type link struct {
	servers, domains []string
	defaultRoute     bool
	settings         [4]string // LLMNR, mDNS, DNSSEC, DNS over TLS
}

func (l link) isEmpty() bool { return len(l.servers) == 0 && len(l.domains) == 0 }

func (l link) is(n *spec.Names) bool {
	var domains []string
	for _, d := range n.Domains {
		domains = append(domains, "~"+d)
	}
	slices.Sort(domains)
	return slices.Equal(l.servers, []string{n.Server.String()}) && slices.Equal(l.domains, domains) && !l.defaultRoute &&
		l.settings == [4]string{"no", "no", "no", "no"}
}
