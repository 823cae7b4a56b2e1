package system

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"mobula/helper/internal/plan"
)

const (
	noSockets = "ActiveState=inactive\nBindIPv6Only=default\n\nActiveState=inactive\nBindIPv6Only=default\n"
	// As Ubuntu 24.04 ships it, and Debian's, which has one socket for both families.
	twoSockets = "Listen=0.0.0.0:2222 (Stream)\nListen=[::]:2222 (Stream)\nBindIPv6Only=ipv6-only\nActiveState=active\n\nActiveState=inactive\nBindIPv6Only=default\n"
	oneSocket  = "Listen=[::]:2022 (Stream)\nBindIPv6Only=default\nActiveState=active\n\nActiveState=inactive\n"
	notActive  = "Listen=[::]:2022 (Stream)\nBindIPv6Only=default\nActiveState=inactive\n\nActiveState=inactive\n"
	sixSocket  = "Listen=[::]:2022 (Stream)\nBindIPv6Only=ipv6-only\nActiveState=active\n\nActiveState=inactive\n"
)

// saying stands in for systemctl and sshd. Without a configuration sshd fails as it
// does while /run/sshd is missing.
func saying(sockets, sshd string) Commands {
	return func(_ context.Context, name string, _ ...string) (string, error) {
		switch {
		case name == "systemctl":
			return sockets, nil
		case sshd == "":
			return "", errors.New("exit status 255: Missing privilege separation directory: /run/sshd")
		}
		return sshd, nil
	}
}

func config(listen ...string) string {
	return "port 22\naddressfamily any\nlistenaddress " + strings.Join(listen, "\nlistenaddress ") + "\nusepam yes\n"
}

func TestSSHPorts(t *testing.T) {
	for _, c := range []struct {
		name, sockets, sshd string
		want                string // ports, or the beginning of the error
	}{
		{"default", noSockets, config("[::]:22", "0.0.0.0:22"), "[22]"},
		{"two ports", noSockets, config("[::]:22", "[::]:2222", "0.0.0.0:22", "0.0.0.0:2222"), "[22 2222]"},
		{"a routing domain", noSockets, config("0.0.0.0:2222 rdomain blue"), "[2222]"},
		{"sshd does not say", noSockets, "", "asking sshd for its ports: exit status 255: Missing privilege"},
		{"rubbish", noSockets, config("x", "0.0.0.0:0", "0.0.0.0:70000", "0.0.0.0"), "asking sshd for its ports: found no listenaddress"},
		{"sshd says nothing", noSockets, "port 22\n", "asking sshd for its ports: found no listenaddress"},
		{"sockets", twoSockets, config("0.0.0.0:22"), "[2222]"},
		{"a socket of both families", oneSocket, "", "[2022]"},
		{"a socket that is not active", notActive, config("0.0.0.0:22"), "[22]"},
		{"a socket of IPv6 only", sixSocket, "", "[]"},
		{"IPv6 only", noSockets, config("[::]:22"), "[]"},
		{"the intrawire address", noSockets, config("10.30.1.2:2222"), "[2222]"},
		{"another NIC", noSockets, config("10.9.0.1:22"), "[]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			listening, err := sshListeners(context.Background(), saying(c.sockets, c.sshd))
			got := fmt.Sprint(forwarded(listening))
			if err != nil {
				got = err.Error()
			}
			if !strings.HasPrefix(got, c.want) {
				t.Errorf("found %s, wanted %s", got, c.want)
			}
		})
	}
}

// TestSurveySSH: a host is refused if SSH would be cut off when the NIC moves, or if
// nobody knows.
func TestSurveySSH(t *testing.T) {
	for _, c := range []struct {
		name, sshd, want string
	}{
		{"everywhere", config("[::]:22", "0.0.0.0:22"), ""},
		{"the uplink", config("192.0.2.2:22", "127.0.0.1:22"), "sshd: found it listening on 192.0.2.2 port 22 only"},
		{"the uplink's IPv6", config("[2001:db8::2]:22"), "sshd: found it listening on 2001:db8::2 port 22 only"},
		{"IPv6 everywhere", config("[::]:22"), "sshd: found it listening on :: port 22 only"},
		{"another NIC", config("10.9.0.1:22"), ""},
		{"nobody knows", "", "asking sshd for its ports"},
	} {
		t.Run(c.name, func(t *testing.T) {
			facts := &plan.Facts{Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.2/24")}, IPv6Addresses: []netip.Prefix{netip.MustParsePrefix("2001:db8::2/64")}}
			err := surveySSH(context.Background(), saying(noSockets, c.sshd), facts)
			if got := fmt.Sprint(err); c.want == "" && err != nil || !strings.HasPrefix(got, c.want) {
				t.Errorf("found %s, wanted %s", got, c.want)
			}
		})
	}
}
