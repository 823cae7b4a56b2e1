package main

import (
	"errors"
	"fmt"

	"mobula/helper/internal/network"
)

func clientCommand() command {
	t := &clientTask{}
	return command{
		name: "client", arguments: "add NAME | list | rotate NAME | remove NAME",
		summary: "administrators' WireGuard clients (on the deployer)",
		help: `add makes a client, rotate gives it another key, remove takes it out, list shows all.
All of them count with the next deploy. NAME is a name such as laptop, which gets the
domain of the hosts, or a full one such as laptop.example.com. It resolves inside the
network. Instead of the name of a client that there is, its address does.`,
		example: "mobula client add laptop\nmobula client add phone --qr\nmobula client list",
		define: func(c *call) func() error {
			c.flags.StringVar(&t.document, "network", ".build/network.json", "`FILE` with the network document of the last deploy")
			c.flags.StringVar(&t.file, "extra-wires", "extra_wires.yml", "`FILE` with administrators' WireGuard clients")
			c.flags.StringVar(&t.dir, "dir", "clients", "`FOLDER` that configurations go to, which hold private keys")
			t.json = c.jsonFlag()
			c.file("json", "network")
			c.file("yml", "extra-wires")
			c.folder("dir")
			return nil
		},
		subcommands: []command{
			{
				name: "add", arguments: "NAME", words: 1, summary: "make a client: a key pair, an address and configurations",
				help: `Makes a key pair, picks a free address, writes the public half into --extra-wires and
a configuration into --dir, which wg-quick and WireGuard's apps take: NAME.conf, and
NAME-2.conf and so on for further hosts to come in by. Comments and order in the file
stay, and no file is overwritten. Deploy then.`,
				example: "mobula client add laptop\nmobula client add phone --qr",
				define:  t.withKey(t.add),
			},
			{
				name: "list", summary: "show all clients",
				help:    "Shows address, name and public key of all clients, also of those written by hand.",
				example: "mobula client list --json",
				define: func(c *call) func() error {
					return func() error { t.call = c; return t.list() }
				},
			},
			{
				name: "rotate", arguments: "NAME", words: 1, summary: "give a client another key",
				help: `Gives a client another key and configurations with it. What it has worked with until
then stays as NAME.conf.old, with which it gets in until the next deploy.`,
				example:  "mobula client rotate laptop",
				define:   t.withKey(t.rotate),
				complete: t.known,
			},
			{
				name: "remove", arguments: "NAME", words: 1, summary: "take a client out, with its files",
				help:    "Takes a client out of --extra-wires, and its files away. It gets in until the next deploy.",
				example: "mobula client remove laptop",
				define: func(c *call) func() error {
					return func() error { t.call = c; return t.remove(c.words[0]) }
				},
				complete: t.known,
			},
		},
	}
}

// known are the clients that there are, to complete.
func (t *clientTask) known([]string) []string { return clientsIn(t.file) }

// withKey defines the flags of what makes a key.
func (t *clientTask) withKey(task func(string) error) func(*call) func() error {
	return func(c *call) func() error {
		var publicKey string
		var qr, png bool
		var entries []string
		c.flags.StringArrayVar(&entries, "entry", nil, "a `HOST` to come in by, may be repeated (default: the first three that have an endpoint)")
		c.flags.StringVar(&publicKey, "public-key", "", "the client's own public `KEY`; its private key stays where it is")
		c.flags.BoolVar(&qr, "qr", false, "show the first configuration as a QR code")
		c.flags.BoolVar(&png, "png", false, "write it as a picture, too")
		c.offer("entry", func() []string { // by hostname
			return c.hostsIn(t.document, func(h network.Host) string { return h.Hostname + "\t" + h.Name })
		})
		return func() (err error) {
			t.call, t.entries, t.qr, t.png = c, entries, qr, png
			if publicKey != "" {
				if t.public, err = network.ParseKey(publicKey); err != nil {
					return exitError{exitUsage, fmt.Errorf("--public-key: found %q, %w, wanted a WireGuard public key (32 bytes of base64)", publicKey, err)}
				}
			}
			if publicKey != "" && (qr || png) {
				return exitError{exitUsage, errors.New("found --public-key with --qr or --png, wanted one of them: a code without the private key is of no use")}
			}
			if qr && *t.json {
				return exitError{exitUsage, errors.New("found --qr with --json, wanted one of them, or --png: a code to look at is no JSON")}
			}
			return task(c.words[0])
		}
	}
}
