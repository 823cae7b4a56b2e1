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
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"mobula/helper/internal/spec"
	"mobula/helper/internal/worker"
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

// call is one run of a command.
type call struct {
	context.Context
	cobra          *cobra.Command
	flags          *pflag.FlagSet // those to define
	stdin          io.Reader
	stdout, stderr io.Writer
	log            *slog.Logger
	choices        []choice
	words          []string // the arguments beside flags
	// transport is how URLs are read; nil: as programs do.
	transport http.RoundTripper
	// fetchTime is how long that may take; 0: maxFetchTime.
	fetchTime time.Duration
	// turn is that of a command that changes the host.
	turn worker.Turn
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
		checkCommand(), compileCommand(), keyCommand(), planCommand(), applyCommand(), confirmCommand(),
		rollbackCommand(), statusCommand(), agentCommand(), repairCommand(), bootCommand(), downCommand(), clientCommand(),
		versionCommand(), helpCommand(), completionCommand(), manCommand(),
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	log := slog.New(slog.NewTextHandler(stderr, nil))
	all := tree(call{Context: ctx, stdin: stdin, stdout: stdout, stderr: stderr, log: log, turn: worker.Turn{Log: log}})
	all.SetArgs(args)
	ran, err := all.ExecuteContextC(ctx)
	return failed(stderr, ran.CommandPath(), err)
}

// tree makes all commands for one run.
func tree(base call) *cobra.Command {
	all := &cobra.Command{Use: "mobula", SilenceErrors: true, SilenceUsage: true, SuggestionsMinimumDistance: 2,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		Args: func(cmd *cobra.Command, words []string) error {
			if len(words) > 0 {
				return command{}.unknown(cmd, words[0])
			}
			return nil
		},
		RunE: func(*cobra.Command, []string) error {
			usage(base.stdout)
			return exitError{code: exitUsage}
		}}
	all.SetIn(base.stdin)
	all.SetOut(base.stdout)
	all.SetErr(base.stderr)
	all.SetHelpFunc(func(*cobra.Command, []string) { usage(base.stdout) })
	all.SetFlagErrorFunc(flagError)
	for _, c := range commands() {
		if c.name == "help" { // which there would be another one of
			all.SetHelpCommand(c.build(base))
			continue
		}
		all.AddCommand(c.build(base))
	}
	all.InitDefaultHelpCmd() // the one that was set
	return all
}

// failed says why a command failed, and returns its exit code.
func failed(stderr io.Writer, name string, err error) int {
	var exit exitError
	var busy worker.Busy
	if errors.As(err, &busy) && !errors.As(err, &exit) {
		err = exitError{exitBusy, busy.Err}
	}
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &exit):
		if exit.err != nil {
			fmt.Fprintf(stderr, "%s: %v\n", name, exit.err)
		}
		if exit.err != nil && exit.code == exitUsage {
			about := strings.TrimPrefix(strings.TrimPrefix(name, "mobula"), " help")
			fmt.Fprintf(stderr, "'mobula help%s' tells more\n", about)
		}
		return exit.code
	}
	fmt.Fprintf(stderr, "%s: %v\n", name, err)
	return exitFailed
}

func (c *call) jsonFlag() *bool { return c.flags.Bool("json", false, "print JSON") }

func (c *call) printJSON(value any) error {
	encoder := json.NewEncoder(c.stdout)
	encoder.SetIndent("", "  ")
	return encoder.Encode(value)
}

// versionReport is what version prints as JSON.
type versionReport struct {
	DocumentFormat int    `json:"document_format"`
	ID             string `json:"id"`
	Version        string `json:"version"`
}

func versionCommand() command {
	return command{
		name: "version", arguments: "[--json]", summary: "print the version of this program",
		help: `Prints what git calls the sources that it was built from, its ID, which follows from
its content and names its folder in ` + spec.ProgramDir + `, and the format of network
documents that it writes. It reads that one and the one before.`,
		example: "mobula version --json",
		define: func(c *call) func() error {
			asJSON := c.jsonFlag()
			return func() error {
				r := versionReport{documentFormat, c.ofHost().Self(), version}
				if *asJSON {
					return c.printJSON(r)
				}
				_, err := fmt.Fprintf(c.stdout, "mobula %s, ID %s, network document format %d\n", r.Version, r.ID, r.DocumentFormat)
				return err
			}
		},
	}
}
