package worker

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"mobula/helper/internal/network"
	"mobula/helper/internal/reconcile"
	"mobula/helper/internal/spec"
	"mobula/helper/internal/store"
	"mobula/helper/internal/transaction"
)

func stagedPath() string { return filepath.Join(spec.RunDir, "staged.json") }
func resultPath() string { return filepath.Join(spec.RunDir, "result.json") }

// attemptPath is the file with the name of the last attempt to change the host.
func attemptPath() string { return filepath.Join(spec.RunDir, "attempt") }

// Staged is what the worker is handed.
type Staged struct {
	Change  store.Change  `json:"change"`
	Timeout time.Duration `json:"timeout"`
	Older   bool          `json:"allow_older"`
	Alone   bool          `json:"allow_alone"`
	Rebuild bool          `json:"rebuild"`
	// Waiting are the processes through which the answer has to pass.
	Waiting []int `json:"waiting"`
	// PauseBefore is the number of a step, see Pause.
	PauseBefore int `json:"pause_before,omitempty"`
}

// Options are those of the change.
func (s Staged) Options() transaction.Options {
	return transaction.Options{ConfirmTimeout: s.Timeout, AllowOlder: s.Older, AllowAlone: s.Alone, Rebuild: s.Rebuild}
}

// parseStaged takes only what a command can have staged.
func parseStaged(data []byte) (s Staged, err error) {
	if err := json.Unmarshal(data, &s); err != nil {
		return s, err
	}
	return s, s.Change.Validate()
}

func readStaged() (Staged, error) {
	data, err := os.ReadFile(stagedPath())
	if err != nil {
		return Staged{}, err
	}
	s, err := parseStaged(data)
	if err != nil {
		err = fmt.Errorf("%s: %w", stagedPath(), err)
	}
	return s, err
}

func stage(s Staged) error {
	data, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if err := os.Remove(resultPath()); err != nil && !os.IsNotExist(err) {
		return err
	}
	return store.WriteFile(stagedPath(), data, 0o600)
}

// Forget removes what was staged: nothing of it is left to do.
func Forget() { _ = os.Remove(stagedPath()) }

// Outcome is what plan and apply report, and what the worker leaves as its result.
type Outcome struct {
	Changed     bool     `json:"changed"`
	Generation  string   `json:"generation"`
	Operations  []string `json:"operations"`
	Interrupted int      `json:"interrupted_peers"`
	// Names are the private names that come, go or move. DNS answers from the
	// document, so no operation shows them.
	Names []string `json:"names"`
	// Reconnect tells that SSH connections to the public address end, because
	// the NIC moves.
	Reconnect bool `json:"reconnect"`
	// Confirm tells that the change has to be confirmed.
	Confirm bool `json:"confirm"`
	// Done tells that the change was carried out and waits for confirmation.
	Done  bool   `json:"done"`
	Error string `json:"error,omitempty"`
	Steps *Steps `json:"steps,omitempty"`
}

// Steps are what apply and confirm would do, in this order. Both can be
// interrupted before each.
type Steps struct {
	Apply   []string `json:"apply"`
	Confirm []string `json:"confirm"`
}

// stepResult is the last step of apply: the worker tells what came out of it.
const stepResult = "leave the result"

// NewSteps are those of a change with these operations.
func NewSteps(h *transaction.Host, change *store.Change, ops []reconcile.Operation) *Steps {
	apply, confirm := h.Steps(change, ops)
	return &Steps{append(apply, stepResult), confirm}
}

// NewOutcome tells what ops make of the confirmed change, which may be none.
func NewOutcome(confirmed, change *store.Change, ops []reconcile.Operation) Outcome {
	o := Outcome{Changed: len(ops) > 0, Generation: change.Generation(), Operations: []string{}, Names: []string{}, Interrupted: reconcile.Interrupted(ops)}
	if confirmed != nil && confirmed.Document != nil && change.Document != nil {
		o.Names = append(o.Names, network.NameChanges(confirmed.Document, change.Document)...)
	}
	for _, op := range ops {
		o.Operations = append(o.Operations, op.String())
		o.Reconnect = o.Reconnect || op.Reconnects
	}
	return o
}

func writeResult(o Outcome) error {
	data, err := json.Marshal(o)
	if err != nil {
		return err
	}
	return store.WriteFile(resultPath(), data, 0o600)
}

func readResult() (*Outcome, error) {
	data, err := os.ReadFile(resultPath())
	if err != nil {
		return nil, err
	}
	return parseOutcome(data)
}

func parseOutcome(data []byte) (*Outcome, error) {
	var result Outcome
	return &result, json.Unmarshal(data, &result)
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
