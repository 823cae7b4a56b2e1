package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"mobula/helper/internal/inventory"
	"mobula/helper/internal/network"
	"mobula/helper/internal/store"
)

// compileInput is what the playbook hands over on standard input.
type compileInput struct {
	// Inventory is the inventory as Ansible resolved it, see inventory.Input.
	Inventory json.RawMessage `json:"inventory"`
	// Collected is what the hosts contacted in this run reported, by name.
	Collected map[string]inventory.HostKey `json:"collected"`
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

type compileFlags struct {
	sources                            *[]string
	extraHosts, extraWires, publicKeys *string
	state                              *string
}

func newCompileFlags(c *call) compileFlags {
	return compileFlags{
		sources:    c.flags.StringArray("source", nil, "a source of the inventory, for the lines in messages; may be repeated"),
		extraHosts: c.flags.String("extra-hosts", "extra_hosts.yml", "further private names"),
		extraWires: c.flags.String("extra-wires", "extra_wires.yml", "administrators' WireGuard clients"),
		publicKeys: c.flags.String("public-keys", "wireguard_pubkeys.yml", "the hosts' public keys"),
		state:      c.flags.String("state", "mobula_state.yml", "what else the hosts reported"),
	}
}

func (f compileFlags) keyFiles() inventory.KeyFiles {
	return inventory.KeyFiles{Keys: *f.publicKeys, State: *f.state}
}

func (f compileFlags) compile(c *call) (*inventory.Compiled, error) {
	data, err := io.ReadAll(c.stdin)
	if err != nil {
		return nil, err
	}
	in, err := parseInput(data)
	if err != nil {
		return nil, fmt.Errorf("standard input: %w", err)
	}
	return inventory.Compile(c, inventory.Input{
		Resolved: in.Inventory, Sources: *f.sources, ExtraHostsFile: *f.extraHosts, ExtraWiresFile: *f.extraWires,
		KeyFiles: f.keyFiles(), Collected: in.Collected, Resolver: net.DefaultResolver, Now: time.Now(),
	})
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

const inventoryHelp = `Reads from standard input {"inventory": …, "collected": …}: the inventory as
Ansible resolved it and what the hosts reported, the way the playbooks make it.`

var compileCommand = command{
	name: "compile", arguments: "--output FILE < INPUT",
	summary: "make the network document out of the inventory (on the deployer)",
	help: inventoryHelp + `
Writes the network document to --output and what the hosts reported to
--public-keys and --state, and prints JSON for the playbook. If anything is wrong it says
everything that is wrong and writes nothing.`,
	run: func(c *call) error {
		f := newCompileFlags(c)
		output := c.flags.String("output", "", "where the network document goes; empty: nowhere")
		dryRun := c.flags.Bool("dry-run", false, "do not write --public-keys and --state")
		if err := c.parse(); err != nil {
			return err
		}
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
	},
}

func warnings(compiled *inventory.Compiled) []string {
	texts := []string{}
	for _, w := range compiled.Warnings {
		texts = append(texts, w.String())
	}
	return texts
}

var checkCommand = command{
	name: "check", arguments: "< INPUT | --document FILE | --host",
	summary: "say everything that is wrong with the input or with this host",
	help: inventoryHelp + `
With --document it checks a network document instead, with --host this host:
whether Mobula can work on it and, before its NIC moves for the first time, what will
no longer be reachable. Nothing is changed. Every problem is one line:
file:line: host: field: found X, wanted Y.`,
	run: func(c *call) error {
		f := newCompileFlags(c)
		document := c.flags.String("document", "", "check this network document")
		onHost := c.flags.Bool("host", false, "check this host")
		host := newHostFlags(c)
		asJSON := c.flags.Bool("json", false, "print JSON")
		if err := c.parse(); err != nil {
			return err
		}
		switch {
		case *onHost:
			i, err := host.intended()
			if err != nil {
				return err
			}
			return c.checkHost(i, *asJSON)
		case *document != "":
			d, err := c.readDocument(*document)
			return c.reportCheck(d, nil, err, *asJSON)
		}
		compiled, err := f.compile(c)
		if err != nil {
			return c.reportCheck(nil, nil, err, *asJSON)
		}
		return c.reportCheck(compiled.Document, warnings(compiled), nil, *asJSON)
	},
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
