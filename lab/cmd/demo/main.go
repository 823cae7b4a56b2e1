// Command demo builds the lab, deploys Mobula to it with the playbook that users
// run, and shows how long a packet takes on every path.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"mobula/lab"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := demo(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func demo(ctx context.Context) error {
	began := time.Now()
	say("Three machines: bare Debian 12, nothing but SSH, Python and packages on them. The NICs of alice and bob move (uplink_mode: moved), carol keeps hers.")
	l, err := lab.Up(ctx, lab.Options{Replace: true})
	if err != nil {
		return err
	}
	root, err := os.Getwd()
	if err != nil {
		return err
	}
	dir := filepath.Join(root, ".lab", "operator")
	if err := lab.CopyProject(ctx, root, dir); err != nil {
		return err
	}
	client, err := l.NewClient(ctx, 0)
	if err != nil {
		return err
	}
	if err := writeInput(l, client, dir); err != nil {
		return err
	}
	for _, run := range []string{"The operator deploys:", "The operator deploys again; nothing changes:"} {
		say("%s ansible-playbook -i hosts.yml deploy.yml", run)
		if err := show(ctx, l, dir, "ansible-playbook", "-i", "hosts.yml", "deploy.yml"); err != nil {
			return err
		}
	}
	say("Every pair on every path, round trips in milliseconds:")
	if err := measureAll(ctx, l, client); err != nil {
		return err
	}
	fmt.Printf(`
It took %.0f s. The lab keeps running; look around:

  make lab-ssh HOST=alice                 a shell on alice; then: mobula status, mobula plan, mobula help
  go run ./lab/cmd/lab deployer ping -c 3 192.0.2.1
  cd %s                                   the operator's folder: edit hosts.yml, then
  go run ./lab/cmd/lab deployer ansible-playbook -i hosts.yml deploy.yml --check --diff
  make lab-down                           the end
`, time.Since(began).Seconds(), dir)
	return nil
}

func say(format string, args ...any) { fmt.Printf("\n== "+format+"\n\n", args...) }

// writeInput writes the operator's files. Carol keeps her NIC, as new hosts do.
func writeInput(l *lab.Lab, client *lab.Client, dir string) error {
	inventory := l.Inventory()
	for _, name := range []string{"alice", "bob"} {
		entry := "hostname: '" + name + ".example.com'\n"
		inventory = strings.Replace(inventory, entry, entry+"      uplink_mode: moved\n", 1)
	}
	for name, content := range map[string]string{
		"hosts.yml":       inventory,
		"extra_hosts.yml": "extra_hosts:\n  10.31.0.254: 'nas.example.com'\n",
		"extra_wires.yml": fmt.Sprintf("extra_wires:\n  10.30.128.1/32: '%s'\n", client.PublicKey),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func show(ctx context.Context, l *lab.Lab, dir, name string, args ...string) error {
	cmd := l.DeployerCommand(ctx, dir, nil, name, args...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd.Run()
}

// paths are the columns of the table, each with a shell function that prints the
// round trip to host $1 in milliseconds, or nothing.
var paths = []string{"access", "gateway", "intrawire", "VLAN", "DNS", "extrawire"}

const rtt = `rtt() { ping -q -c 5 -i 0.2 -W 3 "$@" | sed -n 's#^rtt [^=]*= [^/]*/\([^/]*\)/.*#\1#p'; }
`

func measureAll(ctx context.Context, l *lab.Lab, client *lab.Client) error {
	err := l.EachHost(func(h *lab.Host) error {
		_, err := h.Run(ctx, fmt.Sprintf("ip link add link veth_fac0 name lab.7 type vlan id 7; ip addr add 172.31.7.%d/24 dev lab.7; ip link set lab.7 up", h.ID%256+1))
		return err
	})
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "FROM\tTO\t"+strings.ToUpper(strings.Join(paths, "\t")))
	failed := 0
	for _, from := range l.Hosts {
		if err := client.Connect(ctx, "10.30.128.1", publicKey(ctx, from), from.Address+":51820"); err != nil {
			return err
		}
		for _, to := range l.Hosts {
			if from == to {
				continue
			}
			cells := measurePair(ctx, client, from, to)
			for i := range cells {
				if cells[i] == "" {
					cells[i] = "FAILED"
					failed++
				}
			}
			fmt.Fprintf(table, "%s\t%s\t%s\n", from.Name, to.Name, strings.Join(cells, "\t"))
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if failed > 0 {
		return fmt.Errorf("%d paths failed", failed)
	}
	return nil
}

func publicKey(ctx context.Context, h *lab.Host) string {
	key, _ := h.Run(ctx, "mobula key")
	return strings.TrimSpace(key)
}

// measurePair returns a cell for each path; extrawire is the administrator's
// client, through from.
func measurePair(ctx context.Context, client *lab.Client, from, to *lab.Host) []string {
	out, _ := from.Run(ctx, "set +e\n"+rtt+fmt.Sprintf(`
echo "access $(rtt %[1]s)"; echo "gateway $(rtt %[2]s)"; echo "intrawire $(rtt %[3]s)"
echo "VLAN $(rtt -M do -s 1358 172.31.7.%[4]d)"
echo "DNS $(dig +time=3 @%[2]s %[5]s | awk -v ok=0 '$1 == "%[5]s." && $5 == "%[1]s" {ok=1} /Query time/ && ok {print $4}')"`,
		to.AccessAddress(), to.GatewayAddress(), to.IntrawireAddress(), to.ID%256+1, to.FQDN()))
	wire, _ := client.Run(ctx, "bash", "-c", rtt+"echo extrawire $(rtt "+to.IntrawireAddress()+")")
	cells := make([]string, len(paths))
	for _, line := range strings.Split(out+"\n"+wire, "\n") {
		for i, path := range paths {
			if value, ok := strings.CutPrefix(line, path+" "); ok {
				cells[i] = strings.TrimSpace(value)
			}
		}
	}
	return cells
}
