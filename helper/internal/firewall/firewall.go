package firewall

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"mobula/helper/internal/reconcile"
	"mobula/helper/internal/spec"
)

const table = "mobula"

// Firewall is the hand for one nftables table, by nft(8).
type Firewall struct {
	name      string // of the subject and of what its operations change
	family    string // of the table
	step      reconcile.Step
	program   NFT
	namespace string
	record    string
	// render returns the ruleset that a plan wants; "": no table.
	render func(*spec.Host) string
	// rare: where the plan before wants no table and nothing is on record, none is
	// looked for. Most hosts have none, and each look costs a process.
	rare bool
}

// New returns the hand for the gateway's table in the given namespace. runDir holds a
// record of what was loaded last; it may be lost, which costs one reload.
func New(namespace, runDir string) *Firewall { return On(program{}, namespace, runDir) }

// On is New with another nft.
func On(nft NFT, namespace, runDir string) *Firewall {
	return &Firewall{name: "firewall", family: "inet", step: reconcile.StepFirewall, program: nft, namespace: namespace, record: filepath.Join(runDir, "firewall.json"),
		render: func(h *spec.Host) string {
			if h.Firewall == nil {
				return ""
			}
			return Render(h.Firewall, memory())
		}}
}

// NewDoorway returns the hand for the table in the host's own namespace. runDir is that of
// New.
func NewDoorway(runDir string) *Firewall { return DoorwayOn(program{}, runDir) }

// DoorwayOn is NewDoorway with another nft.
func DoorwayOn(nft NFT, runDir string) *Firewall {
	return &Firewall{name: "doorway", family: "inet", step: reconcile.StepDoorway, program: nft, record: filepath.Join(runDir, "doorway.json"), rare: true,
		render: func(h *spec.Host) string {
			if h.Doorway == nil {
				return ""
			}
			return RenderDoorway(h.Doorway)
		}}
}

// Name implements reconcile.Subject.
func (f *Firewall) Name() string { return f.name }

// loaded is the record: the kernel's text of a ruleset differs from nft's input,
// so what the kernel printed right after loading stands for it.
type loaded struct {
	Ruleset string `json:"ruleset"` // as given to nft
	Listing string `json:"listing"` // hash of what the kernel said of it then
	// Unable is why the ruleset is none that the host can have; "": it can.
	Unable string `json:"unable,omitempty"`
}

// Diff implements reconcile.Subject.
func (f *Firewall) Diff(ctx context.Context, want, previous *spec.Host) ([]reconcile.Operation, error) {
	text := f.render(want)
	if text == "" && f.rare && previous != nil && f.render(previous) == "" && !f.onRecord() {
		return nil, nil
	}
	listing, err := f.list(ctx)
	if text == "" && errors.Is(err, exec.ErrNotFound) {
		return nil, nil // a host without nft(8) was not given a table
	}
	if err != nil {
		return nil, err
	}
	if text == "" {
		if listing == "" {
			return nil, nil
		}
		return []reconcile.Operation{{Step: f.step, Verb: reconcile.Remove, Object: f.name, Do: f.remove}}, nil
	}
	op := reconcile.Operation{Step: f.step, Verb: reconcile.Change, Object: f.name,
		Do: func(ctx context.Context) error { return f.load(ctx, text) }}
	last := f.readRecord()
	switch {
	case listing == "":
		op.Verb, op.Detail = reconcile.Add, "table "+f.family+" "+table
	case last.Ruleset != text:
		op.Detail = describe(last.Ruleset, text)
	case last.Listing != hash(listing):
		op.Detail = "somebody else changed the rules; load them again"
	default:
		return nil, nil
	}
	return []reconcile.Operation{op}, nil
}

// list returns the table as the kernel has it, without counters and what packets
// have put into sets; "" if there is none.
func (f *Firewall) list(ctx context.Context) (string, error) {
	if !f.program.Exists(f.namespace) {
		return "", nil
	}
	listing, unlisted := f.nft(ctx, "", "--stateless", "list", "table", f.family, table)
	if unlisted == nil {
		return withoutDynamic(listing), nil
	}
	// It may not be there; to ask that first takes as long as to list it.
	tables, err := f.nft(ctx, "", "list", "tables", f.family)
	if err == nil && strings.Contains(tables+"\n", "table "+f.family+" "+table+"\n") {
		err = unlisted
	}
	return "", err
}

// withoutDynamic leaves out the elements of sets that packets fill.
func withoutDynamic(listing string) string {
	var kept []string
	dynamic, skipping := false, false
	for _, line := range strings.Split(listing, "\n") {
		text := strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(text, "set "), strings.HasPrefix(text, "map "), strings.HasPrefix(text, "chain "):
			dynamic = false
		case strings.HasPrefix(text, "flags ") && strings.Contains(text, "dynamic"):
			dynamic = true
		case dynamic && strings.HasPrefix(text, "elements = {"):
			skipping = true
		}
		if !skipping {
			kept = append(kept, line)
		}
		if strings.HasSuffix(text, "}") {
			skipping = false
		}
	}
	return strings.Join(kept, "\n")
}

func (f *Firewall) load(ctx context.Context, text string) error {
	if !f.onRecord() { // there may be a table from now on
		if err := f.note(loaded{}); err != nil {
			return err
		}
	}
	if _, err := f.nft(ctx, text, "-f", "-"); err != nil {
		return err
	}
	listing, err := f.list(ctx)
	if err != nil {
		return err
	}
	return f.note(loaded{Ruleset: text, Listing: hash(listing)})
}

// note writes the record.
func (f *Firewall) note(now loaded) error {
	data, err := json.Marshal(now)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(f.record), 0o700); err != nil {
		return err
	}
	return os.WriteFile(f.record, data, 0o600)
}

func (f *Firewall) remove(ctx context.Context) error {
	listing, err := f.list(ctx)
	if err == nil && listing != "" {
		_, err = f.nft(ctx, "", "delete", "table", f.family, table)
	}
	if err == nil {
		_ = os.Remove(f.record) // left behind, it costs a look now and then
	}
	return err
}

// memory is how many bytes the host has (sysinfo(2)).
func memory() uint64 {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return 0
	}
	return uint64(info.Totalram) * uint64(info.Unit)
}

func (f *Firewall) onRecord() bool {
	_, err := os.Lstat(f.record)
	return !errors.Is(err, fs.ErrNotExist)
}

func (f *Firewall) readRecord() (last loaded) {
	if data, err := os.ReadFile(f.record); err == nil {
		_ = json.Unmarshal(data, &last) // an unreadable record counts as none
	}
	return last
}

func (f *Firewall) nft(ctx context.Context, stdin string, args ...string) (string, error) {
	out, err := f.program.Run(ctx, f.namespace, stdin, args...)
	if err != nil {
		return "", fmt.Errorf("nft %s: %w", strings.Join(args, " "), err)
	}
	return out, nil
}

func hash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}
