package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"mobula/helper/internal/spec"
)

func manCommand() command {
	return command{
		name: "man", hidden: true, summary: "print the manual page mobula(8)",
		help:    "Prints the manual page, made from what 'mobula help' says.",
		example: "mobula man | man -l -",
		define: func(c *call) func() error {
			return func() error {
				manual(c.stdout, c.cobra.Root())
				return nil
			}
		},
	}
}

// manFiles are those that the operator of a host may want to know.
var manFiles = []struct{ path, what string }{
	{spec.StateDir, "the confirmed network document, what waits for confirmation, and the host's keys"},
	{spec.RunDir, "what runs, until the next boot"},
	{spec.ProgramDir, "the versions of this program"},
	{spec.Helper, "leads to the version in force"},
}

// manual writes mobula(8) for man(7).
func manual(w io.Writer, all *cobra.Command) {
	fmt.Fprint(w, `.\" Made by 'mobula man'.
.TH MOBULA 8 "" Mobula "System Administration"
.SH NAME
mobula \- one host's part of an encrypted layer 2 network
.SH SYNOPSIS
.B mobula
.I COMMAND
.RI [ flags ]
.SH DESCRIPTION
`)
	text(w, `Builds and keeps one host's part of a Mobula network, a WireGuard full mesh with Open
vSwitch, and compiles the network document on the deployer. The playbooks run it; by
hand, 'mobula status' and 'mobula plan' are the ones to begin with.`)
	fmt.Fprintln(w, ".SH COMMANDS")
	for _, c := range commands() {
		if !c.hidden {
			c.manual(w, subcommand(all, c.name))
		}
	}
	fmt.Fprintln(w, ".SH EXIT STATUS")
	for _, e := range append(append([]exit{}, exits...), busyExit) {
		fmt.Fprintf(w, ".TP\n.B %d\n", e.code)
		text(w, e.meaning)
	}
	fmt.Fprintln(w, ".SH FILES")
	for _, f := range manFiles {
		fmt.Fprintf(w, ".TP\n.I %s\n", roff(f.path))
		text(w, f.what)
	}
	fmt.Fprint(w, ".SH SEE ALSO\n.BR wg (8),\n.BR ovs\\-vsctl (8),\n.BR nft (8),\n.BR ansible\\-playbook (1)\n")
}

// manual writes what there is to say of a command and those below it.
func (c command) manual(w io.Writer, cmd *cobra.Command) {
	fmt.Fprintf(w, ".SS %s\n", roff(cmd.UseLine()))
	text(w, c.help)
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		value, usage := pflag.UnquoteUsage(f)
		fmt.Fprintf(w, ".TP\n.B \\-\\-%s", roff(f.Name))
		if value != "" {
			fmt.Fprintf(w, " \\fI%s\\fR", roff(value))
		}
		fmt.Fprintln(w)
		if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "0" && f.DefValue != "[]" {
			usage += fmt.Sprintf(" (default: %s)", f.DefValue)
		}
		text(w, usage)
	})
	if len(c.exits) > 0 {
		fmt.Fprintln(w, ".PP\nExit status, besides those of all commands:")
	}
	for _, e := range c.exits {
		fmt.Fprintf(w, ".TP\n.B %d\n", e.code)
		text(w, e.meaning)
	}
	fmt.Fprintf(w, ".PP\nExample:\n.PP\n.nf\n.RS 4\n")
	for _, line := range strings.Split(c.example, "\n") {
		fmt.Fprintln(w, roff(line))
	}
	fmt.Fprint(w, ".RE\n.fi\n")
	for _, sub := range c.subcommands {
		sub.manual(w, subcommand(cmd, sub.name))
	}
}

// text writes paragraphs.
func text(w io.Writer, words string) {
	for i, paragraph := range strings.Split(words, "\n\n") {
		if i > 0 {
			fmt.Fprintln(w, ".PP")
		}
		fmt.Fprintln(w, roff(paragraph))
	}
}

// roff escapes what groff(7) would not print as it is.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`, "…", `...`, "'", `\(aq`).Replace(text)
	if strings.HasPrefix(text, ".") {
		text = `\&` + text
	}
	return strings.ReplaceAll(text, "\n.", "\n\\&.")
}
