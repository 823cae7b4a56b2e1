package spec

import (
	"errors"
	"net/netip"
	"slices"
)

// In returns the facts with the NIC staying with the host (shared) or moved first, and
// those of the other way outside beside them; nil if there are none of it.
func (f *Facts) In(shared bool) *Facts {
	switch {
	case f.IsShared() == shared:
		return f
	case f.Other == nil:
		return nil
	}
	in, other := *f.Other, f.Alone()
	in.Other, in.Booted = other, f.Booted
	return &in
}

// NICThatMoves returns the name of the NIC that has moved or may have; "": none has.
func (f *Facts) NICThatMoves() string {
	if in := f.In(false); in != nil {
		return in.Uplink
	}
	return ""
}

// Alone returns the facts without those of another way outside.
func (f *Facts) Alone() *Facts {
	if f.Other == nil {
		return f
	}
	alone := *f
	alone.Other = nil
	return &alone
}

// Beside returns the facts with those of another way outside, which the host leaves or
// may have to come back to.
func (f *Facts) Beside(other *Facts) *Facts {
	with := *f
	with.Other = other.Alone()
	return &with
}

// AtBoot returns the facts of a host that has just booted, or long ago.
func (f *Facts) AtBoot(booted bool) *Facts {
	at := *f
	at.Booted = booted
	return &at
}

// Stays returns the facts of a host that gets its NIC back and keeps it: these are of
// one whose NIC has moved, and now are the ways outside that it has meanwhile. It refuses
// a host that will have none.
func (f *Facts) Stays(now Shared) (*Facts, error) {
	ways, before := now, f.Original()
	leads := func(to netip.Prefix) bool {
		return slices.ContainsFunc(before.Routes, func(r Route) bool { return r.To == to })
	}
	if leads(Everywhere) || len(now.Outside) == 0 && leads(Everywhere6) {
		ways.Outside = append(slices.Clone(ways.Outside), f.Uplink)
		if !now.Router && !before.forwards(now.NewForward) {
			ways.Opened = append(slices.Clone(ways.Opened), f.Uplink)
		}
	}
	if len(ways.Outside) == 0 {
		return nil, ErrNoWay
	}
	return &Facts{Shared: &ways, MTU: f.MTU, Managers: f.Managers, Resolvers: f.Resolvers, ResolvConf: f.ResolvConf}, nil
}

// ErrNoWay is the error of a host that cannot keep its NIC.
var ErrNoWay = errors.New("uplink: found no default route, wanted one")

// Moves returns the facts of a host whose NIC moves: f were found while it stayed with the
// host by the facts before, and may forward for the gateway's sake. Else it would do what
// the host does, which is a router or not.
func (f *Facts) Moves(before *Facts, router bool) *Facts {
	if f.ResolvConf.IsOurs() && before.ResolvConf.Path != "" {
		own := *f
		own.ResolvConf, own.Resolvers = before.ResolvConf, before.Resolvers
		f = &own
	}
	if !slices.Contains(before.Shared.Opened, f.Uplink) || f.Baseline == nil {
		return f
	}
	forwards := NICSetting{Group: "ipv4/conf", Name: "forwarding", Value: "0"}
	if router {
		forwards.Value = "1"
	}
	with, b := *f, *f.Baseline
	b.Settings = slices.DeleteFunc(slices.Clone(b.Settings), func(s NICSetting) bool { return s.Group == forwards.Group && s.Name == forwards.Name })
	b.Settings = append(b.Settings, forwards)
	with.Baseline = &b
	return &with
}

// forwards reports that the NIC forwards IPv4 where it is the host's; a new interface does
// so if the host's default says it.
func (b Baseline) forwards(byDefault bool) bool {
	for _, s := range b.Settings {
		if s.Group == "ipv4/conf" && s.Name == "forwarding" {
			return s.Value == "1"
		}
	}
	return byDefault
}
