package system

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"regexp"
	"slices"
	"strings"

	"mobula/helper/internal/links"
	"mobula/helper/internal/spec"
)

// LeftBehind tells what of a host counts on the NIC being where it is, and what becomes
// of that when it has moved. Nothing of it stops the move.
func (o Outside) LeftBehind(ctx context.Context, facts *spec.Facts) (warnings []string) {
	return o.leftBehind(ctx, output, links.Through, facts)
}

func (o Outside) leftBehind(ctx context.Context, run Commands, through func(netip.Addr) (string, error), facts *spec.Facts) (warnings []string) {
	for _, w := range []string{packetFilter(ctx, run, facts), stanzaCommands(ctx, run, facts), o.farResolvers(through, facts)} {
		if w != "" {
			warnings = append(warnings, w)
		}
	}
	return warnings
}

// filters print the host's packet filter; one that is not installed has none.
// iptables-save is one of two programs, as the host is set up: the other is asked, too,
// if it is the older one, whose rules nft does not print.
var filters = []struct {
	command []string
	naming  func(line string, facts *spec.Facts) (names, loads bool)
}{
	{[]string{"nft", "list", "ruleset"}, nftNames},
	{[]string{"iptables-save"}, iptablesNames},
	{[]string{"iptables-legacy-save"}, iptablesNames},
}

// packetFilter tells of rules that name the uplink.
func packetFilter(ctx context.Context, run Commands, facts *spec.Facts) string {
	var found, unread []string
	loads := true
	for _, f := range filters {
		out, err := run(ctx, f.command[0], f.command[1:]...)
		if err != nil && !errors.Is(err, exec.ErrNotFound) {
			unread = append(unread, err.Error())
		}
		for _, line := range strings.Split(doorway.ReplaceAllString(out, ""), "\n") {
			if names, also := f.naming(line, facts); names {
				found, loads = append(found, strings.TrimSpace(line)), loads && also
			}
		}
	}
	switch {
	case len(found) > 0:
		warning := fmt.Sprintf("packet filter: found rules that name %s, such as %q, which will not match any more: what comes from outside then comes by %s; have them name that, too",
			facts.Uplink, found[0], spec.DirectHost)
		if !loads {
			warning += fmt.Sprintf("; an nftables file with iif or oif %q, with older kernels also device, will not load at boot, as there is no such interface then: write iifname and oifname", facts.Uplink)
		}
		return warning
	case len(unread) > 0:
		return fmt.Sprintf("packet filter: cannot tell whether its rules name %s: %s", facts.Uplink, strings.Join(unread, "; "))
	}
	return ""
}

// SurveyHooks refuses a packet filter that hangs on the uplink itself: base chains at
// its ingress or egress, and flow tables. Linux before 6.16 takes them away for good
// when the device leaves (nf_tables_netdev_event), and says so to nobody.
func SurveyHooks(ctx context.Context, facts *spec.Facts) error {
	return surveyHooks(ctx, output, facts)
}

func surveyHooks(ctx context.Context, run Commands, facts *spec.Facts) error {
	out, err := run(ctx, "nft", "list", "ruleset")
	if err != nil { // not installed, so nothing hangs there; or LeftBehind tells of it
		return nil
	}
	var problems []error
	for _, line := range strings.Split(doorway.ReplaceAllString(out, ""), "\n") {
		line = strings.TrimSpace(line)
		if !hooked.MatchString(line) {
			continue
		}
		if names, _ := nftNames(line, facts); names {
			problems = append(problems, fmt.Errorf("packet filter: found %q, wanted nothing that hangs on %s: it would not come back with it", line, facts.Uplink))
		}
	}
	return errors.Join(problems...)
}

var (
	// doorway are Mobula's own tables of a host with its NIC, as nft prints them.
	doorway = regexp.MustCompile(`(?ms)^table (inet|netdev) mobula \{$.*?^\}$`)
	// hooked are the lines of base chains and flow tables that name devices.
	hooked = regexp.MustCompile(`^type \w+ hook (in|e)gress |^devices = `)
	// said are texts of rules, which name nothing.
	said = regexp.MustCompile(`(comment|prefix) "[^"]*"`)
	// quoted is how nft prints interfaces, but for a flow table's devices.
	quoted = regexp.MustCompile(`"([^"]*)"`)
	// byIndex is what needs an interface that exists when a file is loaded (seen with
	// nft 1.0.6; devices may be missing with Linux 6.18).
	byIndex = regexp.MustCompile(`\b(iif|oif|devices?)\b`)
)

// nftNames reports that a line of nft names the uplink, and that it loads without. A
// name that ends in an asterisk stands for all that begin so.
func nftNames(line string, facts *spec.Facts) (names, loads bool) {
	line = said.ReplaceAllString(line, "")
	for _, m := range quoted.FindAllStringSubmatch(line, -1) {
		names = names || matches(m[1], "*", facts)
	}
	if _, list, ok := strings.Cut(line, "devices = {"); ok {
		names = names || slices.ContainsFunc(strings.FieldsFunc(list, func(r rune) bool { return strings.ContainsRune(" ,}", r) }), facts.IsUplink)
	}
	return names, !byIndex.MatchString(line)
}

// iptablesNames is nftNames for iptables, whose names may end in a plus.
func iptablesNames(line string, facts *spec.Facts) (names, loads bool) {
	words := strings.Fields(line)
	for i := 1; i < len(words); i++ {
		if words[i-1] == "-i" || words[i-1] == "-o" {
			names = names || matches(words[i], "+", facts)
		}
	}
	return names, true
}

// matches reports that a name is the uplink's, or the beginning of it and a wildcard.
func matches(name, wildcard string, facts *spec.Facts) bool {
	beginning, open := strings.CutSuffix(name, wildcard)
	if !open {
		return facts.IsUplink(name)
	}
	return slices.ContainsFunc(append([]string{facts.Uplink}, facts.AltNames...), func(n string) bool { return strings.HasPrefix(n, beginning) })
}

// stanzaCommands tells of commands that ifupdown runs for the uplink.
func stanzaCommands(ctx context.Context, run Commands, facts *spec.Facts) string {
	if !slices.Contains(facts.Managers, spec.Ifupdown) {
		return ""
	}
	out, err := run(ctx, "ifquery", facts.Uplink)
	if err != nil { // it does not define the uplink
		return ""
	}
	var commands []string
	for _, line := range strings.Split(out, "\n") {
		key, _, _ := strings.Cut(line, ":")
		if slices.Contains([]string{"pre-up", "up", "post-up", "pre-down", "down", "post-down"}, key) {
			commands = append(commands, line)
		}
	}
	if len(commands) == 0 {
		return ""
	}
	return fmt.Sprintf("ifupdown: found commands for %s (%s), which are not run at boots while Mobula is on the host: its addresses and routes are there without them; "+
		"have what else they do done by a unit of systemd", facts.Uplink, strings.Join(commands, "; "))
}

// farResolvers tells of resolvers that the gateway cannot ask, which has the uplink
// and no other way out.
func (o Outside) farResolvers(through func(netip.Addr) (string, error), facts *spec.Facts) string {
	if len(o.UpstreamDNS) > 0 {
		return ""
	}
	var far []string
	for _, r := range facts.Resolvers {
		switch link, err := through(r); {
		case err != nil:
			far = append(far, fmt.Sprintf("%s (%v)", r, err))
		case !facts.IsUplink(link):
			far = append(far, fmt.Sprintf("%s by %s", r, link))
		}
	}
	if len(far) == 0 {
		return ""
	}
	return fmt.Sprintf("resolvers: found %s, wanted them reached by %s: the gateway asks by that alone, and names that are not private will not be answered by these; set upstream_dns",
		strings.Join(far, ", "), facts.Uplink)
}
