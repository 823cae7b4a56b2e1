package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"mobula/lab/meter"
)

// Endpoint is an address on a host where packets are sent and counted.
type Endpoint struct {
	Host    *Host
	Address string
	// Namespace on the host that has the address; "" is the host itself.
	Namespace string
}

// MeterFlow is a path to be measured, in one direction.
type MeterFlow struct {
	From, To Endpoint
	// Every is a multiple of that of the options; zero: the same.
	Every time.Duration
}

// MeterOptions says how to measure. Zero values mean their defaults.
type MeterOptions struct {
	Every time.Duration // between two packets of a flow; default 10 ms
	Size  int           // of the UDP payload in bytes; default 64
	// TCP keeps a connection along each flow as well.
	TCP bool
}

// FlowResult is how one flow fared.
type FlowResult struct {
	From, To                                    string     // host names
	Path                                        meter.Flow // their addresses
	Sent, Received, Lost, Duplicated, Reordered uint64
	// SendErrors are the packets that the sender's own kernel refused; they are among Lost.
	SendErrors uint64
	LongestGap time.Duration
	Gaps       []meter.Gap
	// LongestLoss is the most packets that were lost in a row.
	LongestLoss uint64
	// Blocks of the TCP stream sent and received, and what broke it.
	BlocksSent, BlocksReceived uint64
	TCPGap                     time.Duration
	TCPError                   string
}

// Meter is a running measurement.
type Meter struct {
	Every time.Duration // between two packets of a flow

	lab   *Lab
	flows []MeterFlow
	tcp   bool
	sites map[site]bool
}

// site is a place where one meter process runs.
type site struct {
	host      *Host
	namespace string
}

func (s site) unit() string { return strings.TrimSuffix("lab-meter-"+s.namespace, "-") }
func (s site) file(kind string) string {
	return fmt.Sprintf("/var/tmp/%s.%s", s.unit(), kind)
}

// Pairs lists the flows between every two hosts, both ways, by the address that the function
// names: lab.Pairs(l.Hosts, lab.HostSpec.IntrawireAddress).
func Pairs(hosts []*Host, address func(HostSpec) string) []MeterFlow {
	var flows []MeterFlow
	for _, a := range hosts {
		for _, b := range hosts {
			if a != b {
				flows = append(flows, MeterFlow{
					From: Endpoint{Host: a, Address: address(a.HostSpec)},
					To:   Endpoint{Host: b, Address: address(b.HostSpec)},
				})
			}
		}
	}
	return flows
}

// UnderlayAddress is the address outside of everything; for Pairs.
func UnderlayAddress(s HostSpec) string { return s.Address }

// StartMeter begins to measure. One process per host serves all flows; it is a unit of its own
// and needs neither SSH nor this process to go on. There is one measurement at a time.
func (l *Lab) StartMeter(ctx context.Context, flows []MeterFlow, o MeterOptions) (*Meter, error) {
	if o.Every == 0 {
		o.Every = 10 * time.Millisecond
	}
	if o.Size == 0 {
		o.Size = 64
	}
	m := &Meter{Every: o.Every, lab: l, flows: flows, tcp: o.TCP, sites: map[site]bool{}}
	configs := map[site]*meter.Config{}
	at := func(e Endpoint) *meter.Config {
		s := site{e.Host, e.Namespace}
		if configs[s] == nil {
			configs[s] = &meter.Config{Every: o.Every, Size: o.Size, TCP: o.TCP}
			m.sites[s] = true
		}
		return configs[s]
	}
	for _, f := range flows {
		from, to := at(f.From), at(f.To)
		from.Send = append(from.Send, meter.Sending{Flow: meter.Flow{From: f.From.Address, To: f.To.Address}, Every: f.Every})
		to.Listen = append(to.Listen, f.To.Address)
	}
	err := m.each(func(s site) error {
		config, err := json.Marshal(configs[s])
		if err != nil {
			return err
		}
		binary := "/var/tmp/lab-meter"
		if err := s.host.CopyTo(ctx, filepath.Join(l.Dir, "meter"), binary, 0o755); err != nil {
			return err
		}
		enter := ""
		if s.namespace != "" {
			enter = "ip netns exec " + s.namespace + " "
		}
		_, err = s.host.RunAs(ctx, "root", fmt.Sprintf("systemctl stop %[1]s 2>/dev/null || true; cat >%[2]s; rm -f %[3]s; "+
			"systemd-run --quiet --collect -p TimerSlackNSec=1ms --unit %[1]s %[4]s%[5]s %[2]s %[3]s; "+
			// The first report says that it listens.
			"until [ -e %[3]s ]; do systemctl is-active --quiet %[1]s; sleep 0.2; done",
			s.unit(), s.file("config"), s.file("report"), enter, binary), string(config))
		return err
	})
	if err != nil {
		return nil, err
	}
	return m, m.each(func(s site) error {
		_, err := s.host.Run(ctx, "systemctl kill -s HUP "+s.unit())
		return err
	})
}

// Report is what was measured so far; packets on their way count as lost.
func (m *Meter) Report(ctx context.Context) ([]FlowResult, error) {
	return m.collect(ctx, "rm -f %[2]s; systemctl kill -s USR1 %[1]s; until [ -e %[2]s ]; do sleep 0.1; done; cat %[2]s")
}

// Stop ends the measurement: first all senders, a little later all receivers. When a host
// does not answer, or lost its meter in a reboot, there is an error beside the other results.
func (m *Meter) Stop(ctx context.Context) ([]FlowResult, error) {
	stopErr := m.each(func(s site) error {
		_, err := s.host.Run(ctx, "systemctl kill -s USR2 "+s.unit())
		return err
	})
	select {
	case <-ctx.Done():
	case <-time.After(2 * time.Second):
	}
	results, err := m.collect(ctx, "systemctl stop %[1]s; cat %[2]s")
	return results, errors.Join(stopErr, err)
}

// each calls f for all places at once.
func (m *Meter) each(f func(site) error) error {
	errs := make(chan error, len(m.sites))
	for s := range m.sites {
		go func(s site) {
			err := f(s)
			if err != nil {
				err = fmt.Errorf("meter on %s: %w", s.host.Name, err)
			}
			errs <- err
		}(s)
	}
	var all []error
	for range m.sites {
		all = append(all, <-errs)
	}
	return errors.Join(all...)
}

// collect fetches the reports and puts both ends of each flow together.
func (m *Meter) collect(ctx context.Context, script string) ([]FlowResult, error) {
	type answer struct {
		site   site
		report meter.Report
	}
	answers := make(chan answer, len(m.sites))
	err := m.each(func(s site) error {
		out, err := s.host.Run(ctx, fmt.Sprintf(script, s.unit(), s.file("report")))
		if err != nil {
			return err
		}
		a := answer{site: s}
		if err := json.Unmarshal([]byte(out), &a.report); err != nil {
			return err
		}
		answers <- a
		return nil
	})
	close(answers)
	reports := map[site]meter.Report{}
	for a := range answers {
		reports[a.site] = a.report
	}
	var results []FlowResult
	for _, f := range m.flows {
		sender, receiver := reports[site{f.From.Host, f.From.Namespace}], reports[site{f.To.Host, f.To.Namespace}]
		r := merge(meter.Flow{From: f.From.Address, To: f.To.Address}, sender, receiver)
		r.From, r.To = f.From.Host.Name, f.To.Host.Name
		results = append(results, r)
	}
	return results, err
}

func merge(f meter.Flow, sender, receiver meter.Report) FlowResult {
	r := FlowResult{Path: f}
	for _, s := range sender.Sent {
		if s.Flow == f {
			r.Sent, r.SendErrors, r.BlocksSent, r.TCPError = s.Packets, s.Errors, s.Blocks, s.TCPError
		}
	}
	for _, in := range receiver.Received {
		if in.Flow == f { // more than one when the sender was started anew
			r.Received += in.Packets
			r.Duplicated += in.Duplicated
			r.Reordered += in.Reordered
			r.Gaps = append(r.Gaps, in.Gaps...)
			r.LongestGap = max(r.LongestGap, in.LongestGap)
			r.LongestLoss = max(r.LongestLoss, in.LongestLoss)
			if in.Highest+1 < r.Sent { // the last packets did not arrive
				r.LongestLoss = max(r.LongestLoss, r.Sent-in.Highest-1)
			}
		}
	}
	for _, in := range receiver.TCP {
		if in.Flow == f {
			r.BlocksReceived += in.Blocks
			r.TCPGap = in.LongestGap
			if in.Error != "" && r.TCPError == "" {
				r.TCPError = in.Error
			}
		}
	}
	if r.Sent > r.Received {
		r.Lost = r.Sent - r.Received
	}
	return r
}

// Lossless returns an error that names every flow that lost something, UDP or TCP.
func Lossless(results []FlowResult) error {
	var errs []error
	for _, r := range results {
		switch {
		case r.Received == 0:
			errs = append(errs, fmt.Errorf("%s → %s (%s → %s): nothing arrived of %d packets", r.From, r.To, r.Path.From, r.Path.To, r.Sent))
		case r.Lost > 0:
			errs = append(errs, fmt.Errorf("%s → %s (%s → %s): %d of %d packets lost, longest gap %s",
				r.From, r.To, r.Path.From, r.Path.To, r.Lost, r.Sent, r.LongestGap.Round(time.Millisecond)))
		case r.TCPError != "" || r.BlocksSent != r.BlocksReceived:
			errs = append(errs, fmt.Errorf("%s → %s (%s → %s): TCP: %d of %d blocks arrived %s",
				r.From, r.To, r.Path.From, r.Path.To, r.BlocksReceived, r.BlocksSent, r.TCPError))
		}
	}
	return errors.Join(errs...)
}

// Table renders results for people.
func Table(results []FlowResult) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-32s %8s %8s %6s %6s %5s %7s %9s  %s\n", "from → to", "sent", "received", "lost", "in row", "dup", "reorder", "gap", "TCP blocks")
	for _, r := range results {
		tcp := ""
		if r.BlocksSent > 0 || r.TCPError != "" {
			tcp = fmt.Sprintf("%d/%d %s", r.BlocksReceived, r.BlocksSent, r.TCPError)
		}
		fmt.Fprintf(&b, "%-32s %8d %8d %6d %6d %5d %7d %9s  %s\n", r.Path.From+" → "+r.Path.To,
			r.Sent, r.Received, r.Lost, r.LongestLoss, r.Duplicated, r.Reordered, r.LongestGap.Round(time.Millisecond), tcp)
	}
	return b.String()
}
