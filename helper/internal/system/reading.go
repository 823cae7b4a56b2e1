package system

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"

	"mobula/helper/internal/reconcile"
	"mobula/helper/internal/spec"
)

// reloads notes who has to read changed files again, and in which steps.
type reloads map[reload]bool

type reload struct {
	who  string
	step reconcile.Step
}

func (r reloads) note(path string, step reconcile.Step) {
	if who := readBy(path); who != "" {
		r[reload{who, step}] = true
	}
}

// readBy returns who has to read a changed file again; "" for nobody.
func readBy(path string) string {
	switch {
	case strings.HasPrefix(path, "/etc/systemd/system/"):
		return "systemd"
	case strings.HasPrefix(path, "/etc/systemd/network"):
		return "systemd-networkd"
	case strings.HasPrefix(path, "/etc/NetworkManager/"):
		return "NetworkManager"
	case path == spec.DhcpcdConf:
		return "dhcpcd"
	}
	return ""
}

func (s *System) reading(r reloads, verb reconcile.Verb) []reconcile.Operation {
	var ops []reconcile.Operation
	for _, step := range []reconcile.Step{reconcile.StepFiles, reconcile.StepResolver} {
		for _, who := range []string{"systemd", "systemd-networkd", "NetworkManager", "dhcpcd", ifupdown} {
			if one := (reload{who, step}); r[one] {
				ops = append(ops, s.readingOf(one, verb))
			}
		}
	}
	return ops
}

func (s *System) readingOf(r reload, verb reconcile.Verb) reconcile.Operation {
	detail := "reads its files again"
	if r.who == ifupdown {
		detail = "gives the uplink's resolvers again"
	}
	return reconcile.Operation{Step: r.step, Verb: verb, Object: r.who, Detail: detail, Do: s.reads(r)}
}

// reads returns what makes somebody read its files again.
func (s *System) reads(r reload) func(context.Context) error {
	return func(ctx context.Context) error {
		if !s.mayRead(r.who) {
			return nil // the note stays
		}
		if err := s.tell(ctx, r.who); err != nil {
			return err
		}
		return s.hasRead(r.who)
	}
}

func (s *System) tell(ctx context.Context, who string) error {
	switch who {
	case "systemd":
		if err := s.systemctl(ctx, "daemon-reload"); err != nil {
			return err
		}
		return s.forgetUnits(ctx)
	case "systemd-networkd":
		if s.active(ctx, "systemd-networkd.service") {
			if err := s.run(ctx, "networkctl", "reload"); err != nil {
				// An old one cannot: it reads its files when it starts.
				return s.systemctl(ctx, "try-restart", "systemd-networkd.service")
			}
		}
	case "NetworkManager":
		return s.systemctl(ctx, "try-reload-or-restart", "NetworkManager.service")
	case "dhcpcd":
		if s.active(ctx, "dhcpcd.service") {
			return s.systemctl(ctx, "kill", "--kill-who=main", "--signal=HUP", "dhcpcd.service")
		}
	case ifupdown:
		s.giveResolvers(ctx)
	}
	return nil
}

// forgetUnits makes systemd forget units whose files are gone: the boot unit stays
// active as long as nobody stops it, a unit that failed stays listed.
func (s *System) forgetUnits(ctx context.Context) error {
	if _, err := os.Stat(s.at(spec.UnitDir + spec.UnitBoot)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if s.active(ctx, spec.UnitBoot) {
		if err := s.systemctl(ctx, "stop", spec.UnitBoot); err != nil {
			return err
		}
	}
	return s.systemctl(ctx, "reset-failed", "mobula-*")
}
