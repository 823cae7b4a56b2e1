package system

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"mobula/helper/internal/spec"
)

// ifupdown gives an interface's resolvers to others once, when it brings it up. But
// systemd-resolved forgets them with the link, and boots with Mobula on the host bring
// nothing up. The other managers see that the NIC is back, and give them by themselves.
const ifupdown = string(spec.Ifupdown)

// resolverHooks are ifupdown's scripts for that, in run-parts(8)'s order.
var resolverHooks = []string{"000resolvconf", "resolved"}

const hooksDir = "/etc/network/if-up.d/"

// hooksTake bounds what all hooks together may take: whoever gives the NIC back has to end.
const hooksTake = 15 * time.Second

// mayRead reports that it is of use to tell somebody. The hooks need the NIC in its place.
func (s *System) mayRead(who string) bool {
	if who != ifupdown {
		return true
	}
	_, err := s.Addresses(s.uplink)
	return err == nil
}

// giveResolvers has ifupdown's hooks give the resolvers of the uplink and its aliases
// again, as far as ifupdown has configured them. A hook that fails does not keep the
// host from having its NIC back.
func (s *System) giveResolvers(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, hooksTake)
	defer cancel()
	n, err := s.ifupdownNotes()
	for _, name := range n.listed {
		err = errors.Join(err, s.runResolverHooks(ctx, name))
	}
	if err != nil {
		s.Log.Warn("ifupdown did not give the uplink's resolvers to the host; the next boot does", "uplink", s.uplink, "error", err)
	}
}

func (s *System) runResolverHooks(ctx context.Context, name string) error {
	stanza, err := s.Run(ctx, "ifquery", s.interfaces(), name)
	options := resolverOptions(stanza)
	if err != nil || len(options) == 0 {
		return err
	}
	// resolved, the script, passes on only what differs from what it noted here, which
	// outlasts what systemd-resolved knows.
	for _, family := range []string{"inet", "inet6"} {
		if err := remove(s.at("/run/network/ifupdown-" + family + "-" + name)); err != nil {
			return err
		}
	}
	// ifquery(8) does not tell the families apart, nor do resolvers need it.
	command := append([]string{"-i", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"IFACE=" + name, "LOGICAL=" + name, "ADDRFAM=inet", "METHOD=static", "MODE=start", "PHASE=post-up", "VERBOSITY=0"}, options...)
	for _, hook := range resolverHooks {
		path := s.at(hooksDir + hook)
		if info, statErr := os.Stat(path); statErr != nil || info.Mode()&0o111 == 0 {
			continue // as run-parts(8) does
		}
		if _, failed := s.Run(ctx, "env", append(slices.Clone(command), path)...); failed != nil {
			err = errors.Join(err, fmt.Errorf("%s%s for %s: %w", hooksDir, hook, name, failed))
		}
	}
	return err
}

// resolverOptions returns the options about resolvers of what ifquery(8) prints, as
// interfaces(5) has them in the environment of hooks. An option that a stanza has more
// than once is one, with a line for each.
func resolverOptions(stanza string) (environment []string) {
	var keys []string
	values := map[string]string{}
	last := ""
	for _, line := range strings.Split(strings.TrimSuffix(stanza, "\n"), "\n") {
		key, value, begins := strings.Cut(line, ": ")
		before, again := values[key]
		switch {
		case !begins && last != "":
			values[last] += "\n" + line
		case !begins || !strings.HasPrefix(key, "dns-"):
			last = ""
		case !again:
			keys, values[key], last = append(keys, key), value, key
		default: // of another stanza, for IPv6
			if separator := map[bool]string{true: "\n", false: " "}[key == "dns-nameserver"]; before != value {
				values[key] += separator + value
			}
			last = key
		}
	}
	for _, key := range keys {
		environment = append(environment, "IF_"+strings.ToUpper(strings.ReplaceAll(key, "-", "_"))+"="+values[key])
	}
	return environment
}
