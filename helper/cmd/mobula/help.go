package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// exits are the exit codes that every command has.
var exits = []exit{
	{exitOK, "done"},
	{exitFailed, "failed, with nothing left half done"},
	{exitUsage, "wrong usage"},
}

// allExits are those of the command, in ascending order.
func (c command) allExits() []exit {
	all := append(append([]exit{}, exits[:2]...), c.exits...)
	for i, e := range all {
		if e.code > exitUsage {
			return append(all[:i:i], append([]exit{exits[2]}, all[i:]...)...)
		}
	}
	return append(all, exits[2])
}

func (c command) printHelp(w io.Writer, cmd *cobra.Command) {
	fmt.Fprintf(w, "usage: %s\n\n%s\n", cmd.UseLine(), c.help)
	if c.subcommands != nil {
		fmt.Fprint(w, "\ncommands:\n")
	}
	for _, sub := range c.subcommands {
		fmt.Fprintf(w, "  %-12s %s\n", sub.name, sub.summary)
	}
	_ = cmd.InheritedFlags() // which are among its flags from now on
	fmt.Fprintf(w, "\nflags:\n%s", cmd.Flags().FlagUsagesWrapped(100))
	fmt.Fprint(w, "\nexit codes:\n")
	for _, e := range c.allExits() {
		fmt.Fprintf(w, "  %2d  %s\n", e.code, e.meaning)
	}
	fmt.Fprint(w, "\nexample:\n")
	for _, line := range strings.Split(c.example, "\n") {
		fmt.Fprintf(w, "  %s\n", line)
	}
}

// usage is what 'mobula help' says.
func usage(w io.Writer) {
	fmt.Fprint(w, "usage: mobula COMMAND [flags]\n\n")
	for _, c := range commands() {
		if !c.hidden {
			fmt.Fprintf(w, "  %-10s %s\n", c.name, c.summary)
		}
	}
	fmt.Fprint(w, `
'mobula help COMMAND' tells more of each.

exit codes: 0 done, 1 failed with nothing left half done, 2 (plan only) there is
something to do, 64 wrong usage, 75 not now: somebody else is changing this host, or
(boot only) its NIC is not there yet.
`)
}

func helpCommand() command {
	var one *call
	return command{
		name: "help", arguments: "[COMMAND [SUBCOMMAND]]", words: 2, variadic: true, summary: "say what there is, or all about a command",
		help: "Says which commands there are, or what one does, with its flags, its exit codes and an\nexample. 'COMMAND --help' is the same.",
		example: `mobula help
mobula help client add`,
		define: func(c *call) func() error {
			one = c
			return func() error {
				about := c.cobra.Root()
				for _, word := range c.words {
					next := subcommand(about, word)
					if next == nil {
						return command{}.unknown(about, word)
					}
					about = next
				}
				return about.Help()
			}
		},
		complete: func(words []string) (names []string) {
			about := one.cobra.Root()
			for _, word := range words {
				if about = subcommand(about, word); about == nil {
					return nil
				}
			}
			for _, sub := range about.Commands() {
				if !sub.Hidden {
					names = append(names, sub.Name()+"\t"+sub.Short)
				}
			}
			return names
		},
	}
}

func subcommand(of *cobra.Command, name string) *cobra.Command {
	for _, sub := range of.Commands() {
		if sub.Name() == name {
			return sub
		}
	}
	return nil
}
