package packetfilter

import (
	"context"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
)

// TestBusThatDoesNotAnswer: its socket may be there before it, and firewalld's name before
// firewalld. Without a socket there is nobody to ask.
func TestBusThatDoesNotAnswer(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "bus")
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+socket)
	if f, err := dialFirewalld(context.Background(), time.Minute); f != nil || err != nil {
		t.Errorf("without a bus: found %v, %v", f, err)
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	result := make(chan error)
	go func() {
		_, err := dialFirewalld(context.Background(), 100*time.Millisecond)
		result <- err
	}()
	select {
	case err := <-result:
		if err == nil {
			t.Error("a bus that does not answer has no firewalld")
		}
	case <-time.After(time.Minute):
		t.Fatal("it waits for ever")
	}
}

// TestSameSettings: what firewalld says of now and of later is the same where only who uses a
// zone differs, or what is empty is not said.
func TestSameSettings(t *testing.T) {
	type port struct{ Number, Protocol string }
	settings := func(key string, value any) map[string]dbus.Variant {
		return map[string]dbus.Variant{
			"target": dbus.MakeVariant("default"), "services": dbus.MakeVariant([]string{"ssh", "dhcpv6-client"}),
			"ports": dbus.MakeVariant([]port{{"51820", "udp"}}), key: dbus.MakeVariant(value)}
	}
	for _, c := range []struct {
		what  string
		key   string
		value any
		same  bool
	}{
		{"who uses it", "interfaces", []string{"ens3"}, true},
		{"nothing, said", "sources", []string{}, true},
		{"no masquerading, said", "masquerade", false, true},
		{"another order", "services", []string{"dhcpv6-client", "ssh"}, true},
		{"masquerading", "masquerade", true, false},
		{"a port of now", "ports", []port{{"51820", "udp"}, {"80", "tcp"}}, false},
		{"another target", "target", "DROP", false},
	} {
		if same := sameSettings(settings(c.key, c.value), settings("target", "default")); same != c.same {
			t.Errorf("%s: found the same: %v", c.what, same)
		}
	}
}
