//go:build lab

package scenarios

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mobula/lab"
)

// bed is a host on which changes are interrupted, with what it is before and
// after each of them when nothing goes wrong.
type bed struct {
	*world
	host       *lab.Host
	operations []*operation
}

// operation is a change that is interrupted. It begins at a snapshot.
type operation struct {
	name, snapshot string
	// document is the file on the host with what it is to have.
	document   string
	generation string
	steps      struct{ Apply, Confirm []string }
	took       time.Duration // until it was carried out
	// old and fresh are the host before and after, as bed.state tells it.
	old, fresh string
}

func (b *bed) operation(name string) *operation {
	for _, o := range b.operations {
		if o.name == name {
			return o
		}
	}
	return nil
}

// lasting leaves out of the fingerprint what differs after a boot without being
// another state: numbers of interfaces, the order of lists, whether the boot unit
// has run, and the folder of notes in memory.
const lasting = ` | sed 's/@if[0-9]*//' | tr -s ' ' | grep -vE 'mobula-(network|repair)\.service loaded|^/run/mobula$' | sort`

// inside is what stands in the gateway's namespace, without what the peers do, what is
// the agent's own, and the addresses that Open vSwitch draws for interfaces of its own.
const inside = `ip -br link | awk '{print $1, $1 ~ /^(ovs-system|genev_sys)/ ? "" : $3}'; ip -4 -br addr; ip -4 route; wg show all allowed-ips; wg show all private-key | sha256sum; nft list tables | grep -v first_packets`

// insist runs what may be repeated: on a busy machine connections and daemons
// that do not answer in time are no fault of the change.
func (b *bed) insist(t *testing.T, script string) (out string) {
	t.Helper()
	eventually(t, 90*time.Second, b.host.Name, func() (err error) {
		out, err = b.run(45*time.Second, script)
		return err
	})
	return strings.TrimSpace(out)
}

// state is all that may tell the old from the new: the fingerprint, the gateway,
// the private keys, and what apply would still change.
func (b *bed) state(t *testing.T, o *operation) string {
	t.Helper()
	return b.insist(t, fmt.Sprintf(`{ %s
} 2>&1%s
echo "gateway:"; [ ! -e /run/netns/mobula ] || ip netns exec mobula sh -c '%s' 2>&1 | sed 's/@if[0-9]*//' | sort
echo "keys:"; sha256sum /var/lib/mobula/keys/*
echo "to do:"; mobula plan --document %s --host-id %d || test $? = 2`, fingerprint, lasting, strings.ReplaceAll(inside, "'", `'\''`), o.document, b.host.ID))
}

// command is how the operation is begun.
func (b *bed) command(o *operation, timeout time.Duration) string {
	return fmt.Sprintf("mobula apply --document %s --host-id %d --confirm-timeout=%v", o.document, b.host.ID, timeout)
}

// learn carries the operation out without faults and notes what the host is
// before and after. The helper itself tells the steps.
func (b *bed) learn(t *testing.T, o *operation) {
	t.Helper()
	if err := b.host.Save(o.snapshot); err != nil {
		t.Fatal(err)
	}
	var plan struct {
		Generation string
		Operations []string
		Steps      struct{ Apply, Confirm []string }
	}
	mustJSON(t, b.insist(t, fmt.Sprintf("mobula plan --json --document %s --host-id %d || test $? = 2", o.document, b.host.ID)), &plan)
	o.generation, o.steps = plan.Generation, plan.Steps
	if len(o.steps.Apply) <= len(plan.Operations) || len(o.steps.Confirm) == 0 {
		t.Fatalf("the helper lists %d operations, but the steps %q and %q", len(plan.Operations), o.steps.Apply, o.steps.Confirm)
	}
	o.old = b.state(t, o)
	o.took = b.deploy(t, o)
	o.fresh = b.state(t, o)
	if o.old == o.fresh {
		t.Fatalf("%s changes nothing", o.name)
	}
	b.operations = append(b.operations, o)
}

// deploy is what docs/reference/commands.md says of a deploy without Ansible. It returns how long
// the change took to be carried out.
func (b *bed) deploy(t *testing.T, o *operation) time.Duration {
	t.Helper()
	began := time.Now()
	b.insist(t, b.command(o, 3*time.Minute)+" --detach")
	b.console(t, applied)
	took := time.Since(began)
	if err := b.confirm(o, 170*time.Second); err != nil {
		t.Fatal(err)
	}
	return took
}

// confirm asks over a new connection each time, as the playbook does, until the
// change is no longer carried out.
func (b *bed) confirm(o *operation, most time.Duration) error {
	for deadline := time.Now().Add(most); ; time.Sleep(500 * time.Millisecond) {
		_, err := b.run(10*time.Second, "mobula confirm --generation "+o.generation)
		refused := lab.ExitCode(err) != -1 && lab.ExitCode(err) != 75 && lab.ExitCode(err) != 255 // and not: not reached, or too early
		if err == nil || refused || time.Now().After(deadline) {
			return err
		}
	}
}

// put writes a file on the host.
func (b *bed) put(t *testing.T, path string, content []byte) {
	t.Helper()
	local := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(local, content, 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, "a file on "+b.host.Name, func() error { return b.host.CopyTo(b.ctx, local, path, 0o600) })
	b.on(t, b.host.Name, "sync") // it has to outlast a power cut
}

// changed returns the document of a network in which as much as possible is
// different: a peer, a name and a client more, a peer less, and of this host the
// published ports and whether veth_fac0 is the operator's.
func changed(t *testing.T, document []byte, self int) []byte {
	t.Helper()
	var d map[string]any
	if err := json.Unmarshal(document, &d); err != nil {
		t.Fatal(err)
	}
	d["serial"] = d["serial"].(float64) + 1
	var hosts []any
	gone := false
	for _, h := range d["hosts"].([]any) {
		host := h.(map[string]any)
		switch {
		case host["id"].(float64) == float64(self):
			host["manual_access"] = true
			if host["shared_uplink"] == nil {
				host["publish"] = []map[string]any{{"protocol": "tcp", "port": 8443}, {"protocol": "udp", "port": 5000}}
			}
		case !gone:
			gone = true
			continue
		}
		hosts = append(hosts, host)
	}
	d["hosts"] = append(hosts, map[string]any{"id": 999, "name": "192.0.2.99", "hostname": "new.example.com", "endpoint": "192.0.2.99:51820",
		"public_key": "1CBZ5667JPeFyjAu4SJeIYdiel6eCFKahxsK/yftOxA="})
	d["names"] = []map[string]any{{"address": "10.31.0.77", "names": []string{"changed.example.com"}}}
	d["clients"] = []map[string]any{{"address": "10.30.128.7", "public_key": "C7c4bQRyGW4VMzGi/jhboH8lSXajqbQDGPqbXOwb6nU="}}
	data, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// bare makes the operation that a host begins with: the helper and a key are
// there, the network is not. The document comes with the deploy that follows.
func (b *bed) bare(t *testing.T, helper string) {
	t.Helper()
	if err := b.host.CopyTo(b.ctx, helper, "/root/mobula", 0o755); err != nil {
		t.Fatal(err)
	}
	b.insist(t, `d=/usr/local/lib/mobula/$(sha256sum /root/mobula | cut -c -16) && mkdir -p "$d" && mv /root/mobula "$d" &&
		ln -s "$d/mobula" /usr/local/sbin/mobula && mobula key`)
	if err := b.host.Save("faults-bare"); err != nil {
		t.Fatal(err)
	}
}

// learnFirst learns the first apply on a bare host. It ends with the host
// deployed.
func (b *bed) learnFirst(t *testing.T, document []byte) {
	t.Helper()
	if err := b.host.Restore(b.ctx, "faults-bare"); err != nil {
		t.Fatal(err)
	}
	b.put(t, "/root/faults-first.json", document)
	b.learn(t, &operation{name: "first-apply", snapshot: "faults-first", document: "/root/faults-first.json"})
}

// learnChange learns a change of the deployed host.
func (b *bed) learnChange(t *testing.T, document []byte) {
	t.Helper()
	b.put(t, "/root/faults-change.json", changed(t, document, b.host.ID))
	b.learn(t, &operation{name: "change", snapshot: "faults-change", document: "/root/faults-change.json"})
}
