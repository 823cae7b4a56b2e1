package vswitch

import (
	"context"
	"fmt"
	"time"
)

// settleTimeout bounds how long a port may take to get its number after
// ovs-vsctl has returned; normally it has it then.
const settleTimeout = 5 * time.Second

func (s *Switch) applyBridge(b wantedBridge) func(context.Context) error {
	return func(ctx context.Context) error {
		if err := s.waitForDaemons(ctx); err != nil {
			return err
		}
		if _, err := s.tools.vsctl(ctx, b.arguments()...); err != nil {
			return fmt.Errorf("bridge %s: %w", b.name, err)
		}
		return s.settle(ctx, b.object(), func(bridges map[string]bridge) string {
			return b.difference(bridges[b.name])
		})
	}
}

func (s *Switch) applyPort(p wantedPort) func(context.Context) error {
	return func(ctx context.Context) error {
		if err := s.waitForDaemons(ctx); err != nil {
			return err
		}
		bridges, err := s.observe(ctx)
		if err != nil {
			return err
		}
		var squatters []string
		for _, name := range sortedKeys(bridges[p.bridge].ports) {
			if name != p.name && bridges[p.bridge].ports[name].OFPort == p.number {
				squatters = append(squatters, name)
			}
		}
		if _, err := s.tools.vsctl(ctx, p.arguments(squatters)...); err != nil {
			return fmt.Errorf("port %s: %w", p.name, err)
		}
		return s.settle(ctx, p.object(), func(bridges map[string]bridge) string {
			have := bridges[p.bridge].ports[p.name]
			if have.OFPort == 0 && have.Error == "" {
				return "no OpenFlow port number yet"
			}
			return p.difference(have)
		})
	}
}

// settle reads back what was set. ovs-vsctl succeeds also when ovs-vswitchd
// could not do what the database says; the reason is in the database then.
func (s *Switch) settle(ctx context.Context, object string, difference func(map[string]bridge) string) error {
	var left string
	var failed error
	err := waitFor(ctx, settleTimeout, object, func() bool {
		bridges, err := s.observe(ctx)
		if err != nil {
			failed = err
			return true
		}
		left = difference(bridges)
		return left == ""
	})
	switch {
	case failed != nil:
		return failed
	case err != nil && left != "":
		return fmt.Errorf("%w: %s", err, left)
	}
	return err
}

func (s *Switch) deletePort(bridge, name string) func(context.Context) error {
	return s.remove("--if-exists", "del-port", bridge, name)
}

func (s *Switch) deleteBridge(name string) func(context.Context) error {
	return s.remove("--if-exists", "del-br", name)
}

// remove succeeds if the switch is gone altogether. Without ovs-vswitchd there
// is nobody to wait for.
func (s *Switch) remove(command ...string) func(context.Context) error {
	return func(ctx context.Context) error {
		if !s.databaseRuns() {
			return nil
		}
		args := command
		if !s.daemonRuns() {
			args = append([]string{"--no-wait", "--"}, command...)
		}
		_, err := s.tools.vsctl(ctx, args...)
		return err
	}
}
