package packetfilter

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/godbus/dbus/v5"
)

// keeps reports that what firewalld and the host's other filters were told counts after a
// reload, too, which by default takes away all that is not permanent (FlushAllOnReload of
// firewalld.conf(5)). Mobula's policy is its own business.
func (o *Opener) keeps(f *firewalld) (bool, error) {
	parts := []func() (bool, error){f.keepsDefault, f.keepsDirect, f.keepsIPSets, f.keepsZones, f.keepsPolicies,
		func() (bool, error) { return o.keepsIptables(f) }}
	for _, part := range parts {
		keeps, err := part()
		if refusal(err) != "" { // what was listed is gone again
			return false, nil
		}
		if err != nil || !keeps {
			return false, err
		}
	}
	return true, nil
}

// keepsDefault: the default zone is read from the file again.
func (f *firewalld) keepsDefault() (bool, error) {
	later, err := f.property(firewalldPath+"/config", ".config", "DefaultZone")
	if err != nil {
		return false, err
	}
	var now string
	err = f.now(&now, "", "getDefaultZone")
	return now == later, err
}

// keepsDirect: rules in iptables' words, as fail2ban makes them.
func (f *firewalld) keepsDirect() (bool, error) {
	var chains, rules, passed [][]any
	var kept []any
	err := errors.Join(
		f.now(&chains, ".direct", "getAllChains"), f.now(&rules, ".direct", "getAllRules"), f.now(&passed, ".direct", "getAllPassthroughs"),
		f.ask(firewalldPath+"/config", &kept, ".config.direct", "getSettings"))
	if err != nil || len(kept) != 3 {
		return false, err
	}
	for i, counts := range [][][]any{chains, rules, passed} {
		if !slices.Equal(words(counts), words(kept[i])) {
			return false, nil
		}
	}
	return true, nil
}

// keepsIptables: before firewalld 2, and with iptables behind it, a reload empties all tables
// of iptables, whoever filled them (FirewallD._flush). Docker and libvirt fill theirs again.
func (o *Opener) keepsIptables(f *firewalld) (bool, error) {
	version, err := f.property(firewalldPath, "", "version")
	if err != nil {
		return false, err
	}
	backend, err := f.property(firewalldPath+"/config", ".config", "FirewallBackend")
	if err != nil {
		return false, err
	}
	if backend == "nftables" && !strings.HasPrefix(version, "0.") && !strings.HasPrefix(version, "1.") {
		return true, nil
	}
	for _, save := range []string{"iptables-save", "ip6tables-save"} {
		out, err := o.saved(f, save)
		if err != nil {
			return false, err
		}
		for _, line := range strings.Split(out, "\n") {
			if strings.HasPrefix(line, "-A ") && !filledAgain.MatchString(line) {
				return false, nil
			}
		}
	}
	return true, nil
}

// filledAgain are rules of Docker and libvirt, by their chains or their bridges, and Mobula's
// own, which repairs see to.
var filledAgain = regexp.MustCompile(`DOCKER|LIBVIRT_|docker0|br-[0-9a-f]{12}|` + regexp.QuoteMeta(dockerComment))

func (f *firewalld) keepsIPSets() (bool, error) {
	names, same, err := f.names("IPSet", "IPSets", ".ipset")
	if err != nil || !same {
		return false, err
	}
	for _, name := range names {
		var settings []any // version, name, description, type, options, entries
		if err := f.now(&settings, ".ipset", "getIPSetSettings", name); err != nil || len(settings) < 6 {
			return false, err
		}
		options, _ := settings[4].(map[string]string)
		if t := options["timeout"]; t != "" && t != "0" { // firewalld does not know its entries
			return false, nil
		}
		var kept []any
		path, err := f.permanent("IPSet", name)
		if err == nil {
			err = f.ask(path, &kept, ".config.ipset", "getSettings")
		}
		if err != nil || len(kept) < 6 || !maps.Equal(options, asMap(kept[4])) || !slices.Equal(words(settings[5]), words(kept[5])) {
			return false, err
		}
	}
	return true, nil
}

func asMap(v any) map[string]string {
	m, _ := v.(map[string]string)
	return m
}

func (f *firewalld) keepsPolicies() (bool, error) {
	return f.keepsSettings("Policy", "Policies", ".policy", "getPolicySettings", "getSettings", nil)
}

func (f *firewalld) keepsZones() (bool, error) {
	var usual string
	if err := f.now(&usual, "", "getDefaultZone"); err != nil {
		return false, err
	}
	return f.keepsSettings("Zone", "Zones", ".zone", "getZoneSettings2", "getSettings2", func(zone string, counts, kept map[string]dbus.Variant) bool {
		links, _ := counts["interfaces"].Value().([]string)
		permanent, _ := kept["interfaces"].Value().([]string)
		for _, link := range permanent {
			if !slices.Contains(links, link) { // it would come back
				return false
			}
		}
		return !slices.ContainsFunc(links, func(link string) bool {
			return !slices.Contains(permanent, link) && !f.comesBack(link, zone, usual)
		})
	})
}

// putBack are the zones of programs that hear of a reload and then put their interfaces into
// them again.
var putBack = []string{"docker", "libvirt", "libvirt-routed", "nm-shared"}

// comesBack reports that an interface is in a zone after a reload, too, although that is not
// permanent there.
func (f *firewalld) comesBack(link, zone, usual string) bool {
	if its, ok := f.networkManagerZone(link); ok {
		return its == zone || its == "" && zone == usual
	}
	return zone == usual || slices.Contains(putBack, zone)
}

// networkManagerZone is the zone into which NetworkManager puts a link; "" is the default one.
// It puts none that it found as it is, and none of a VPN (nm_device_update_firewall_zone).
func (f *firewalld) networkManagerZone(link string) (zone string, ok bool) {
	const name = "org.freedesktop.NetworkManager"
	call := func(path dbus.ObjectPath, answer any, method string, args ...any) bool {
		return f.bus.Object(name, path).CallWithContext(f, method, dbus.FlagNoAutoStart, args...).Store(answer) == nil
	}
	property := func(path dbus.ObjectPath, of, property string) any {
		var v dbus.Variant
		call(path, &v, "org.freedesktop.DBus.Properties.Get", name+of, property)
		return v.Value()
	}
	var device dbus.ObjectPath
	if !call("/org/freedesktop/NetworkManager", &device, name+".GetDeviceByIpIface", link) {
		return "", false
	}
	active, _ := property(device, ".Device", "ActiveConnection").(dbus.ObjectPath)
	if !active.IsValid() || active == "/" {
		return "", false
	}
	connection, _ := property(active, ".Connection.Active", "Connection").(dbus.ObjectPath)
	vpn, _ := property(active, ".Connection.Active", "Vpn").(bool)
	if !connection.IsValid() || connection == "/" || vpn {
		return "", false
	}
	const generated, volatile = 2, 4 // NMSettingsConnectionFlags
	if flags, _ := property(connection, ".Settings.Connection", "Flags").(uint32); flags&(generated|volatile) != 0 {
		return "", false
	}
	var settings map[string]map[string]dbus.Variant
	if !call(connection, &settings, name+".Settings.Connection.GetSettings") {
		return "", false
	}
	zone, _ = settings["connection"]["zone"].Value().(string)
	return zone, true
}

// names are those of a kind, of now and of later, which must be the same.
func (f *firewalld) names(kind, kinds, of string) (now []string, same bool, err error) {
	var later []string
	err = errors.Join(f.now(&now, of, "get"+kinds), f.ask(firewalldPath+"/config", &later, ".config", "get"+kind+"Names"))
	for _, names := range []*[]string{&now, &later} {
		*names = slices.DeleteFunc(*names, func(n string) bool { return n == Policy })
		slices.Sort(*names)
	}
	return now, slices.Equal(now, later), err
}

// keepsSettings compares all of a kind, the services that they name, and what also says.
func (f *firewalld) keepsSettings(kind, kinds, of, getNow, getLater string, also func(name string, counts, kept map[string]dbus.Variant) bool) (bool, error) {
	names, same, err := f.names(kind, kinds, of)
	if err != nil || !same {
		return false, err
	}
	for _, name := range names {
		counts, same, err := f.sameSettings(kind, name, of, getNow, getLater, also)
		if err != nil || !same {
			return false, err
		}
		services, _ := counts["services"].Value().([]string)
		for _, service := range services {
			if _, same, err := f.sameSettings("Service", service, ".service", "getServiceSettings2", "getSettings2", nil); err != nil || !same {
				return false, err
			}
		}
	}
	return true, nil
}

// sameSettings compares one of a kind, of now and of later.
func (f *firewalld) sameSettings(kind, name, of, getNow, getLater string, also func(name string, counts, kept map[string]dbus.Variant) bool) (counts map[string]dbus.Variant, same bool, err error) {
	var kept map[string]dbus.Variant
	path, err := f.permanent(kind, name)
	if err != nil {
		return nil, false, err
	}
	in := of // where it asks about what counts now
	if kind == "Service" {
		in = "" // firewalld.dbus(5) has it among firewalld's own
	}
	err = errors.Join(f.now(&counts, in, getNow, name), f.ask(path, &kept, ".config"+of, getLater))
	return counts, err == nil && sameSettings(counts, kept) && (also == nil || also(name, counts, kept)), err
}

// sameSettings compares what two objects say, but for the interfaces. What is not said is
// empty, and the order of a list means nothing.
func sameSettings(a, b map[string]dbus.Variant) bool {
	return maps.EqualFunc(said(a), said(b), slices.Equal)
}

func said(settings map[string]dbus.Variant) map[string][]string {
	all := map[string][]string{}
	for key, variant := range settings {
		if w := words(variant.Value()); key != "interfaces" && len(w) > 0 {
			all[key] = w
		}
	}
	return all
}

// words are the members of a list or of a map, or a single value, each as text, in order.
func words(value any) (all []string) {
	v := reflect.ValueOf(value)
	switch {
	case !v.IsValid():
	case v.Kind() == reflect.Slice:
		for i := range v.Len() {
			all = append(all, fmt.Sprintf("%#v", v.Index(i).Interface()))
		}
		slices.Sort(all)
	case v.Kind() == reflect.Map && v.Len() == 0:
	case !v.IsZero():
		all = append(all, fmt.Sprint(value))
	}
	return all
}
