package packetfilter

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
)

// Commands runs a program and returns what it prints; exec.ErrNotFound if it is not
// installed.
type Commands func(ctx context.Context, name string, args ...string) (string, error)

// Run is Commands of this host.
func Run(ctx context.Context, name string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, name, args...).Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(exit.Stderr)))
	}
	return string(out), err
}

// Filters are the host's packet filters, without Mobula's own.
type Filters struct {
	tables []*Table
	ufw    bool // enabled
}

// ufwRules is where ufw keeps its rules.
const ufwRules = "/etc/ufw/user.rules"

// ufwConf is where ufw notes that it is enabled.
const ufwConf = "/etc/ufw/ufw.conf"

// Read reads them by the given commands and below root. iptables has two programs, each
// with rules of its own, of which nft knows one, and not all that is in its rules.
func Read(ctx context.Context, run Commands, root string) (*Filters, error) {
	f := &Filters{}
	for _, save := range []string{"iptables-nft-save", "iptables-legacy-save"} {
		out, err := run(ctx, save)
		if err != nil && !errors.Is(err, exec.ErrNotFound) {
			return nil, err
		}
		f.tables = append(f.tables, parseIptables(out)...)
	}
	listing, err := run(ctx, "nft", "--json", "list", "ruleset")
	if err != nil && !errors.Is(err, exec.ErrNotFound) {
		return nil, err
	}
	if err == nil {
		tables, err := parseNFT(listing, func(family, name string) bool {
			return family == "inet" && name == "mobula" ||
				family == "ip" && slices.ContainsFunc(f.tables, func(t *Table) bool { return t.Name == name })
		})
		if err != nil {
			return nil, err
		}
		f.tables = append(f.tables, tables...)
	}
	f.ufw, err = enabledUFW(root)
	return f, err
}

// enabledUFW reports that ufw is enabled.
func enabledUFW(root string) (bool, error) {
	conf, err := os.ReadFile(root + ufwConf)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return ufwEnabled.Match(conf), err
}

// ufwEnabled is as ufw reads it (UFWBackend._get_defaults and is_enabled).
var ufwEnabled = regexp.MustCompile(`(?m)^ENABLED="?(yes|true)"?\s*$`)
