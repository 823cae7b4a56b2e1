package firewalltest

import (
	"regexp"
	"strings"
)

// device is an interface as it was when a chain was hooked to it.
type device struct {
	name     string
	identity any
}

var ingress = regexp.MustCompile(`^type filter hook ingress devices = \{ ([^{}]*) \} (priority \S+; policy accept;)$`)

// hook reads what a base chain of the family netdev is hooked to. Each interface has to be
// there (nf_tables_parse_netdev_hooks of the kernel: ENOENT).
func (s *script) hook(o *object, line string) error {
	m := ingress.FindStringSubmatch(line)
	if m == nil {
		return s.fail(line, "syntax error, unexpected string")
	}
	o.devices = nil
	for _, quoted := range strings.Split(m[1], ", ") {
		name := strings.Trim(quoted, `"`)
		if s.devices[name] == nil {
			return s.fail(name, "Could not process rule: No such file or directory")
		}
		o.devices = append(o.devices, device{name, s.devices[name]})
	}
	o.lines = []string{m[2]}
	return nil
}

// printed are the lines as nft prints them, of which the first one of a base chain says
// what it is hooked to.
func (o *object) printed() []string {
	if len(o.devices) == 0 {
		return o.lines
	}
	var names []string
	for _, d := range o.devices {
		names = append(names, d.name)
	}
	devices := "devices = { " + strings.Join(names, ", ") + " }"
	if len(names) == 1 {
		devices = `device "` + names[0] + `"`
	}
	return append([]string{"type filter hook ingress " + devices + " " + o.lines[0]}, o.lines[1:]...)
}

// lose takes interfaces that are gone out of chains, and a chain with its last one, as
// kernels before 6.16 do (nf_tables_netdev_event). What a rule sends by such an interface
// goes nowhere: it is known by its number, which another one of the name has not.
func (all tables) lose(devices map[string]any) {
	for _, t := range all {
		var left []*object
		for _, o := range t.objects {
			here := o.devices[:0:0]
			for _, d := range o.devices {
				if devices[d.name] == d.identity {
					here = append(here, d)
				}
			}
			if len(here) < len(o.devices) {
				o.devices, t.listing = here, ""
				if len(here) == 0 {
					continue
				}
			}
			for _, d := range o.sends {
				if devices[d.name] != d.identity {
					for i, rule := range o.rules {
						o.rules[i] = strings.ReplaceAll(rule, ` device "`+d.name+`"`, " device 99")
					}
					t.listing = ""
				}
			}
			left = append(left, o)
		}
		t.objects = left
	}
}
