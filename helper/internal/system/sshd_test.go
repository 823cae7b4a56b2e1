package system

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mobula/helper/internal/network"
	"mobula/helper/internal/spec"
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
// does while /run/sshd is missing; with "Match LocalPort" it wants to know of which
// connection (seen with 9.2 and 10.0).
func saying(sockets, sshd string) Commands {
	return func(_ context.Context, name string, args ...string) (string, error) {
		switch {
		case name == "systemctl":
			return sockets, nil
		case !strings.Contains(strings.Join(args, " "), ",lport="):
			return "", errors.New("exit status 255: 'Match LocalPort' in configuration but 'lport' not in connection test specification.")
		case strings.HasSuffix(strings.Join(args, " "), " -p 2222"):
			return config("0.0.0.0:2222"), nil
		case sshd == "":
			return "", errors.New("exit status 255: Missing privilege separation directory: /run/sshd")
		}
		return sshd, nil
	}
}

func config(listen ...string) string {
	return "port 22\naddressfamily any\nlistenaddress " + strings.Join(listen, "\nlistenaddress ") + "\nusepam yes\n"
}

func TestSSHPortsInOtherRanges(t *testing.T) {
	listening := []netip.AddrPort{netip.MustParseAddrPort("10.30.1.2:22"), netip.MustParseAddrPort("10.98.1.2:2222")}
	if got := fmt.Sprint(forwarded(network.NewRanges(10<<8|98, 0), listening)); got != "[2222]" {
		t.Errorf("found %s, wanted those that answer at the intrawire address", got)
	}
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
			listening, err := sshListeners(context.Background(), saying(c.sockets, c.sshd), t.TempDir())
			got := fmt.Sprint(forwarded(network.Ranges{}, listening))
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
			facts := &spec.Facts{Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.2/24")}, IPv6Addresses: []netip.Prefix{netip.MustParsePrefix("2001:db8::2/64")}}
			err := surveySSH(context.Background(), saying(noSockets, c.sshd), t.TempDir(), network.Ranges{}, facts)
			if got := fmt.Sprint(err); c.want == "" && err != nil || !strings.HasPrefix(got, c.want) {
				t.Errorf("found %s, wanted %s", got, c.want)
			}
		})
	}
}

// Processes that listen, as OpenSSH 9.2 shows itself: command line and status.
const (
	listener = "sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups"
	withPort = "sshd: /usr/sbin/sshd -D -p 2222 [listener] 0 of 10-100 startups"
	ofRoot   = "Name:\tsshd\nPPid:\t1\nUid:\t0\t0\t0\t0\n"
	ofUser   = "Name:\tsshd\nPPid:\t1\nUid:\t1000\t1000\t1000\t1000\n"
	ofShell  = "Name:\tsshd\nPPid:\t4711\nUid:\t0\t0\t0\t0\n"
)

// process lays a process below a proc(5) that has a socket of recordedTCP.
func process(t *testing.T, proc, comm, commandLine, status, inode string) {
	t.Helper()
	dir := filepath.Join(proc, "77")
	must(t, os.MkdirAll(filepath.Join(dir, "fd"), 0o755))
	must(t, os.MkdirAll(filepath.Join(proc, "net"), 0o755))
	for path, content := range map[string]string{
		filepath.Join(dir, "comm"): comm + "\n", filepath.Join(dir, "cmdline"): commandLine + "\x00", filepath.Join(dir, "status"): status,
		filepath.Join(proc, "net/tcp"): recordedTCP, filepath.Join(proc, "net/tcp6"): recordedTCP6,
	} {
		must(t, os.WriteFile(path, []byte(content), 0o644))
	}
	must(t, os.Symlink("/dev/null", filepath.Join(dir, "fd/0")))
	must(t, os.Symlink("socket:["+inode+"]", filepath.Join(dir, "fd/3")))
}

// TestSSHElsewhereThanConfigured: what sshd was started with (-p, -f) is not in what
// sshd -T says. What a session forwards, and a user's or container's sshd, is not SSH
// of the host.
func TestSSHElsewhereThanConfigured(t *testing.T) {
	const all, refused = "11023", "asking sshd for its ports" // all is port 443 of all addresses
	for _, c := range []struct {
		name, comm, commandLine, status, inode, sshd string
		want                                         string // ports
		fails                                        bool
	}{
		{"another port", "sshd", listener, ofRoot, all, config("0.0.0.0:22"), "[22 443]", false},
		{"an option, and sockets that cannot be seen", "sshd", withPort, ofRoot, "0", config("0.0.0.0:22"), "[22 2222]", false},
		{"an option, and the configuration is broken", "sshd", withPort, ofRoot, "0", "", "[2222]", true},
		{"a user's option", "sshd", withPort, ofUser, "0", config("0.0.0.0:22"), "[22]", false},
		{"the same port", "sshd", listener, ofRoot, "11022", config("0.0.0.0:22"), "[22]", false},
		{"the NIC's address only", "sshd", listener, ofRoot, "11024", config("0.0.0.0:22"), "[22]", false},
		{"IPv6", "sshd", listener, ofRoot, "11026", config("0.0.0.0:2222"), "[2222]", false},
		{"sshd does not say", "sshd", listener, ofRoot, all, "", "[443]", true},
		{"a session that was left", "sshd", "sshd: root@pts/0", ofRoot, all, config("0.0.0.0:22"), "[22]", false},
		{"a user's", "sshd", listener, ofUser, all, config("0.0.0.0:22"), "[22]", false},
		{"a container's", "sshd", listener, ofShell, all, config("0.0.0.0:22"), "[22]", false},
		{"another program", "dropbear", listener, ofRoot, all, config("0.0.0.0:22"), "[22]", false},
		{"nobody knows", "nginx", "nginx", ofRoot, all, "", "[]", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			proc := t.TempDir()
			process(t, proc, c.comm, c.commandLine, c.status, c.inode)
			listening, err := sshListeners(context.Background(), saying(noSockets, c.sshd), proc)
			if got := fmt.Sprint(forwarded(network.Ranges{}, listening)); got != c.want || (err != nil) != c.fails {
				t.Errorf("found %s and error %v, wanted %s", got, err, c.want)
			}
			facts := &spec.Facts{}
			err = surveySSH(context.Background(), saying(noSockets, c.sshd), proc, network.Ranges{}, facts)
			if got := fmt.Sprint(facts.SSHPorts); got != c.want || c.want == "[]" != (err != nil) || err != nil && !strings.HasPrefix(err.Error(), refused) {
				t.Errorf("surveyed %s and error %v, wanted %s", got, err, c.want)
			}
		})
	}
}

func TestStartedWith(t *testing.T) {
	for line, want := range map[string]string{
		"/usr/sbin/sshd -D":                                  "",
		"/usr/sbin/sshd -D -p 2222":                          "-p|2222",
		"/usr/sbin/sshd -Dp2222 -p 2022":                     "-p|2222|-p|2022",
		"sshd -4 -f /etc/ssh/other -E /var/log/x -o Port=22": "-4|-f|/etc/ssh/other|-o|Port=22",
		"sshd -o ListenAddress 0.0.0.0 -h key -D6":           "-o|ListenAddress 0.0.0.0|-6",
		"sshd -u 4 -p":                                       "-p|",
		"":                                                   "",
	} {
		dir := t.TempDir()
		must(t, os.WriteFile(filepath.Join(dir, "cmdline"), []byte("sshd: "+line+startups+"0 of 10-100 startups\x00"), 0o644))
		if got := strings.Join(startedWith(dir), "|"); got != want {
			t.Errorf("%s: found %s, wanted %s", line, got, want)
		}
	}
}
