package firewall_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mobula/helper/internal/firewall"
	"mobula/helper/internal/firewall/firewalltest"
	"mobula/helper/internal/plan"
	"mobula/helper/internal/plan/plantest"
	"mobula/helper/internal/reconcile"
	"mobula/helper/internal/spec"
)

const gateway = "gateway"

// wanted is a host's plan of which the firewall counts, with these ports of SSH.
func wanted(t *testing.T, ssh ...uint16) *spec.Host {
	t.Helper()
	facts := plantest.Facts()
	facts.SSHPorts = ssh
	h, err := plan.Build(plantest.Document(plantest.Host(1), plantest.Host(2), plantest.Host(3)), 1, *facts)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// hand is the real hand on a namespace with an nft that holds state.
type hand struct {
	*testing.T
	*firewall.Firewall
	nft    *firewalltest.NFT
	inside any // the namespace; nil: there is none
	run    string
	looks  int   // how often nft was started
	fails  error // what it says then; nil: it runs
}

func newHand(t *testing.T) *hand {
	h := &hand{T: t, inside: new(int), run: filepath.Join(t.TempDir(), "run")}
	own := new(int)
	h.nft = &firewalltest.NFT{Namespace: func(name string) any {
		switch name {
		case gateway:
			return h.inside
		case "":
			return own
		}
		return nil
	}}
	h.Firewall = firewall.On(counted{h}, gateway, h.run)
	return h
}

// counted is a hand's nft.
type counted struct{ h *hand }

func (c counted) Exists(namespace string) bool { return c.h.nft.Exists(namespace) }

func (c counted) Run(ctx context.Context, namespace, stdin string, args ...string) (string, error) {
	if c.h.looks++; c.h.fails != nil {
		return "", c.h.fails
	}
	return c.h.nft.Run(ctx, namespace, stdin, args...)
}

// differs holds that a look at the host finds this and nothing else; "" for nothing.
func (h *hand) differs(when string, want *spec.Host, verb, detail string) []reconcile.Operation {
	h.Helper()
	ops, err := h.Diff(context.Background(), want, want)
	text := ""
	for _, op := range ops {
		text += op.String()
	}
	if err != nil || (verb == "") != (text == "") || !strings.HasPrefix(text, verb) || !strings.Contains(text, detail) {
		h.Fatalf("%s: found %q, %v, wanted %s %q", when, text, err, verb, detail)
	}
	return ops
}

// bring does what differs, twice: operations can be repeated.
func (h *hand) bring(when string, want *spec.Host, verb, detail string) {
	h.Helper()
	for _, op := range h.differs(when, want, verb, detail) {
		for range []int{1, 2} {
			if err := op.Do(context.Background()); err != nil {
				h.Fatalf("%s: %v", when, err)
			}
		}
	}
	h.differs(when+", a second look", want, "", "")
}

func (h *hand) nftDoes(script string) {
	h.Helper()
	if _, err := h.nft.Run(context.Background(), gateway, script, "-f", "-"); err != nil {
		h.Fatal(err)
	}
}

// TestRulesComeAndGo walks through what may become of the rules.
func TestRulesComeAndGo(t *testing.T) {
	h := newHand(t)
	h.nftDoes("table inet docker {\n\tchain x {\n\t\taccept\n\t}\n}\n")
	before := h.nft.String()
	h.bring("new", wanted(t, 22), "+", "table inet mobula")
	h.bring("another port", wanted(t, 2222), "~", "published: + ip daddr { 192.0.2.1 } tcp dport 2222")

	if err := h.nft.Fill(gateway, "mobula", "guests", "02:00:00:00:00:01"); err != nil {
		t.Fatal(err)
	}
	h.differs("what packets put into sets", wanted(t, 2222), "", "")
	if err := h.nft.Fill(gateway, "mobula", "members", "203.0.113.1"); err != nil {
		t.Fatal(err)
	}
	h.bring("a stranger among the members", wanted(t, 2222), "~", "somebody else changed the rules")
	h.nftDoes("table inet mobula {\n\tchain forward {\n\t\taccept\n\t}\n}\n")
	h.bring("a rule of somebody else's", wanted(t, 2222), "~", "somebody else changed the rules")
	h.nftDoes("delete table inet mobula")
	h.bring("the table is gone", wanted(t, 2222), "+", "table inet mobula")
	h.inside = new(int)
	h.bring("the namespace is another one", wanted(t, 2222), "+", "table inet mobula")
	h.nftDoes("table inet docker {\n\tchain x {\n\t\taccept\n\t}\n}\n")
	if err := os.RemoveAll(h.run); err != nil {
		t.Fatal(err)
	}
	h.bring("nobody knows what was loaded", wanted(t, 2222), "~", "")
	h.bring("gone", &spec.Host{}, "-", "")
	if after := h.nft.String(); after != before {
		t.Errorf("left\n%s\nwanted\n%s", after, before)
	}
	h.inside = nil
	h.differs("no namespace", &spec.Host{}, "", "")
	for _, op := range h.differs("no namespace yet", wanted(t, 22), "+", "table inet mobula") {
		if err := op.Do(context.Background()); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("without a namespace: error %v", err)
		}
	}
}

// TestRefusedRulesChangeNothing holds that what nft does not take leaves what is there.
func TestRefusedRulesChangeNothing(t *testing.T) {
	h := newHand(t)
	h.bring("new", wanted(t, 22), "+", "")
	before := h.nft.String()
	bad := wanted(t, 22)
	bad.Firewall.External = "a \" name { of four words"
	for _, op := range h.differs("a plan that nft refuses", bad, "~", "") {
		if err := op.Do(context.Background()); err == nil || !strings.Contains(err.Error(), "nft -f -: exit status 1") {
			t.Errorf("error %v", err)
		}
	}
	if after := h.nft.String(); after != before {
		t.Errorf("left\n%s", after)
	}
	h.differs("what is there", wanted(t, 22), "", "")
}
