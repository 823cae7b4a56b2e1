package main

import (
	"context"
	"errors"
	"fmt"

	"mobula/helper/internal/firewall"
	"mobula/helper/internal/hostnames"
	"mobula/helper/internal/links"
	"mobula/helper/internal/network"
	"mobula/helper/internal/packetfilter"
	"mobula/helper/internal/reconcile"
	"mobula/helper/internal/spec"
	"mobula/helper/internal/store"
	"mobula/helper/internal/system"
	"mobula/helper/internal/transaction"
	"mobula/helper/internal/vswitch"
	"mobula/helper/internal/wireguard"
)

const documentFormat = network.FormatVersion

// host wires the hands of this host together.
func (c *call) host() *transaction.Host {
	kept, ofHost := store.New(spec.StateDir), c.ofHost()
	return &transaction.Host{
		Store: kept, Alarm: system.Alarm{Program: ofHost.Self()}, Programs: ofHost, Survey: survey, Ways: links.Ways, ResolvConf: system.ResolvConf, SSHPorts: system.SSHPorts, Run: store.New(spec.RunDir), Log: c.log, Progress: c.turn.Progress,
		Reconciler: func(facts *spec.Facts, booting bool) *reconcile.Reconciler {
			return &reconcile.Reconciler{Log: c.log, Subjects: []reconcile.Subject{
				system.New(facts.NICThatMoves(), booting),
				links.New(links.Netlink{}),
				wireguard.New(spec.Namespace, spec.WireLink, kept.Keys()),
				firewall.New(spec.Namespace, spec.RunDir),
				firewall.NewDoorway(spec.RunDir),
				packetfilter.NewOpener(spec.StateDir),
				relaying(),
				hostnames.New(packetfilter.Run, store.WriteFile),
				vswitch.New(vswitch.Options{RunDir: spec.OVSDir, Program: ofHost.Self()}),
			}}
		},
	}
}

// relaying is the hand for what a host that keeps its NIC sends on.
func relaying() *firewall.Relaying { return firewall.NewRelaying(spec.RunDir, links.Onward) }

// survey finds what a host is, as far as it matters to a host of which a document with
// these ranges says this; known are the facts of the other way outside, if Mobula is on the host already.
func survey(ctx context.Context, ranges network.Ranges, self network.Host, known *spec.Facts) (facts *spec.Facts, err error) {
	switch {
	case self.SharedUplink && known != nil:
		ways, err := links.Ways()
		if err != nil {
			return nil, err
		}
		return known.Stays(ways)
	case self.SharedUplink:
		facts, err = links.SurveyShared(ranges)
	default:
		facts, err = links.Survey(ranges, self.Uplink, known != nil)
	}
	if facts == nil {
		return nil, err
	}
	if known != nil {
		ways, waysErr := links.Ways()
		facts, err = facts.Moves(known, ways.Router), errors.Join(err, waysErr)
	}
	err = errors.Join(err, system.Survey(ctx, ranges, facts))
	if known == nil {
		err = errors.Join(err, system.Near(ranges, self, facts))
	}
	return facts, err
}

// readChange returns the change that the flags name; without a document it is
// the one that the host has confirmed.
func (c *call) readChange(h *transaction.Host, from source, hostID uint16) (*store.Change, error) {
	if err := from.check("document"); err != nil {
		return nil, exitError{exitUsage, err}
	}
	if from.path == "" {
		confirmed, err := h.Store.Confirmed()
		if err == nil && confirmed == nil {
			err = exitError{exitUsage, errors.New("this host has no network document yet, wanted one: name it with --document")}
		}
		if err == nil {
			confirmed.Helper = h.Programs.Self()
		}
		return confirmed, err
	}
	data, err := c.read(from)
	if err != nil {
		return nil, err
	}
	document, err := from.parse(data)
	if err != nil {
		return nil, fmt.Errorf("%w\nnothing was changed: copy the document of the last deploy to this host once more (.build/network.json)", err)
	}
	if hostID == 0 {
		confirmed, err := h.Store.Confirmed()
		if err != nil {
			return nil, err
		}
		if confirmed == nil {
			return nil, exitError{exitUsage, errors.New("--host-id: found none, and this host has none yet, wanted its ID in the document")}
		}
		hostID = confirmed.HostID
	}
	return store.NewChange(hostID, document, h.Programs.Self()), nil
}
