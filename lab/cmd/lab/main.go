// Command lab starts, shows and ends the lab; see lab/README.md.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"

	"mobula/lab"
)

const usage = `usage: lab COMMAND

  up [HOST...]          start the lab; default: alice bob carol (lab/README.md has the others)
  down                  end it
  status                what runs
  ssh HOST [COMMAND...] a shell, or a command, on a host, as root
  deployer COMMAND...   a command on the deployer: ansible-playbook, ping, tcpdump …
  outside COMMAND...    a command on the machine beyond the router
  console HOST COMMAND  a command on a host over its serial port, without any network
  fault A B FAULT       break the path between two of: host names, deployer, router; until interrupted.
                        FAULT: drop, loss=PERCENT, mtu=BYTES, delay=DURATION; with "oneway" only from A to B
  heal                  remove faults that an ended process left behind
  meter [HOST...]       packets every 10 ms between all pairs, on all networks; until interrupted
  save NAME             keep the state of all hosts, memory included
  restore NAME          go back to it, in seconds
  logs DIR              collect consoles, journals and network state into DIR
  inventory             print hosts.yml for the hosts that run

The environment variables MOBULA_LAB_DIR, MOBULA_LAB_PREFIX and MOBULA_LAB_CACHE move the lab; see lab/README.md.
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:])
	var exit *exec.ExitError
	switch {
	case err == nil:
	case errors.As(err, &exit):
		fmt.Fprintln(os.Stderr, err)
		os.Exit(exit.ExitCode())
	default:
		fmt.Fprintln(os.Stderr, "lab:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 || args[0] == "help" || args[0] == "--help" || args[0] == "-h" {
		fmt.Print(usage)
		return nil
	}
	command, args := args[0], args[1:]
	switch command {
	case "up":
		return up(ctx, args)
	case "serve-repository": // started by Up
		return lab.ServeRepository(args[0])
	case "serve-dhcp":
		return lab.ServeDHCP(args[0])
	case "serve-trunk":
		return lab.ServeTrunk(args[0], args[1])
	case "serve-outside":
		return lab.ServeOutside(args[0], args[1])
	}
	l, err := lab.Open("")
	if err != nil {
		return err
	}
	switch {
	case command == "down":
		return l.Down()
	case command == "status":
		return status(ctx, l)
	case command == "inventory":
		fmt.Print(l.Inventory())
		return nil
	case command == "logs" && len(args) == 1:
		return l.Logs(ctx, args[0], os.Stdout)
	case command == "deployer" && len(args) > 0:
		return attach(lab.Command(ctx, l.Namespace(), args[0], args[1:]...))
	case command == "outside" && len(args) > 0:
		return attach(lab.Command(ctx, l.OutsideNamespace(), args[0], args[1:]...))
	case command == "ssh" && len(args) > 0:
		h, err := host(l, args[0])
		if err != nil {
			return err
		}
		return attach(h.SSH(ctx, args[1:]...))
	case command == "fault" && len(args) >= 3:
		return fault(ctx, l, args[0], args[1], args[2:])
	case command == "heal":
		return l.ClearFaults(ctx)
	case command == "meter":
		return measure(ctx, l, args)
	case command == "save" && len(args) == 1:
		return l.Save(args[0])
	case command == "restore" && len(args) == 1:
		return l.Restore(ctx, args[0])
	case command == "console" && len(args) > 1:
		h, err := host(l, args[0])
		if err != nil {
			return err
		}
		out, err := h.Console(ctx, strings.Join(args[1:], " "))
		fmt.Print(out)
		return err
	}
	return fmt.Errorf("unknown command or wrong arguments: %s %s\n%s", command, strings.Join(args, " "), usage)
}

func up(ctx context.Context, names []string) error {
	var o lab.Options
	for _, name := range names {
		found := false
		for _, spec := range lab.DefaultHosts() {
			if spec.Name == name {
				o.Hosts, found = append(o.Hosts, spec), true
			}
		}
		if !found {
			return fmt.Errorf("no host %q is known to the lab", name)
		}
	}
	l, err := lab.Up(ctx, o)
	if err != nil {
		return err
	}
	return status(ctx, l)
}

func status(ctx context.Context, l *lab.Lab) error {
	fmt.Printf("lab in %s, deployer in namespace %s\n", l.Dir, l.Namespace())
	for _, h := range l.Hosts {
		state := "no power"
		if h.Running() {
			state = "runs"
			if out, err := h.Run(ctx, "cut -d. -f1 /proc/uptime"); err == nil {
				state = "up for " + strings.TrimSpace(out) + " s"
			}
		}
		fmt.Printf("  %-6s %-12s host ID %-5d %-9s image %-5s %s\n", h.Name, h.Address, h.ID, h.Manager, h.Image, state)
	}
	return nil
}

func host(l *lab.Lab, name string) (*lab.Host, error) {
	if h := l.Host(name); h != nil {
		return h, nil
	}
	for _, h := range l.Hosts {
		if h.Address == name || h.FQDN() == name {
			return h, nil
		}
	}
	return nil, fmt.Errorf("no host %q runs in the lab", name)
}

func attach(cmd *exec.Cmd) error {
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	return cmd.Run()
}
