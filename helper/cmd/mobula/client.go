package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strings"

	"mobula/helper/internal/client"
	"mobula/helper/internal/inventory"
	"mobula/helper/internal/network"
	"mobula/helper/internal/wireguard"
)

// clientTask is one run of the command.
type clientTask struct {
	*call
	document, file, dir string
	entries             []string
	public              network.Key
	qr, png             bool
	json                *bool
}

// made is what add and rotate report.
type made struct {
	Name      string   `json:"name"`
	Address   string   `json:"address"`
	PublicKey string   `json:"public_key"`
	Files     []string `json:"files"`
}

// deployed reads the document of the last deploy.
func (t *clientTask) deployed() (*network.Document, error) {
	d, err := t.readDocument(source{path: t.document})
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%s: found no such file, wanted the network document that a deploy leaves on this machine; deploy first", t.document)
	}
	return d, err
}

func (t *clientTask) add(name string) error {
	d, err := t.deployed()
	if err != nil {
		return err
	}
	full := name
	if !strings.Contains(name, ".") {
		full = name + "." + client.Domain(d)
	}
	if !network.IsFQDN(full) {
		return exitError{exitUsage, fmt.Errorf("name: found %q, wanted one such as laptop or laptop.example.com", name)}
	}
	defer t.lock()()
	clients, err := inventory.Clients(t.file, d)
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
	return t.give(d, one, network.Client{}, clients)
}

func (t *clientTask) rotate(name string) error {
	d, err := t.deployed()
	if err != nil {
		return err
	}
	defer t.lock()()
	clients, err := inventory.Clients(t.file, d)
	if err != nil {
		return err
	}
	old, err := t.find(clients, name)
	if err != nil {
		return err
	}
	others := slices.DeleteFunc(clients, func(c network.Client) bool { return c.Address == old.Address })
	return t.give(d, old, old, others)
}

// give writes configurations of a client with a new key, and then the file that makes it
// count. old is what the client was, zero for a new one.
func (t *clientTask) give(d *network.Document, one, old network.Client, others []network.Client) error {
	short, _, _ := strings.Cut(label(one), ".")
	if err := client.CheckName(short); err != nil {
		return exitError{exitUsage, fmt.Errorf("name: %w", err)}
	}
	hosts, err := client.Entries(d, t.entries)
	if err != nil {
		return err
	}
	private, public, err := t.keys()
	if err != nil {
		return err
	}
	one.PublicKey = public
	if err := fits(d, append(others, one)); err != nil {
		return err
	}
	text, err := t.edited(one, old)
	if err != nil {
		return err
	}
	files := clientFiles{t.dir, short, one.Address}
	report := made{Name: label(one), Address: one.Address.String(), PublicKey: one.PublicKey.String()}
	changes := map[string][]byte{}
	for i, h := range hosts {
		path := files.config(i + 1)
		changes[path] = []byte(client.Config(d, label(one), one, private, h))
		report.Files = append(report.Files, path)
	}
	var code *client.QR
	if t.qr || t.png {
		if code, err = client.NewQR(string(changes[files.config(1)])); err != nil {
			return err
		}
	}
	if t.png {
		changes[files.picture()] = code.PNG()
		report.Files = append(report.Files, files.picture())
	}
	inForce := !old.PublicKey.IsZero() && slices.ContainsFunc(d.Clients, func(c network.Client) bool {
		return c.Address == old.Address && c.PublicKey == old.PublicKey
	})
	if err := files.retire(changes, inForce); err != nil {
		return err
	}
	if err := t.write(changes, text); err != nil {
		return err
	}
	if t.qr {
		fmt.Fprint(t.stdout, code.Text(isTerminal(t.stdout)))
	}
	say := fmt.Sprintf("%s has %s: %s\nIt gets in after the next deploy", label(one), one.Address, strings.Join(report.Files, ", "))
	if kept := files.config(1) + oldSuffix; changes[kept] != nil {
		say += ", until then with " + kept
	}
	return t.say(report, say+".")
}

// keys are new ones, or the public one that was given.
func (t *clientTask) keys() (private, public network.Key, err error) {
	if !t.public.IsZero() {
		return private, t.public, nil
	}
	private, err = wireguard.GenerateKey()
	return private, wireguard.PublicKey(private), err
}

// fits tells why a network cannot have clients, of which one is new and the others
// are known to fit.
func fits(d *network.Document, clients []network.Client) error {
	var all []error
	for _, p := range inventory.WithClients(d, clients).Validate() {
		all = append(all, p)
	}
	return errors.Join(all...)
}

// edited returns the file with a client that is new, or has another key.
func (t *clientTask) edited(one, old network.Client) ([]byte, error) {
	text, err := os.ReadFile(t.file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if old.PublicKey.IsZero() {
		return inventory.AddClient(t.file, text, one)
	}
	return inventory.ReplaceClientKey(t.file, text, one.Address, one.PublicKey)
}

// find returns the client with a name, full or short, or an address.
func (t *clientTask) find(clients []network.Client, name string) (network.Client, error) {
	address, _ := netip.ParseAddr(strings.TrimSuffix(name, "/32"))
	var found []network.Client
	for _, c := range clients {
		short, _, _ := strings.Cut(label(c), ".")
		if strings.EqualFold(c.Name, name) || strings.EqualFold(short, name) || c.Address == address {
			found = append(found, c)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return network.Client{}, fmt.Errorf("%s: found no client %q; 'mobula client list' shows all", t.file, name)
	}
	return network.Client{}, fmt.Errorf("%s: found %d clients %q, wanted the full name or the address of one", t.file, len(found), name)
}

// label is what a client is called, also one that was written by hand without a name.
func label(c network.Client) string {
	if c.Name != "" {
		return c.Name
	}
	a := c.Address.As4()
	return fmt.Sprintf("wire-%d-%d", a[2], a[3])
}

func (t *clientTask) remove(name string) error {
	defer t.lock()()
	clients, err := inventory.Clients(t.file, nil)
	if err != nil {
		return err
	}
	one, err := t.find(clients, name)
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
	short, _, _ := strings.Cut(label(one), ".")
	report := made{label(one), one.Address.String(), one.PublicKey.String(), []string{}}
	changes := map[string][]byte{}
	for path := range (clientFiles{t.dir, short, one.Address}).own() {
		changes[path] = nil
		report.Files = append(report.Files, path)
	}
	slices.Sort(report.Files)
	if err := t.write(changes, text); err != nil {
		return err
	}
	return t.say(report, fmt.Sprintf("%s (%s) is out, and so are %d files of its own.\nIt gets in until the next deploy.", label(one), one.Address, len(report.Files)))
}

func (t *clientTask) say(report made, text string) error {
	if *t.json {
		return t.printJSON(report)
	}
	_, err := fmt.Fprintln(t.stdout, text)
	return err
}

func (t *clientTask) list() error {
	clients, err := inventory.Clients(t.file, nil)
	if err != nil {
		return err
	}
	if *t.json {
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
