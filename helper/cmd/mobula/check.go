package main

import (
	"errors"
	"fmt"

	"mobula/helper/internal/links"
	"mobula/helper/internal/network"
	"mobula/helper/internal/plan"
	"mobula/helper/internal/store"
	"mobula/helper/internal/system"
)

func linkExists(name string) bool { return links.Exists(name) }

// hostReport is what the deployer has to know of a host before it goes on.
type hostReport struct {
	Problems []string `json:"problems"`
	// Warnings are what an operator should know before the first change.
	Warnings []string `json:"warnings"`
	// MissingPackages have to be installed first, by their Debian names.
	MissingPackages []string `json:"missing_packages"`
	// UnderlayMTU is the uplink's MTU in bytes.
	UnderlayMTU int    `json:"underlay_mtu"`
	Uplink      string `json:"uplink"`
	// PublicKey is the key that the host uses, or would use; empty: none yet.
	PublicKey string `json:"public_key"`
	// Generation is what the host has confirmed.
	Generation string `json:"generation"`
}

// checkHost says everything that keeps Mobula from working here.
func (c *call) checkHost(uplink string, asJSON bool) error {
	report, err := c.inspectHost(uplink)
	if err != nil {
		return err
	}
	if asJSON {
		return c.printJSON(report)
	}
	for _, p := range report.Problems {
		fmt.Fprintln(c.stderr, p)
	}
	for _, w := range report.Warnings {
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

func (c *call) inspectHost(uplink string) (*hostReport, error) {
	if err := root(); err != nil {
		return nil, err
	}
	h := c.host()
	facts, err := h.Store.Facts()
	if err != nil {
		return nil, err
	}
	report := &hostReport{Problems: lines(system.Supported()), Warnings: []string{}, MissingPackages: append([]string{}, system.MissingPackages()...)}
	if facts == nil {
		if facts, err = survey(c, uplink); err != nil {
			report.Problems = append(report.Problems, lines(err)...)
		}
		if facts != nil && len(facts.IPv6Addresses) > 0 {
			report.Warnings = append(report.Warnings, fmt.Sprintf("uplink %s: IPv6 addresses %v do not answer while Mobula is on the host: it carries IPv4 only", facts.Uplink, facts.IPv6Addresses))
		}
	} else if uplink != "" && uplink != facts.Uplink {
		report.Problems = append(report.Problems, fmt.Sprintf("uplink: found %s in use, wanted %s; uninstall the host before it gets another one", facts.Uplink, uplink))
	}
	if facts != nil {
		report.UnderlayMTU, report.Uplink = facts.MTU, facts.Uplink
	}
	confirmed, err := h.Store.Confirmed()
	if err != nil {
		return nil, err
	}
	report.Generation = confirmed.Generation()
	key, err := currentKey(h.Store)
	report.PublicKey = key.String()
	return report, err
}

// currentKey returns the key of the confirmed document, else the newest one;
// zero if there is none.
func currentKey(s *store.Store) (network.Key, error) {
	confirmed, err := s.Confirmed()
	if err != nil {
		return network.Key{}, err
	}
	if confirmed != nil && confirmed.Document != nil {
		if self, ok := confirmed.Document.Host(confirmed.HostID); ok {
			if _, err := s.Keys().PrivateKey(self.PublicKey); err == nil {
				return self.PublicKey, nil
			}
		}
	}
	return s.Keys().Newest()
}

var keyCommand = command{
	name: "key", arguments: "[--new] [--json]",
	summary: "print this host's public key, making a pair if there is none",
	help: `The private half stays in ` + plan.StateDir + `/keys with mode 0600 and never leaves the host.
With --new it makes another pair, which is used as soon as a network document
names it. Confirming a document deletes the keys that it does not name.`,
	run: func(c *call) error {
		fresh := c.flags.Bool("new", false, "make another key")
		asJSON := c.flags.Bool("json", false, "print JSON")
		if err := c.parse(); err != nil {
			return err
		}
		if err := root(); err != nil {
			return err
		}
		unlock, err := lock(c, "key", patience)
		if err != nil {
			return err
		}
		defer unlock()
		s := store.New(plan.StateDir)
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
			return c.printJSON(map[string]any{"public_key": key.String(), "created": created})
		}
		_, err = fmt.Fprintln(c.stdout, key)
		return err
	},
}
