//go:build lab

package scenarios

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"mobula/lab"
)

// shortLease is the time for which erin has an address that she is about to lose. She hears of it
// after seven eighths of that.
const shortLease = 12 * time.Second

// anotherAddress: DHCP takes the address from erin's NIC and gives it another one, while grace
// sends to her. She has no other way outside then. WireGuard's packets take the new address by
// themselves. Where grace's firewall lets in nothing but answers, she has to find erin by her name.
func anotherAddress(t *testing.T, w *world) {
	const other = "192.0.2.77"
	own, was := w.Host("erin").Address, w.on(t, "erin", ownNetwork)
	second := w.on(t, "erin", "ip -4 route show default dev "+lab.SecondNIC)
	w.on(t, "erin", "ip route del "+second+" dev "+lab.SecondNIC)
	if silent := w.followed(t, own, other, "erin with another address"); silent > 3*time.Second {
		t.Errorf("erin did not answer for %v", silent)
	}
	open := w.onlyAnswers(t, "grace")
	defer open()
	silent := w.followed(t, other, own, "erin with another address, where only answers pass")
	if silent > 10*time.Second {
		t.Errorf("erin did not answer for %v", silent)
	}
	w.on(t, "erin", "ip route add "+second+" dev "+lab.SecondNIC)
	if now := w.on(t, "erin", ownNetwork); now != was {
		t.Errorf("erin's own network is another one: %s", difference(was, now))
	}
	eventually(t, 30*time.Second, "erin goes on as before", func() error {
		if s := w.status(t, "erin"); len(s.Differences) > 0 {
			return fmt.Errorf("%v", s.Differences)
		}
		return nil
	})
}

// followed has DHCP give erin another address in the place of the one she has while grace sends
// to her, and says how long nothing was answered. The name that she has outside follows when she has it.
func (w *world) followed(t *testing.T, from, to, when string) (silent time.Duration) {
	t.Helper()
	erin := w.Host("erin")
	lease := func(address string, lifetime time.Duration) {
		t.Helper()
		if err := erin.SetLease(address, lifetime); err != nil {
			t.Fatal(err)
		}
	}
	lease(from, shortLease)
	w.onConsole(t, "erin", "networkctl renew "+lab.NIC) // of an hour, which it had until now
	ended := pingingBy(t, w.Host("grace").SSH(w.ctx, "-S", "none", "ping -D -i 0.2 "+erin.IntrawireAddress()))
	time.Sleep(5 * time.Second)
	lease(to, time.Hour)
	has := "ip -4 -br address show dev " + lab.NIC + " | grep -q ' " + to + "/32 '"
	w.onConsole(t, "erin", "for i in $(seq 300); do "+has+" && break; sleep 0.1; done; "+has)
	if err := w.SetName(lab.MovingName, to); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * time.Second) // clocks differ
	sent, missing, err := ended()
	if err != nil {
		t.Error(err)
	}
	silent = time.Duration(longestRun(missing)) * time.Second / 5
	t.Logf("%s: %d of %d packets were not answered, for %v", when, len(missing), sent, silent)
	erin.Disconnect()
	w.seesWithin(t, 15*time.Second, "grace", erin, to)
	return silent
}

// longestRun is how many of some numbers follow each other at most.
func longestRun(numbers []int) (longest int) {
	run := 0
	for i, n := range numbers {
		if i == 0 || n != numbers[i-1]+1 {
			run = 0
		}
		run++
		longest = max(longest, run)
	}
	return longest
}

// onConsole is on over a serial port.
func (w *world) onConsole(t *testing.T, host, script string) string {
	t.Helper()
	out, err := w.Host(host).Console(w.ctx, script)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return strings.TrimSpace(out)
}
