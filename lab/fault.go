package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"time"
)

// Fault is what is wrong with a path. ARP always passes: what breaks is meant to be a path
// through the Internet, and there the next hop still answers. To take a host off the wire
// altogether, use Host.SetLink.
type Fault struct {
	// Drop loses everything.
	Drop bool
	// LossPercent loses this share of the packets at random, 0 to 100.
	LossPercent float64
	// MTU loses IP packets longer than this, in bytes, without telling anybody (a black hole). 0: none.
	MTU int
	// Delay lets each packet arrive this much later. It cannot be combined with the others.
	Delay time.Duration
	// OneWay restricts the fault to the direction from a to b.
	OneWay bool
	// TCP restricts the fault to packets to this TCP port. 0: no restriction.
	TCP uint16
}

func (f Fault) check() error {
	switch {
	case f == Fault{OneWay: f.OneWay, TCP: f.TCP}:
		return errors.New("no fault given")
	case f.LossPercent < 0 || f.LossPercent > 100:
		return fmt.Errorf("a loss of %v %%; wanted 0 to 100", f.LossPercent)
	case f.Delay != 0 && (f.Drop || f.LossPercent != 0 || f.MTU != 0 || f.TCP != 0):
		return errors.New("a delay cannot be combined with other faults")
	}
	return nil
}

// rules renders the fault for the forward hook of the lab's bridge.
func (f Fault) rules(a, b string) []string {
	path := fmt.Sprintf("iifname %q oifname %q ether type != arp ", a, b)
	if f.TCP != 0 {
		path += fmt.Sprintf("tcp dport %d ", f.TCP)
	}
	var rules []string
	if f.Drop || f.Delay != 0 { // what is delayed goes another way
		rules = append(rules, path+"counter drop")
	}
	if f.LossPercent > 0 {
		rules = append(rules, path+fmt.Sprintf("numgen random mod 10000 < %d counter drop", int(f.LossPercent*100)))
	}
	if f.MTU > 0 {
		rules = append(rules, path+fmt.Sprintf("meta length > %d counter drop", f.MTU))
	}
	return rules
}

var faultCounter atomic.Int64

// Fault breaks the path between two ports of the lab's bridge until undo is called. Other paths
// are not touched. Several faults add up. A delay also ends when this process does.
func (l *Lab) Fault(ctx context.Context, a, b Port, f Fault) (undo func() error, err error) {
	if err := f.check(); err != nil {
		return nil, err
	}
	rules := f.rules(a.port(), b.port())
	if !f.OneWay {
		rules = append(rules, f.rules(b.port(), a.port())...)
	}
	// A table per fault: putting it in and taking it out are one transaction each.
	table := fmt.Sprintf("fault-%d-%d", os.Getpid(), faultCounter.Add(1))
	var stop func()
	if f.Delay != 0 {
		if stop, err = l.startDelay(ctx, a.port(), b.port(), f); err != nil {
			return nil, err
		}
	}
	ruleset := fmt.Sprintf("table bridge %s {\n chain forward {\n  type filter hook forward priority 0;\n  %s\n }\n}\n",
		table, strings.Join(rules, "\n  "))
	if err := l.nft(ctx, ruleset); err != nil {
		if stop != nil {
			stop()
		}
		return nil, err
	}
	return func() error {
		err := l.nft(context.Background(), "delete table bridge "+table+"\n")
		if stop != nil {
			stop()
		}
		return err
	}, nil
}

// Isolate breaks all paths between a host and the rest of the lab, the deployer included.
func (l *Lab) Isolate(ctx context.Context, h *Host) (undo func() error, err error) {
	table := fmt.Sprintf("fault-%d-%d", os.Getpid(), faultCounter.Add(1))
	err = l.nft(ctx, fmt.Sprintf("table bridge %s {\n chain forward {\n  type filter hook forward priority 0;\n"+
		"  iifname %q ether type != arp drop\n  oifname %[2]q ether type != arp drop\n }\n}\n", table, h.port()))
	return func() error { return l.nft(context.Background(), "delete table bridge "+table+"\n") }, err
}

// ClearFaults removes all faults, also those a process that has ended left behind.
func (l *Lab) ClearFaults(ctx context.Context) error { return l.nft(ctx, "flush ruleset bridge\n") }

func (l *Lab) nft(ctx context.Context, ruleset string) error {
	_, err := outputWithInput(ctx, ruleset, "ip", "netns", "exec", l.Namespace(), "nft", "-f", "-")
	return err
}
