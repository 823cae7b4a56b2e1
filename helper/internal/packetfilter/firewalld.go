package packetfilter

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/godbus/dbus/v5"

	"mobula/helper/internal/spec"
)

// Names and paths of firewalld (firewalld.dbus(5)).
const (
	firewalldName = "org.fedoraproject.FirewallD1"
	firewalldPath = "/org/fedoraproject/FirewallD1"
	firewalldFail = firewalldName + ".Exception"
	addPort       = "addPort"
	removePort    = "removePort"
	reload        = "reload"
	invalidZone   = "INVALID_ZONE"
)

// firewalldSeen is what was found of firewalld.
type firewalldSeen struct {
	running bool
	// zones are those of the interfaces to the outside.
	zones []string
	// ports are what of the noted and the wanted ones there is, each as "zone port/udp".
	runtime, permanent []string
	// policy is the content of policyFile, and loaded that firewalld knows the policy.
	policy string
	loaded bool
	// brief are zones that a reload takes away: nothing is permanent in them.
	brief []string
	// keeps: a reload takes nothing away.
	keeps bool
}

// call is something that firewalld is told to do.
type call struct {
	of     string // of firewalldName, as ".zone"
	method string
	args   []any
	zone   string // whose permanent settings; "" if it is about what counts now
}

func (c call) String() string {
	return strings.Join(strings.Fields(fmt.Sprint("firewalld"+c.of, " ", c.zone, " ", c.method, " ", strings.Trim(fmt.Sprint(c.args), "[]"))), " ")
}

// How long firewalld has for all that it is asked at once, as the reference implementation of
// D-Bus waits for an answer, and for a reload. It has its name on the bus before it answers,
// and asks others.
const (
	askTimeout    = 25 * time.Second
	reloadTimeout = 2 * time.Minute
)

// firewalld is the running one, by D-Bus.
type firewalld struct {
	context.Context
	bus    *dbus.Conn
	cancel func()
}

// dialFirewalld returns nil if it does not run, or there is no bus.
func dialFirewalld(ctx context.Context, timeout time.Duration) (*firewalld, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	f := &firewalld{Context: ctx, cancel: cancel}
	running, err := f.dial()
	if err != nil || !running {
		f.close()
		return nil, err
	}
	return f, nil
}

func (f *firewalld) dial() (running bool, err error) {
	// By its address (D-Bus Specification, "System message bus"): ConnectSystemBus has an error
	// without a name for a host on which there is none.
	address := cmp.Or(os.Getenv("DBUS_SYSTEM_BUS_ADDRESS"), "unix:path=/var/run/dbus/system_bus_socket")
	f.bus, err = dbus.Connect(address, dbus.WithContext(f.Context))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return false, nil
	}
	if err == nil {
		err = f.bus.BusObject().CallWithContext(f, "org.freedesktop.DBus.NameHasOwner", 0, firewalldName).Store(&running)
	}
	if err != nil {
		return false, fmt.Errorf("asking D-Bus for firewalld: %w", err)
	}
	return running, nil
}

func (f *firewalld) close() {
	if f.cancel(); f.bus != nil {
		f.bus.Close()
	}
}

// ask calls a method and puts what it returns into answer. It must not start firewalld.
func (f *firewalld) ask(path dbus.ObjectPath, answer any, of, method string, args ...any) error {
	reply := f.bus.Object(firewalldName, path).CallWithContext(f, firewalldName+of+"."+method, dbus.FlagNoAutoStart, args...)
	err := reply.Err
	if err == nil && answer != nil {
		err = reply.Store(answer)
	}
	if err != nil {
		return fmt.Errorf("firewalld: %s: %w", method, err)
	}
	return nil
}

func (f *firewalld) now(answer any, of, method string, args ...any) error {
	return f.ask(firewalldPath, answer, of, method, args...)
}

// permanent returns the object with the permanent settings of a zone or a policy.
func (f *firewalld) permanent(kind, name string) (path dbus.ObjectPath, err error) {
	err = f.ask(firewalldPath+"/config", &path, ".config", "get"+kind+"ByName", name)
	return path, err
}

// property is one of firewalld's.
func (f *firewalld) property(path dbus.ObjectPath, of, name string) (value string, err error) {
	var v dbus.Variant
	err = f.bus.Object(firewalldName, path).CallWithContext(f, "org.freedesktop.DBus.Properties.Get", dbus.FlagNoAutoStart, firewalldName+of, name).Store(&v)
	if err != nil {
		return "", fmt.Errorf("firewalld: property %s: %w", name, err)
	}
	return fmt.Sprint(v.Value()), nil
}

// do does what is not done yet. A zone that is gone has no ports to take away.
func (f *firewalld) do(c call) error {
	path, err := dbus.ObjectPath(firewalldPath), error(nil)
	if c.zone != "" {
		path, err = f.permanent("Zone", c.zone)
	}
	if err == nil {
		err = f.ask(path, nil, c.of, c.method, c.args...)
	}
	switch refusal(err) {
	case "ALREADY_ENABLED", "NOT_ENABLED":
		return nil
	case invalidZone:
		if c.method == removePort {
			return nil
		}
	}
	return err
}

// refusal is the code with which firewalld refuses something (firewalld.dbus(5)).
func refusal(err error) string {
	var refused dbus.Error
	if !errors.As(err, &refused) || refused.Name != firewalldFail || len(refused.Body) == 0 {
		return ""
	}
	code, _, _ := strings.Cut(fmt.Sprint(refused.Body[0]), ":")
	return code
}

// disarm takes a rule out of what counts now of Mobula's policy.
func (f *firewalld) disarm(rule string) error {
	settings := map[string]dbus.Variant{}
	if err := f.now(&settings, ".policy", "getPolicySettings", Policy); err != nil {
		return err
	}
	rules, _ := settings["rich_rules"].Value().([]string)
	rules = slices.DeleteFunc(rules, func(r string) bool { return r == rule })
	return f.now(nil, ".policy", "setPolicySettings", Policy, map[string]dbus.Variant{"rich_rules": dbus.MakeVariant(rules)})
}

// zonesOf are those of interfaces. One that is in none is in the default zone.
func (f *firewalld) zonesOf(links []string) (all []string, err error) {
	for _, link := range links {
		var zone string
		if err := f.now(&zone, ".zone", "getZoneOfInterface", link); err != nil {
			return nil, err
		}
		if zone == "" {
			if err := f.now(&zone, "", "getDefaultZone"); err != nil {
				return nil, err
			}
		}
		if !slices.Contains(all, zone) {
			all = append(all, zone)
		}
	}
	return all, nil
}

func (f *firewalld) lookAtPorts(ports []string, s *firewalldSeen) error {
	for _, port := range ports {
		zone, number, _ := strings.Cut(port, " ")
		number, protocol, _ := strings.Cut(number, "/")
		var has bool
		path, err := f.permanent("Zone", zone)
		if err == nil {
			err = f.ask(path, &has, ".config.zone", "queryPort", number, protocol)
		}
		switch {
		case refusal(err) == invalidZone: // one that is gone has no ports
			s.brief = append(s.brief, zone)
		case err != nil:
			return err
		case has:
			s.permanent = append(s.permanent, port)
		}
		err = f.now(&has, ".zone", "queryPort", zone, number, protocol)
		if err != nil && refusal(err) != invalidZone {
			return err
		}
		if err == nil && has {
			s.runtime = append(s.runtime, port)
		}
	}
	return nil
}

func (o *Opener) lookAtFirewalld(ctx context.Context, want *spec.Opening, s *seen) error {
	policy, err := os.ReadFile(o.Root + policyFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	s.firewalld.policy = string(policy)
	if _, err := os.Stat(o.Root + "/etc/firewalld"); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	f, err := dialFirewalld(ctx, askTimeout)
	if f == nil {
		return err
	}
	defer f.close()
	if err := f.look(want, s); err != nil {
		return err
	}
	if found := s.firewalld; found.loaded != (want != nil) || want == nil && found.policy != "" {
		s.firewalld.keeps, err = o.keeps(f)
	}
	return err
}

// look reads what actions needs.
func (f *firewalld) look(want *spec.Opening, s *seen) (err error) {
	found := &s.firewalld
	found.running = true
	ports := slices.Clone(s.noted)
	if want != nil {
		if found.zones, err = f.zonesOf(want.Outside); err != nil {
			return err
		}
		for _, zone := range found.zones {
			ports = append(ports, firewalldPort(zone, want.Port))
		}
	}
	if err := f.lookAtPorts(ports, found); err != nil {
		return err
	}
	var policies []string
	if err := f.now(&policies, ".policy", "getPolicies"); err != nil {
		return err
	}
	found.loaded = slices.Contains(policies, Policy)
	return nil
}
