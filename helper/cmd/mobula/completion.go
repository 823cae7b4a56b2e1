package main

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"mobula/helper/internal/inventory"
	"mobula/helper/internal/network"
)

func completionCommand() command {
	shells := []string{"bash", "zsh", "fish"}
	return command{
		name: "completion", arguments: "bash|zsh|fish", words: 1, summary: "print what completes mobula's commands in a shell",
		help: `Prints a script for the shell, which then completes commands, flags, files, hosts and
clients. What there is to complete it asks the program, so the script fits all
versions. That for bash needs the package bash-completion.`,
		example: `mobula completion bash >/etc/bash_completion.d/mobula
mobula completion zsh >/usr/local/share/zsh/site-functions/_mobula
mobula completion fish >/etc/fish/vendor_completions.d/mobula.fish`,
		complete: func(words []string) []string {
			if len(words) > 0 {
				return nil
			}
			return shells
		},
		define: func(c *call) func() error {
			return func() error {
				all := c.cobra.Root()
				switch shell := c.words[0]; shell {
				case "bash":
					return all.GenBashCompletionV2(c.stdout, true)
				case "zsh":
					return all.GenZshCompletion(c.stdout)
				case "fish":
					return all.GenFishCompletion(c.stdout, true)
				default:
					return exitError{exitUsage, fmt.Errorf("found shell %q, wanted bash, zsh or fish", shell)}
				}
			}
		},
	}
}

// completeWords completes an argument.
func (c command) completeWords(_ *cobra.Command, words []string, _ string) ([]string, cobra.ShellCompDirective) {
	if c.complete == nil || len(words) >= c.words {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return c.complete(words), cobra.ShellCompDirectiveNoFileComp
}

// offer has these completed as the value of a flag.
func (c *call) offer(flag string, values func() []string) {
	if err := c.cobra.RegisterFlagCompletionFunc(flag, func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return values(), cobra.ShellCompDirectiveNoFileComp
	}); err != nil {
		panic(err) // there is no such flag, or it is offered twice
	}
}

// choice has one of these offered and taken, or nothing.
func (c *call) choice(flag string, values ...string) {
	c.offer(flag, func() []string { return values })
	c.choices = append(c.choices, choice{flag, values})
}

// choice is a flag that takes one of these values, or an empty one.
type choice struct {
	flag   string
	values []string
}

// chosen refuses values that are none of those to choose from.
func (c *call) chosen() error {
	var all []error
	for _, one := range c.choices {
		if value := c.flags.Lookup(one.flag).Value.String(); value != "" && !slices.Contains(one.values, value) {
			all = append(all, fmt.Errorf("--%s: found %q, wanted %s", one.flag, value, strings.Join(one.values, " or ")))
		}
	}
	return errors.Join(all...)
}

// file has names of files completed as the value of flags, of those with the extension;
// "": of all.
func (c *call) file(extension string, flags ...string) {
	var extensions []string
	if extension != "" {
		extensions = append(extensions, extension)
	}
	for _, f := range flags {
		if err := cobra.MarkFlagFilename(c.flags, f, extensions...); err != nil {
			panic(err)
		}
	}
}

// folder is file for names of folders.
func (c *call) folder(flag string) {
	if err := cobra.MarkFlagDirname(c.flags, flag); err != nil {
		panic(err)
	}
}

// interfaces are the names of the host's, to complete.
func interfaces() (names []string) {
	all, _ := net.Interfaces()
	for _, i := range all {
		if i.Flags&net.FlagLoopback == 0 {
			names = append(names, i.Name)
		}
	}
	return names
}

// hostsIn lists the hosts of a document, to complete; one that cannot be read has none.
func (c *call) hostsIn(path string, say func(network.Host) string) (all []string) {
	if path == "" || path == "-" || isURL(path) {
		return nil
	}
	document, err := c.readDocument(source{path: path})
	if err != nil {
		return nil
	}
	for _, h := range document.Hosts {
		all = append(all, say(h))
	}
	return all
}

// clientsIn lists the clients of a file, to complete.
func clientsIn(path string) (all []string) {
	clients, _ := inventory.Clients(path, nil)
	for _, c := range clients {
		all = append(all, label(c)+"\t"+c.Address.String())
	}
	return all
}
