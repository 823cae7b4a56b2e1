package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"mobula/helper/internal/inventory"
	"mobula/helper/internal/network"
	"mobula/helper/internal/store"
)

// compileInput is what the playbook hands over on standard input.
type compileInput struct {
	// Inventory is the inventory as Ansible resolved it, see inventory.Input.
	Inventory json.RawMessage `json:"inventory"`
	// Collected is what the hosts contacted in this run reported, by name.
	Collected map[string]inventory.Reported `json:"collected"`
	// Here are the names of the hosts that a phase begins with; null: nobody asks.
	Here []string `json:"here"`
}

// compileOutput is what the playbook gets back.
type compileOutput struct {
	Generation  string              `json:"generation"`
	KeysChanged bool                `json:"public_keys_changed"`
	Warnings    []string            `json:"warnings"`
	Hosts       map[string]hostTask `json:"hosts"`
}

// hostTask is what apply has to be told about one host.
type hostTask struct {
	HostID         uint16 `json:"host_id"`
	ConfirmTimeout string `json:"confirm_timeout"`
}

// inputFlag is the flag for the input.
const inputFlag = "input"

type compileFlags struct {
	input                              *source
	sources                            *[]string
	extraHosts, extraWires, publicKeys *string
	state, phase                       *string
}

func newCompileFlags(c *call) compileFlags {
	f := compileFlags{
		input:      &source{},
		sources:    c.flags.StringArray("source", nil, "a `FILE` of the inventory, for the lines in messages; may be repeated"),
		extraHosts: c.flags.String("extra-hosts", "extra_hosts.yml", "`FILE` with additional private names"),
		extraWires: c.flags.String("extra-wires", "extra_wires.yml", "`FILE` with administrators' WireGuard clients"),
		publicKeys: c.flags.String("public-keys", "wireguard_pubkeys.yml", "`FILE` with the hosts' public keys"),
		state:      c.flags.String("state", "mobula_state.yml", "`FILE` with what else the hosts reported"),
		phase:      c.flags.String("phase", "", "`PHASE` of a rotation of all keys: announce, switch or forget; empty: none"),
	}
	c.flags.StringVar(&f.input.path, inputFlag, "-", "`SOURCE` of the inventory")
	c.file("json", inputFlag)
	c.file("", "source")
	c.file("yml", "extra-hosts", "extra-wires", "public-keys", "state")
	c.choice("phase", string(inventory.Announce), string(inventory.Switch), string(inventory.Forget))
	return f
}

func (f compileFlags) keyFiles() inventory.KeyFiles {
	return inventory.KeyFiles{Keys: *f.publicKeys, State: *f.state}
}

func (f compileFlags) compile(c *call) (*inventory.Compiled, error) {
	if err := f.input.check(inputFlag); err != nil {
		return nil, exitError{exitUsage, err}
	}
	if f.input.path == "-" && isTerminal(c.stdin) { // nobody types that, so it would wait in vain
		return nil, exitError{exitUsage, errors.New("standard input: found a terminal, wanted what the playbooks hand over ('mobula check --host' checks this host)")}
	}
	data, err := c.read(*f.input)
	if err != nil {
		return nil, err
	}
	in, err := parseInput(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; wanted the inventory and what hosts reported, as the playbooks make it", f.input.name(), err)
	}
	return inventory.Compile(c, inventory.Input{
		Resolved: in.Inventory, Sources: *f.sources, ExtraHostsFile: *f.extraHosts, ExtraWiresFile: *f.extraWires,
		KeyFiles: f.keyFiles(), Collected: in.Collected, Phase: inventory.Phase(*f.phase), Here: in.Here, Resolver: net.DefaultResolver, Now: time.Now(),
	})
}

// isTerminal is isatty(3) of what is read or written.
func isTerminal(stream any) bool {
	file, ok := stream.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(file.Fd()), unix.TCGETS)
	return err == nil
}

// parseInput reads standard input strictly: it is made by the playbooks alone.
func parseInput(data []byte) (compileInput, error) {
	var in compileInput
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&in); err != nil {
		return in, err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return in, errors.New("found more after the end of the JSON object")
	}
	return in, nil
}

const inventoryHelp = `Reads {"inventory": …, "collected": …}: the inventory as Ansible resolved it and what
the hosts reported, the way the playbooks make it, from standard input or from --input.
--phase says which of its keys each host uses while all keys rotate. With "here", a list
of hosts, it is refused if one of the inventory is not in there.`

func compileCommand() command {
	return command{
		name: "compile", arguments: "--output FILE [--input SOURCE]",
		summary: "make the network document out of the inventory (on the deployer)",
		help: inventoryHelp + `
Writes the network document to --output and what the hosts reported to
--public-keys and --state, and prints JSON for the playbook. If anything is wrong it says
everything that is wrong and writes nothing.

SOURCE is a file, - for standard input, or an https:// URL, which has to have --sha256:
what is read is refused if it is another, before anything is done with it.`,
		example: "mobula compile --input input.json --output network.json",
		define: func(c *call) func() error {
			f := newCompileFlags(c)
			output := c.flags.String("output", "", "`FILE` that the network document goes to; empty: none")
			c.file("json", "output")
			c.sumFlag(f.input)
			dryRun := c.flags.Bool("dry-run", false, "do not write --public-keys and --state")
			return func() error {
				compiled, err := f.compile(c)
				if err != nil {
					return err
				}
				if *output != "" {
					if err := store.WriteFile(*output, compiled.Document.Encode(), 0o600); err != nil {
						return err
					}
				}
				result := compileOutput{Generation: compiled.Document.Generation(), Warnings: warnings(compiled), Hosts: map[string]hostTask{}}
				for _, h := range compiled.Document.Hosts {
					result.Hosts[h.Name] = hostTask{h.ID, compiled.Settings[h.Name].ConfirmTimeout.String()}
				}
				if !*dryRun {
					if result.KeysChanged, err = compiled.PublicKeys.Write(f.keyFiles()); err != nil {
						return err
					}
				}
				return c.printJSON(result)
			}
		},
	}
}

func warnings(compiled *inventory.Compiled) []string {
	texts := []string{}
	for _, w := range compiled.Warnings {
		texts = append(texts, w.String())
	}
	return texts
}

func checkCommand() command {
	return command{
		name: "check", arguments: "[--input SOURCE | --document SOURCE | --host] [--json]",
		summary: "say everything that is wrong with the input or with this host",
		help: inventoryHelp + `
With --document it checks a network document instead, with --host this host:
whether Mobula can work on it and, before its NIC moves for the first time, what will
no longer be reachable. Nothing is changed. Every problem is one line:
file:line: host: field: found X, wanted Y. With --host --json the exit code is 0 also
if there are problems: what is printed has them.

` + sourceHelp,
		example: `mobula check --host
mobula check --document network.json`,
		define: func(c *call) func() error {
			f := newCompileFlags(c)
			document := &source{}
			c.documentFlags(document, "check the network document from this `SOURCE`")
			onHost := c.flags.Bool("host", false, "check this host")
			host := newHostFlags(c)
			asJSON := c.jsonFlag()
			return func() error {
				switch {
				case *onHost:
					i, err := host.intended()
					if err != nil {
						return err
					}
					return c.checkHost(i, *asJSON)
				case document.path != "" || document.generation != "":
					if err := document.check("document"); err != nil {
						return exitError{exitUsage, err}
					}
					d, err := c.readDocument(*document)
					return c.reportCheck(d, nil, err, *asJSON)
				}
				f.input.sha256 = document.sha256
				compiled, err := f.compile(c)
				if usage := (exitError{}); errors.As(err, &usage) {
					return err
				}
				if err != nil {
					return c.reportCheck(nil, nil, err, *asJSON)
				}
				return c.reportCheck(compiled.Document, warnings(compiled), nil, *asJSON)
			}
		},
	}
}

// checkReport is what check prints as JSON.
type checkReport struct {
	Generation string   `json:"generation,omitempty"`
	Hosts      int      `json:"hosts"`
	Warnings   []string `json:"warnings"`
	Problems   []string `json:"problems"`
}

func (c *call) reportCheck(d *network.Document, warnings []string, problems error, asJSON bool) error {
	report := checkReport{Warnings: append([]string{}, warnings...), Problems: lines(problems)}
	if d != nil {
		report.Generation, report.Hosts = d.Generation(), len(d.Hosts)
	}
	if asJSON {
		if err := c.printJSON(report); err != nil {
			return err
		}
		if problems != nil {
			return exitError{code: exitFailed}
		}
		return nil
	}
	for _, w := range report.Warnings {
		fmt.Fprintln(c.stdout, "warning:", w)
	}
	if problems != nil {
		return fmt.Errorf("%d problems, nothing was changed\n%w", len(report.Problems), problems)
	}
	_, err := fmt.Fprintf(c.stdout, "nothing is wrong: %d hosts, generation %s\n", report.Hosts, report.Generation)
	return err
}

// lines returns what a joined error consists of, one text each.
func lines(err error) []string {
	all := []string{}
	if err == nil {
		return all
	}
	var joined interface{ Unwrap() []error }
	if errors.As(err, &joined) {
		for _, e := range joined.Unwrap() {
			all = append(all, lines(e)...)
		}
		return all
	}
	return append(all, err.Error())
}
