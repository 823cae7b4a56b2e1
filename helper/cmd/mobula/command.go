package main

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// command is one command, and all that help, completion and mobula(8) say of it.
type command struct {
	// name and arguments are the usage; arguments may be empty.
	name, arguments string
	summary, help   string
	// example has a command a line.
	example string
	// exits are its exit codes beside those that all commands have.
	exits []exit
	// words is how many arguments it takes beside flags; variadic: that many at most.
	words    int
	variadic bool
	// needsRoot has it refused for other users.
	needsRoot, hidden bool
	// define defines the flags, and returns what runs with them; nil: nothing does, but
	// the subcommands.
	define func(*call) func() error
	// complete returns what the argument after these may be, "VALUE" or
	// "VALUE\tDESCRIPTION"; nil: nothing is known.
	complete    func(words []string) []string
	subcommands []command
}

// exit is an exit code and what it means.
type exit struct {
	code    int
	meaning string
}

var busyExit = exit{exitBusy, "not now: somebody else is changing this host; try again later"}

// build makes the command out of what the table says, for one run.
func (c command) build(base call) *cobra.Command {
	one := &base
	cmd := &cobra.Command{Use: strings.TrimSpace(c.name + " " + c.arguments), Short: c.summary, Hidden: c.hidden, DisableFlagsInUseLine: true,
		SuggestionsMinimumDistance: 2, Args: c.checkWords, ValidArgsFunction: c.completeWords}
	one.cobra, one.flags = cmd, cmd.Flags()
	if c.subcommands != nil {
		one.flags = cmd.PersistentFlags()
	}
	cmd.SetHelpFunc(func(cmd *cobra.Command, _ []string) { c.printHelp(one.stdout, cmd) })
	cmd.Flags().BoolP("help", "h", false, "say this")
	run := c.define(one)
	cmd.RunE = func(_ *cobra.Command, words []string) error {
		if run == nil {
			return c.unknown(cmd, "")
		}
		if c.name != agentName { // what ends within seconds need not be tidy
			debug.SetGCPercent(400)
		}
		if err := one.chosen(); err != nil {
			return exitError{exitUsage, err}
		}
		if c.needsRoot {
			if err := root(); err != nil {
				return err
			}
		}
		one.words = words
		return run()
	}
	one.flags.VisitAll(func(f *pflag.Flag) { // what is no file's name is not completed with one
		if _, offered := cmd.GetFlagCompletionFunc(f.Name); !offered && f.Annotations == nil && f.NoOptDefVal == "" {
			one.offer(f.Name, func() []string { return nil })
		}
	})
	for _, sub := range c.subcommands {
		cmd.AddCommand(sub.build(base))
	}
	return cmd
}

// root refuses to go on without the privileges that the kernel will ask for.
func root() error {
	if id := os.Geteuid(); id != 0 {
		return fmt.Errorf("found user ID %d, wanted root (0): network namespaces, interfaces and WireGuard need it; run it with sudo", id)
	}
	return nil
}

// checkWords refuses arguments that are too many or too few.
func (c command) checkWords(cmd *cobra.Command, words []string) error {
	switch {
	case c.subcommands != nil && len(words) > 0:
		return c.unknown(cmd, words[0])
	case c.words == 0 && len(words) > 0:
		return exitError{exitUsage, fmt.Errorf("found argument %q, wanted flags only", words[0])}
	case len(words) > c.words:
		return exitError{exitUsage, fmt.Errorf("found argument %q, wanted %s alone", words[c.words], c.arguments)}
	case len(words) < c.words && !c.variadic:
		return exitError{exitUsage, fmt.Errorf("found %d arguments, wanted %s", len(words), c.arguments)}
	}
	return nil
}

// unknown is the error for a command that is none of those below this one.
func (c command) unknown(cmd *cobra.Command, word string) error {
	var names []string
	for _, sub := range cmd.Commands() {
		if !sub.Hidden {
			names = append(names, sub.Name())
		}
	}
	text := fmt.Sprintf("found command %q, wanted one of %s", word, strings.Join(names, ", "))
	if word == "" {
		text = fmt.Sprintf("found no command, wanted one of %s", strings.Join(names, ", "))
	} else if like := cmd.SuggestionsFor(word); len(like) > 0 {
		text += fmt.Sprintf("; did you mean %s?", strings.Join(like, " or "))
	}
	return exitError{exitUsage, errors.New(text)}
}

// flagError says what is wrong with a flag in the words of all other errors.
func flagError(cmd *cobra.Command, err error) error {
	var value *pflag.InvalidValueError
	var missing *pflag.ValueRequiredError
	switch {
	case errors.As(err, &value):
		err = fmt.Errorf("--%s: found %q, wanted %s", value.GetFlag().Name, value.GetValue(), wantedOf(value.GetFlag()))
	case errors.As(err, &missing):
		err = fmt.Errorf("--%s: found no value, wanted %s", missing.GetFlag().Name, wantedOf(missing.GetFlag()))
	}
	return exitError{exitUsage, err}
}

// wantedOf is what a flag takes.
func wantedOf(f *pflag.Flag) string {
	switch f.Value.Type() {
	case "duration":
		return "a duration such as 120s or 3m"
	case "uint16", "int":
		return "a whole number, 65535 at most"
	case "bool":
		return "true or false"
	}
	return "a text"
}
