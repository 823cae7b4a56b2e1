// Command mobula builds and keeps one host's part of a Mobula network, and
// compiles the network document on the deployer.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/pflag"

	"mobula/helper/internal/plan"
)

// Exit codes, the same for all commands.
const (
	exitOK      = 0
	exitFailed  = 1 // it could not be done; nothing is left half done
	exitDiffers = 2 // plan: there is something to do
	exitUsage   = 64
	exitBusy    = 75 // not now: somebody else changes the host, or its NIC is not there yet; try again later
)

// version is set when the program is built: what git calls the sources.
var version = "unknown (built without git)"

// command is one subcommand.
type command struct {
	name, arguments, summary, help string
	run                            func(*call) error
}

// call is one run of a command.
type call struct {
	context.Context
	flags          *pflag.FlagSet
	stdin          io.Reader
	stdout, stderr io.Writer
	log            *slog.Logger
	arguments      []string
	// unlock gives up the lock that the command holds; nil: none.
	unlock func()
}

// exitError carries an exit code other than 1. Its error may be nil.
type exitError struct {
	code int
	err  error
}

func (e exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e exitError) Unwrap() error { return e.err }

func commands() []command {
	return []command{
		checkCommand, compileCommand, keyCommand, planCommand, applyCommand, confirmCommand,
		rollbackCommand, statusCommand, agentCommand, repairCommand, bootCommand, downCommand, clientCommand, versionCommand,
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if len(args) == 0 || args[0] == "help" || args[0] == "-h" || args[0] == "--help" {
		usage(stdout)
		if len(args) == 0 {
			return exitUsage
		}
		return exitOK
	}
	for _, c := range commands() {
		if c.name == args[0] {
			return runCommand(ctx, c, args[1:], stdin, stdout, stderr)
		}
	}
	fmt.Fprintf(stderr, "mobula: found command %q, wanted one of those that 'mobula help' lists\n", args[0])
	return exitUsage
}

func runCommand(ctx context.Context, c command, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	one := &call{Context: ctx, stdin: stdin, stdout: stdout, stderr: stderr,
		log:   slog.New(slog.NewTextHandler(stderr, nil)),
		flags: pflag.NewFlagSet(c.name, pflag.ContinueOnError)}
	one.flags.SetOutput(stderr)
	one.flags.Usage = func() {
		fmt.Fprintf(stdout, "usage: mobula %s %s\n\n%s\n\n%s", c.name, c.arguments, c.help, one.flags.FlagUsages())
	}
	one.arguments = args
	err := c.run(one)
	var exit exitError
	switch {
	case err == nil, errors.Is(err, pflag.ErrHelp):
		return exitOK
	case errors.As(err, &exit):
		if exit.err != nil {
			fmt.Fprintf(stderr, "mobula %s: %v\n", c.name, exit.err)
		}
		return exit.code
	}
	fmt.Fprintf(stderr, "mobula %s: %v\n", c.name, err)
	return exitFailed
}

// parse reads the flags that the command has defined.
func (c *call) parse() error {
	words, err := c.parseWords()
	if err == nil && len(words) > 0 {
		err = exitError{exitUsage, fmt.Errorf("found argument %q, wanted flags only", words[0])}
	}
	return err
}

// parseWords is parse for commands that also take words.
func (c *call) parseWords() ([]string, error) {
	err := c.flags.Parse(c.arguments)
	if err != nil && !errors.Is(err, pflag.ErrHelp) {
		err = exitError{exitUsage, err}
	}
	return c.flags.Args(), err
}

func (c *call) printJSON(value any) error {
	encoder := json.NewEncoder(c.stdout)
	encoder.SetIndent("", "  ")
	return encoder.Encode(value)
}

func usage(w io.Writer) {
	fmt.Fprint(w, "usage: mobula COMMAND [flags]\n\n")
	for _, c := range commands() {
		fmt.Fprintf(w, "  %-9s %s\n", c.name, c.summary)
	}
	fmt.Fprint(w, `
'mobula COMMAND --help' tells more of each.

exit codes: 0 done, 1 failed with nothing left half done, 2 (plan only) there is
something to do, 64 wrong usage, 75 somebody else is changing this host.
`)
}

var versionCommand = command{
	name: "version", summary: "print the version of this program",
	help: `Prints what git calls the sources that it was built from, its ID, which follows from
its content and names its folder in ` + plan.ProgramDir + `, and the format of network
documents that it writes. It reads that one and the one before.`,
	run: func(c *call) error {
		asJSON := c.flags.Bool("json", false, "print JSON")
		if err := c.parse(); err != nil {
			return err
		}
		if *asJSON {
			return c.printJSON(map[string]any{"version": version, "id": c.ofHost().Self(), "document_format": documentFormat})
		}
		_, err := fmt.Fprintf(c.stdout, "mobula %s, ID %s, network document format %d\n", version, c.ofHost().Self(), documentFormat)
		return err
	},
}
