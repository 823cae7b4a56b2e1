// Package reconcile brings a host from what it has to what it should have:
// observe, compare, change in order, verify, and wait for confirmation. It owns
// the interfaces that the hands implement.
package reconcile

import (
	"context"
	"fmt"
	"time"

	"mobula/helper/internal/spec"
)

// Step orders the operations of all subjects. Additions and changes run from the
// first step to the last; then removals run from the last step to the first.
type Step int

// The steps of building a host. Whoever only adds what nothing depends on yet
// comes first; what can cut the operator off comes as late as possible.
const (
	StepFiles Step = iota
	StepNamespaces
	StepDoorway // stands before anything forwards
	StepSettings
	StepLinks
	StepWireGuard
	StepFirewall
	StepSwitch
	StepAddresses
	StepRoutes
	StepUplink // the NIC moves, with its addresses and routes
	StepRelays // follows the host's routing, whatever it is by then
	StepResolver
	StepNames // others may change at any time where these are found
	StepServices
)

// Verb says what an operation does to its object.
type Verb byte

// The verbs, written the way diff(1) writes them.
const (
	Add    Verb = '+'
	Change Verb = '~'
	Remove Verb = '-'
)

// Operation is one difference between what a host has and what it should have,
// and the way to remove it.
type Operation struct {
	Step Step
	Verb Verb
	// Object and Detail are for the reader: "peer bob.example.com",
	// "endpoint 192.0.2.2:51820 → 192.0.2.9:51820".
	Object string
	Detail string
	// Interrupts counts the peers that lose packets while it runs.
	Interrupts int
	// Reconnects tells that SSH connections to the public address end.
	Reconnects bool
	// Limit is how long it may take where that grows with the network; 0: as long as
	// anything.
	Limit time.Duration
	// Do carries it out. It is idempotent: a repetition succeeds.
	Do func(context.Context) error
}

// String returns the operation as one line of a plan.
func (o Operation) String() string {
	if o.Detail == "" {
		return fmt.Sprintf("%c %s", o.Verb, o.Object)
	}
	return fmt.Sprintf("%c %s: %s", o.Verb, o.Object, o.Detail)
}

// Subject is one part of a host: its links, its firewall, its switch and so on.
type Subject interface {
	// Name is for messages: "links", "firewall".
	Name() string
	// Diff observes the host and returns the operations that lead to want; none
	// if nothing differs. It changes nothing. previous is what was applied last,
	// or nil: what differs from want only because the kernel or the agent
	// changed it on purpose (a roamed endpoint) is left alone.
	Diff(ctx context.Context, want, previous *spec.Host) ([]Operation, error)
}
