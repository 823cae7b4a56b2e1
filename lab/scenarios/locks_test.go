//go:build lab

package scenarios

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"mobula/lab"
)

// twoAtOnce: whoever finds the host being changed waits, or is told by whom, and
// does no harm to the change that goes on.
func twoAtOnce(t *testing.T, w *world) {
	b := &bed{world: w, host: w.Host("bob")}
	if err := b.host.Save("before-locks"); err != nil {
		t.Fatal(err)
	}
	document := []byte(read(t, w, ".build/network.json"))
	b.put(t, "/root/second.json", document)
	b.learnChange(t, document)
	one := b.operations[0]
	if err := b.host.Restore(w.ctx, one.snapshot); err != nil {
		t.Fatal(err)
	}
	const second = "mobula apply --allow-older --document /root/second.json --confirm-timeout=60s"

	// While the first apply stands still at one of its steps the others give up.
	middle := len(one.steps.Apply) / 2
	b.pauseIn(t, b.command(one, 4*time.Minute), one.steps.Apply, middle)
	var others sync.WaitGroup
	for _, command := range []string{second, "mobula boot", "mobula confirm", "mobula key --new"} {
		others.Add(1)
		go func() {
			defer others.Done()
			b.busy(t, command, "this host is being changed by 'mobula apply'")
		}()
	}
	others.Wait()

	// One that is patient enough learns that the first one's change waits, and
	// leaves that change and its result alone.
	done := make(chan error, 1)
	go func() {
		_, err := b.run(2*time.Minute, second)
		done <- err
	}()
	time.Sleep(5 * time.Second)
	b.console(t, resume)
	if err := <-done; lab.ExitCode(err) != 75 || !strings.Contains(err.Error(), "another change waits for confirmation: generation "+one.generation) {
		t.Errorf("the second apply: %v", err)
	}
	if err := b.confirm(one, time.Minute); err != nil {
		t.Fatalf("the first change was spoilt by the second: %v", err)
	}
	if now := b.state(t, one); now != one.fresh {
		t.Errorf("after the first change: %s", difference(one.fresh, now))
	}
	b.on(t, "bob", second+" && mobula confirm")

	// A deploy while the host boots.
	b.busy(t, fmt.Sprintf(`mobula boot & p=$!
until grep -q '"doing":"boot","pid":'$p, /run/mobula/lock; do sleep 0.01; done; kill -STOP $p
%s && code=0 || code=$?; kill -CONT $p; wait $p; exit $code`, b.command(one, time.Minute)), "this host is being changed by 'mobula boot'")

	// A repair is waited for, however long it takes on a busy host.
	if _, err := b.run(5*time.Minute, fmt.Sprintf(`mobula repair & p=$!
until grep -q '"doing":"repair","pid":'$p, /run/mobula/lock; do sleep 0.01; done; kill -STOP $p
(sleep 25; kill -CONT $p) & %s && mobula confirm`, b.command(one, time.Minute))); err != nil {
		t.Errorf("a change during a repair: %v", err)
	}
	if err := b.host.Restore(w.ctx, "before-locks"); err != nil {
		t.Fatal(err)
	}
}

// busy runs a command that must give up because the host is being changed.
func (b *bed) busy(t *testing.T, command, says string) {
	t.Helper()
	began := time.Now()
	_, err := b.run(time.Minute, command)
	if lab.ExitCode(err) != 75 || !strings.Contains(fmt.Sprint(err), says) {
		t.Errorf("%s: %v, wanted exit code 75 and %q", command, err, says)
	}
	t.Logf("%s: after %.0f s: %v", strings.Fields(command)[1], time.Since(began).Seconds(), err)
}
