//go:build lab

package scenarios

import (
	"bytes"
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"mobula/lab"
)

// The faults. The worker goes on after those that do not end it.
const (
	faultKill  = "kill"  // kill -9 of the helper
	faultHang  = "hang"  // the helper is stopped and never goes on
	faultPower = "power" // the host loses its power, and at some steps its NIC is late when it boots
	faultSSH   = "ssh"   // the deployer does not reach the host until the change was rolled back
	faultDisk  = "disk"  // neither / nor /run takes a byte more until the change was rolled back
)

var faultKinds = []string{faultKill, faultHang, faultPower, faultSSH, faultDisk}

// cell is one fault before one step.
type cell struct {
	operation string
	position  int    // among all steps of the operation, from 1
	phase     string // apply, wait or confirm
	number    int    // of the step in its phase, from 1
	step      string
	fault     string
	round     int
	takes     time.Duration // the change, when nothing goes wrong
	playbook  bool          // the next deploy is that of the playbook
	unarmed   bool          // nothing has changed yet, and no clock runs
}

func (c cell) String() string {
	return fmt.Sprintf("%s-%d-%s", c.operation, c.position, c.fault)
}

// lateNIC tells whether the host boots without its NIC: before every eighth step of
// those that change the host, so that these are among them: the NIC is in the
// gateway, a change waits for its confirmation, and it was just kept.
func (c cell) lateNIC() bool { return c.fault == faultPower && c.position > 8 && c.position%8 == 2 }

// result is how the host came through.
type result struct {
	end         string // old or new
	unreachable time.Duration
	took        time.Duration
}

func (r result) String() string {
	return fmt.Sprintf("%-10s unreachable %5.1f s, took %.0f s", r.end, r.unreachable.Seconds(), r.took.Seconds())
}

// slack is what the host may need beyond the confirm timeout: until it is taken
// back, which takes as long as the change, with the wait for a helper that hangs, or
// has booted, on an emulated processor beside others. A helper that hangs before the
// rollback timer is started is given the time in which it might wait for a repair.
func (c cell) slack() time.Duration {
	most := map[string]time.Duration{faultHang: 50 * time.Second, faultPower: 3 * time.Minute}[c.fault]
	if c.fault == faultHang && c.unarmed {
		most = 3 * time.Minute
	}
	if c.lateNIC() {
		most += time.Minute
	}
	return most + 40*time.Second + 2*c.takes
}

// timeout is the confirm timeout: as short as it may be. Who has not come to the
// step, or to an end, 20 s after it is ended before the fault strikes.
func (c cell) timeout() time.Duration {
	least := 8 * time.Second // nothing is lost if it is over before the fault strikes
	if c.fault == faultSSH || c.fault == faultDisk {
		least = 20 * time.Second
	}
	if c.phase != "apply" {
		least = 20*time.Second + c.takes
	}
	return max(least, c.takes).Round(time.Second)
}

// run is world.on without a test that must not fail.
func (b *bed) run(most time.Duration, script string) (string, error) {
	ctx, cancel := context.WithTimeout(b.ctx, most)
	defer cancel()
	return b.host.Run(ctx, script)
}

// console runs a script on the host without its network.
func (b *bed) console(t *testing.T, script string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 90*time.Second)
	defer cancel()
	out, err := b.host.Console(ctx, script)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return out
}

// try interrupts the operation and returns how the host came through.
func (b *bed) try(t *testing.T, o *operation, c cell) result {
	began := time.Now()
	if err := b.host.Restore(b.ctx, o.snapshot); err != nil {
		t.Fatal(err)
	}
	if c.lateNIC() {
		b.console(t, unplugNIC)
	}
	watch := b.watch(t)
	defer watch.stop()
	b.begin(t, o, c)
	struck := time.Now()
	b.strike(t, o, c, watch)
	b.settle(t, struck, c.timeout()+c.slack())
	r := result{unreachable: watch.longest(struck)}
	watch.stop()
	if c.lateNIC() && b.insist(t, keepNIC) == "0" {
		t.Error("the NIC was there in time")
	}
	r.end = b.whichState(t, o, c)
	b.goOn(t, o, c)
	r.took = time.Since(began)
	return r
}

// begin brings the change to where the fault strikes.
func (b *bed) begin(t *testing.T, o *operation, c cell) {
	t.Helper()
	command := b.command(o, c.timeout())
	if c.phase == "apply" {
		b.pauseIn(t, command, o.steps.Apply, c.number)
		return
	}
	b.insist(t, command+" --detach")
	b.console(t, applied+`; grep -q '"done":true' /run/mobula/result.json || { cat /run/mobula/result.json; exit 1; }`)
	if c.phase == "confirm" {
		b.pauseIn(t, "mobula confirm --generation "+o.generation, o.steps.Confirm, c.number)
	}
}

// pauseIn runs a command over an SSH connection of its own until it stands still
// before one of its steps. Like the playbook it asks again while somebody else, who is
// about to end, still has the lock.
func (b *bed) pauseIn(t *testing.T, command string, steps []string, number int) {
	t.Helper()
	ctx, cancel := context.WithCancel(b.ctx)
	t.Cleanup(cancel)
	ssh := b.host.SSH(ctx, fmt.Sprintf("for i in $(seq 40); do %s --pause-before %d; [ $? = 75 ] || break; sleep 0.5; done", command, number))
	var out bytes.Buffer
	ssh.Stdout, ssh.Stderr = &out, &out
	if err := ssh.Start(); err != nil {
		t.Fatal(err)
	}
	go ssh.Wait()
	at := b.console(t, nap+`for i in {1..320}; do [ -s /run/mobula/paused ] && break; nap 0.25; done; cat /run/mobula/paused || true`)
	if want := fmt.Sprintf("%d %s", number, steps[number-1]); strings.Join(strings.Fields(at), " ") != strings.Join(strings.Fields(want), " ") {
		t.Fatalf("stands still before step %q, wanted %q\n%s", at, want, out.String())
	}
}

const (
	helperPID = `$(sed 's/.*"pid":\([0-9]*\).*/\1/' /run/mobula/lock)`
	resume    = "rm -f /run/mobula/paused"
	// fill leaves no byte in the file systems; small files first need none. What has
	// ended meanwhile may make room again.
	fill = `n=0
fill() { for size in 1G 256M 64M 16M 4M 1M 256K 64K 16K 4K; do while fallocate -l $size $1/lab-fill.$n 2>/dev/null; do n=$((n+1)); done; rm -f $1/lab-fill.$n; done; }
room() { for f in /var/lib/lab-fill /run/lab-fill; do if (echo more >$f) 2>/dev/null; then echo "$f: there is room left"; return; fi; rm -f $f; done; return 1; }
for i in {1..5}; do fill /; fill /run; room || break; done
if room; then exit 1; fi
`
	free = "rm -f /lab-fill.* /run/lab-fill.*"
)

// strike lets the fault happen, and end where it is one that ends.
func (b *bed) strike(t *testing.T, o *operation, c cell, watch *watch) {
	t.Helper()
	over := time.Now().Add(c.timeout() + 10*time.Second) // the change was rolled back by then
	switch c.fault {
	case faultKill, faultHang:
		if c.phase != "wait" { // there is no helper then
			b.console(t, map[string]string{faultKill: "kill -9 ", faultHang: "kill -STOP "}[c.fault]+helperPID)
		}
	case faultPower:
		if err := b.host.PowerOff(); err != nil {
			t.Fatal(err)
		}
		if err := b.host.Start(); err != nil {
			t.Fatal(err)
		}
	case faultSSH:
		undo, err := b.Fault(b.ctx, b.host, lab.DeployerPort, lab.Fault{Drop: true})
		if err != nil {
			t.Fatal(err)
		}
		b.console(t, resume)
		b.rest(t, over)
		if err := undo(); err != nil {
			t.Fatal(err)
		}
		watch.forget()
	case faultDisk:
		b.console(t, fill+resume)
		if err := b.confirm(o, time.Until(over)); err != nil {
			t.Logf("while the disk is full: %v", err)
		}
		b.rest(t, over)
		if _, err := b.run(30*time.Second, "true"); err != nil {
			t.Errorf("no SSH while the disk is full: %v", err)
		}
		b.console(t, free)
	}
}

// busy names what of the change still goes on. Asking systemd costs an emulated
// processor more than a look at the files of its transient units.
const busy = `busy() {
	for f in /run/systemd/transient/mobula-apply* /run/systemd/transient/mobula-rollback*; do
		[ ! -e "$f" ] || { echo "$f"; return; }
	done
	systemctl list-units --no-legend 'mobula-apply*' 'mobula-rollback*'
}`

// nap is sleep without a process, which would cost an emulated processor more than
// the look that follows.
const nap = `exec 9<> <(:); nap() { read -rt "$1" -u 9 || :; }; `

// applied waits until the change was carried out, or nothing is carried out. Asking
// the helper again and again costs an emulated processor as much as the change.
const applied = nap + `for i in {1..250}; do
	result=; { read -r result </run/mobula/result.json || :; } 2>/dev/null
	[[ $result != *'"done":true'* ]] && compgen -G '/run/systemd/transient/mobula-apply*' >/dev/null || break
	nap 0.3
done`

// rest waits until nothing of the change goes on any more, or the time is over.
func (b *bed) rest(t *testing.T, over time.Time) {
	t.Helper()
	for time.Now().Before(over) && strings.TrimSpace(b.console(t, busy+"\nbusy")) != "" {
		time.Sleep(time.Second)
	}
}

// settle waits until nothing of the change goes on any more, over SSH.
func (b *bed) settle(t *testing.T, since time.Time, most time.Duration) {
	t.Helper()
	for {
		out, err := b.run(20*time.Second, busy+`
for i in $(seq 10); do [ -n "$(busy)" ] || break; sleep 1; done
busy | grep . || systemctl is-system-running --wait >/dev/null || true`)
		if err == nil && strings.TrimSpace(out) == "" {
			return
		}
		if time.Since(since) > most {
			ctx, cancel := context.WithTimeout(b.ctx, time.Minute)
			defer cancel()
			log, _ := b.host.Console(ctx, "journalctl -b --no-pager -o short-monotonic -u 'mobula*' | tail -60; ip -br addr; ls /var/lib/mobula")
			t.Fatalf("not at rest %v after the fault: %v %s\n%s", most, err, out, log)
		}
		time.Sleep(time.Second)
	}
}

// inert are the traces that a power cut may leave on a host that was bare: notes
// of a change that had not changed anything, and the boot unit before anything
// starts it. Nothing reads them before the next change, which takes them away.
var inert = regexp.MustCompile(`^[-+] (/var/lib/mobula/(pending|facts|facts\.copy)\.json|/etc/systemd/system/mobula-network\.service|\+ file /etc/systemd/system/mobula-network\.service|\d+ changes to generation .*)$`)

// whichState tells whether the host is the old or the new one; anything else
// ends the test.
func (b *bed) whichState(t *testing.T, o *operation, c cell) string {
	t.Helper()
	var between string
	for try := 0; try < 3; try++ {
		now := b.state(t, o)
		switch now {
		case o.old:
			return "old"
		case o.fresh:
			return "new"
		}
		between = difference(o.old, now)
		if c.fault == faultPower && onlyInert(between) {
			return "old, noted"
		}
		if other := difference(o.fresh, now); len(other) < len(between) {
			between = "(new)" + other
		}
		t.Logf("not at rest yet: %s", between)
		time.Sleep(4 * time.Second)
	}
	t.Fatalf("neither the old nor the new state: %s\n%s", between, b.on(t, b.host.Name, "journalctl -b --no-pager -o short-monotonic -u 'mobula*' | tail -60"))
	return ""
}

func onlyInert(difference string) bool {
	for _, line := range strings.Split(strings.TrimSpace(difference), "\n") {
		if !inert.MatchString(line) {
			return false
		}
	}
	return true
}

// goOn holds that the next deploy succeeds and leads to the new state.
func (b *bed) goOn(t *testing.T, o *operation, c cell) {
	t.Helper()
	if c.playbook {
		playbook.Lock()
		defer playbook.Unlock()
		b.world.deploy(t, "--limit", b.host.Address)
	} else {
		b.deploy(t, o)
	}
	var now string
	for try := 0; try < 3; try++ {
		if now = b.state(t, o); now == o.fresh {
			return
		}
		time.Sleep(3 * time.Second)
	}
	t.Errorf("after the next deploy: %s", difference(o.fresh, now))
}
