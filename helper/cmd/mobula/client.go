package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"mobula/helper/internal/client"
	"mobula/helper/internal/inventory"
	"mobula/helper/internal/network"
	"mobula/helper/internal/store"
	"mobula/helper/internal/wireguard"
)

var clientCommand = command{
	name: "client", arguments: "add NAME | list | rotate NAME | remove NAME",
	summary: "administrators' WireGuard clients (on the deployer)",
	help: `add makes a key pair, picks a free address, writes the public half into
--extra-wires and a configuration into --dir, which wg-quick and WireGuard's apps
take: NAME.conf, and NAME-2.conf and so on for further hosts to come in by. Comments
and order in the file stay. rotate gives a client another key, remove takes it out,
list shows all. All of them count with the next deploy.
NAME is a name such as laptop, which gets the domain of the hosts, or a full one
such as laptop.example.com. It resolves inside the network.`,
	run: func(c *call) error {
		t := clientTask{call: c}
		c.flags.StringVar(&t.document, "network", ".build/network.json", "the network document of the last deploy")
		c.flags.StringVar(&t.file, "extra-wires", "extra_wires.yml", "administrators' WireGuard clients")
		c.flags.StringVar(&t.dir, "dir", "clients", "where configurations go, which hold private keys")
		c.flags.StringArrayVar(&t.entries, "entry", nil, "a host to come in by, may be repeated (default: the first three)")
		publicKey := c.flags.String("public-key", "", "with add and rotate: the client's own public key; its private key stays where it is")
		c.flags.BoolVar(&t.qr, "qr", false, "with add and rotate: show the first configuration as a QR code")
		c.flags.BoolVar(&t.png, "png", false, "with add and rotate: write it as a picture, too")
		c.flags.BoolVar(&t.json, "json", false, "print JSON")
		words, err := c.parseWords()
		if err != nil {
			return err
		}
		if *publicKey != "" {
			if t.public, err = network.ParseKey(*publicKey); err != nil {
				return exitError{exitUsage, fmt.Errorf("--public-key: found %q, %w, wanted a WireGuard public key (32 bytes of base64)", *publicKey, err)}
			}
		}
		if *publicKey != "" && (t.qr || t.png) {
			return exitError{exitUsage, errors.New("found --public-key with --qr or --png, wanted one of them: a code without the private key is of no use")}
		}
		tasks := map[string]func(string) error{"add": t.add, "rotate": t.rotate, "remove": t.remove}
		switch {
		case len(words) == 1 && words[0] == "list":
			return t.list()
		case len(words) == 2 && tasks[words[0]] != nil:
			return tasks[words[0]](words[1])
		}
		return exitError{exitUsage, fmt.Errorf("found argument %q, wanted add NAME, list, rotate NAME or remove NAME", strings.Join(words, " "))}
	},
}

// clientTask is one run of the command.
type clientTask struct {
	*call
	document, file, dir string
	entries             []string
	public              network.Key
	qr, png, json       bool
}

// made is what add and rotate report.
type made struct {
	Name      string   `json:"name"`
	Address   string   `json:"address"`
	PublicKey string   `json:"public_key"`
	Files     []string `json:"files"`
}

func (t *clientTask) add(name string) error {
	d, err := t.readDocument(t.document)
	if err != nil {
		return fmt.Errorf("%w; deploy once before the first client", err)
	}
	full := name
	if !strings.Contains(name, ".") {
		full = name + "." + client.Domain(d)
	}
	if !network.IsFQDN(full) {
		return exitError{exitUsage, fmt.Errorf("name: found %q, wanted one such as laptop or laptop.example.com", name)}
	}
	clients, err := inventory.Clients(t.file)
	if err != nil {
		return err
	}
	for _, c := range clients {
		if strings.EqualFold(c.Name, full) {
			return fmt.Errorf("%s: found %s already, at %s; 'mobula client rotate' gives it another key", t.file, full, c.Address)
		}
	}
	one := network.Client{Name: full}
	if one.Address, err = client.FreeAddress(d.Ranges, clients); err != nil {
		return err
	}
	return t.give(d, one, func(text []byte, c network.Client) ([]byte, error) { return inventory.AddClient(t.file, text, c) })
}

func (t *clientTask) rotate(name string) error {
	d, err := t.readDocument(t.document)
	if err != nil {
		return err
	}
	one, err := t.find(name)
	if err != nil {
		return err
	}
	return t.give(d, one, func(text []byte, c network.Client) ([]byte, error) {
		return inventory.ReplaceClientKey(t.file, text, c.Address, c.PublicKey)
	})
}

// give writes configurations with a new key, and then the file that makes it count.
func (t *clientTask) give(d *network.Document, one network.Client, edit func([]byte, network.Client) ([]byte, error)) error {
	short, _, _ := strings.Cut(one.Name, ".")
	if err := client.CheckName(short); err != nil {
		return exitError{exitUsage, fmt.Errorf("name: %w", err)}
	}
	hosts, err := client.Entries(d, t.entries)
	if err != nil {
		return err
	}
	private := network.Key{}
	if one.PublicKey = t.public; t.public.IsZero() {
		if private, err = wireguard.GenerateKey(); err != nil {
			return err
		}
		one.PublicKey = wireguard.PublicKey(private)
	}
	old, err := os.ReadFile(t.file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	text, err := edit(old, one)
	if err != nil {
		return err
	}
	files, first := map[string][]byte{}, ""
	report := made{one.Name, one.Address.String(), one.PublicKey.String(), nil}
	for i, h := range hosts {
		path := filepath.Join(t.dir, short+".conf")
		if i > 0 {
			path = filepath.Join(t.dir, fmt.Sprintf("%s-%d.conf", short, i+1))
		}
		config := client.Config(d, one, private, h)
		if i == 0 {
			first = config
		}
		files[path] = []byte(config)
		report.Files = append(report.Files, path)
	}
	var code *client.QR
	if t.qr || t.png {
		if code, err = client.NewQR(first); err != nil {
			return err
		}
	}
	if t.png {
		path := filepath.Join(t.dir, short+".png")
		files[path] = code.PNG()
		report.Files = append(report.Files, path)
	}
	if err := t.write(files, text); err != nil {
		return err
	}
	if t.qr {
		fmt.Fprint(t.stdout, code.Text())
	}
	return t.say(report, fmt.Sprintf("%s has %s: %s\nIt gets in after the next deploy.", one.Name, one.Address, strings.Join(report.Files, ", ")))
}

// write replaces all files or none: without the last one the keys are worth nothing.
func (t *clientTask) write(files map[string][]byte, text []byte) (err error) {
	if err := os.MkdirAll(t.dir, 0o700); err != nil {
		return err
	}
	before := map[string][]byte{}
	for path := range files {
		if data, err := os.ReadFile(path); err == nil {
			before[path] = data
		}
	}
	defer func() {
		if err == nil {
			return
		}
		for path := range files {
			if data, was := before[path]; was {
				err = errors.Join(err, store.WriteFile(path, data, 0o600))
			} else {
				_ = os.Remove(path) // it may not have come to it
			}
		}
	}()
	for path, data := range files {
		if err := store.WriteFile(path, data, 0o600); err != nil {
			return err
		}
	}
	return t.writeClients(text)
}

func (t *clientTask) writeClients(text []byte) error {
	mode := fs.FileMode(0o644)
	if info, err := os.Stat(t.file); err == nil {
		mode = info.Mode().Perm()
	}
	return store.WriteFile(t.file, text, mode)
}

// find returns the client with a name, full or short, or an address.
func (t *clientTask) find(name string) (network.Client, error) {
	clients, err := inventory.Clients(t.file)
	if err != nil {
		return network.Client{}, err
	}
	address, _ := netip.ParseAddr(strings.TrimSuffix(name, "/32"))
	var found []network.Client
	for _, c := range clients {
		short, _, _ := strings.Cut(c.Name, ".")
		if strings.EqualFold(c.Name, name) || strings.EqualFold(short, name) && c.Name != "" || c.Address == address {
			found = append(found, c)
		}
	}
	switch len(found) {
	case 1:
		if found[0].Name == "" { // written by hand
			a := found[0].Address.As4()
			found[0].Name = fmt.Sprintf("wire-%d-%d", a[2], a[3])
		}
		return found[0], nil
	case 0:
		return network.Client{}, fmt.Errorf("%s: found no client %q; 'mobula client list' shows all", t.file, name)
	}
	return network.Client{}, fmt.Errorf("%s: found %d clients %q, wanted the full name or the address of one", t.file, len(found), name)
}

func (t *clientTask) remove(name string) error {
	one, err := t.find(name)
	if err != nil {
		return err
	}
	old, err := os.ReadFile(t.file)
	if err != nil {
		return err
	}
	text, err := inventory.RemoveClient(t.file, old, one.Address)
	if err != nil {
		return err
	}
	if err := t.writeClients(text); err != nil {
		return err
	}
	short, _, _ := strings.Cut(one.Name, ".")
	report := made{one.Name, one.Address.String(), one.PublicKey.String(), []string{}}
	for _, pattern := range []string{short + ".conf", short + "-[2-9].conf", short + ".png"} {
		paths, _ := filepath.Glob(filepath.Join(t.dir, pattern))
		for _, path := range paths {
			if err := os.Remove(path); err != nil {
				return err
			}
			report.Files = append(report.Files, path)
		}
	}
	return t.say(report, fmt.Sprintf("%s (%s) is out, and so are %d files of its own.\nIt gets in until the next deploy.", one.Name, one.Address, len(report.Files)))
}

func (t *clientTask) say(report made, text string) error {
	if t.json {
		return t.printJSON(report)
	}
	_, err := fmt.Fprintln(t.stdout, text)
	return err
}

func (t *clientTask) list() error {
	clients, err := inventory.Clients(t.file)
	if err != nil {
		return err
	}
	if t.json {
		return t.printJSON(append([]network.Client{}, clients...))
	}
	for _, c := range clients {
		name := c.Name
		if name == "" {
			name = "-"
		}
		fmt.Fprintf(t.stdout, "%-16s %-32s %s\n", c.Address, name, c.PublicKey)
	}
	return nil
}
