//go:build ansible

package playbooks_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// installs has a host lack packages; afterwards it has them.
func (d *deployer) installs(host string) {
	d.Helper()
	d.put(host, "afterwards.json", d.read(host, "report.json"))
	d.put(host, "report.json", strings.Replace(d.read(host, "report.json"), `"missing_packages": []`, `"missing_packages": ["openvswitch-switch", "nftables"]`, 1))
}

// installed are the modules that a host ran, each with the names or the service it got.
func (d *deployer) installed(host string) (all []string) {
	d.Helper()
	for _, line := range strings.Split(strings.TrimSpace(d.read(host, "installed")), "\n") {
		module, text, _ := strings.Cut(line, " ")
		var args struct {
			Arguments struct {
				Name    any   `json:"name"`
				Enabled *bool `json:"enabled"`
			} `json:"ANSIBLE_MODULE_ARGS"`
		}
		if err := json.Unmarshal([]byte(text), &args); line != "" && err != nil {
			d.Fatalf("%s: %v", line, err)
		}
		what, _ := json.Marshal(args.Arguments.Name)
		if e := args.Arguments.Enabled; e != nil && !*e {
			what = append(what, " off"...)
		}
		if line != "" {
			all = append(all, module+" "+string(what))
		}
	}
	return all
}

// TestPackages: what is missing is installed under the names that the host's family has
// for it, or those that the operator says, and the system's own switch stays off.
func TestPackages(t *testing.T) {
	for _, c := range []struct {
		name, family, vars string
		want               []string
	}{
		{"Debian", "apt", "", []string{`apt ["openvswitch-switch","nftables"]`, `systemd "openvswitch-switch" off`}},
		{"RHEL", "dnf", "", []string{`dnf ["openvswitch","nftables"]`, `systemd "openvswitch" off`}},
		{"RHEL with names of its own", "dnf", "    mobula_packages: [openvswitch3.3, nftables]\n", []string{`dnf ["openvswitch3.3","nftables"]`, `systemd "openvswitch" off`}},
		{"as if not said", "apt", "    mobula_packages:\n", []string{`apt ["openvswitch-switch","nftables"]`, `systemd "openvswitch-switch" off`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDeployer(t, 1)
			d.family(c.family)
			d.inventory("    ansible_python_interpreter: "+filepath.Join(d.tools, "python")+"\n"+c.vars, address(1))
			d.installs(address(1))
			out, err := d.play("deploy.yml", "-e", "allow_alone=1")
			d.mustSay(out, err, false)
			if got := d.installed(address(1)); !reflect.DeepEqual(got, c.want) {
				t.Errorf("installed %q, wanted %q\n%s", got, c.want, out)
			}
			if d.deployed() != address(1) {
				t.Errorf("not deployed\n%s", out)
			}
		})
	}
}

// TestPackagesThatTheOperatorBrings: nothing is installed, and the helper is asked to
// refuse hosts that lack something, before and after.
func TestPackagesThatTheOperatorBrings(t *testing.T) {
	d := newDeployer(t, 2)
	d.inventory("    ansible_python_interpreter: "+filepath.Join(d.tools, "python")+"\n    mobula_packages: []\n", address(1), address(2))
	d.put(address(2), "report.json", strings.Replace(d.read(address(2), "report.json"), `"problems": []`, `"problems": ["nft: found none"]`, 1))
	d.put(address(2), "report.json", strings.Replace(d.read(address(2), "report.json"), `"missing_packages": []`, `"missing_packages": ["nftables"]`, 1))
	out, err := d.play("deploy.yml", "-e", "allow_alone=1")
	d.mustSay(out, err, true, "192.0.2.2: refused: nft: found none")
	for host, want := range map[string]string{address(1): address(1), address(2): ""} {
		if got := d.installed(host); got != nil {
			t.Errorf("%s: installed %q\n%s", host, got, out)
		}
		if asked := d.read(host, "asked"); !strings.Contains(asked, "--packages-brought=true") {
			t.Errorf("%s was asked %s, wanted it to say that packages are brought", host, asked)
		}
		if deployed := strings.Contains(d.deployed(), host); deployed != (want != "") {
			t.Errorf("%s: deployed: %v\n%s", host, deployed, out)
		}
	}
}

// TestPackagesThatNobodyHas: what the package manager says is said, and what to do; the
// other hosts go on.
func TestPackagesThatNobodyHas(t *testing.T) {
	d := newDeployer(t, 3)
	d.inventory("    ansible_python_interpreter: "+filepath.Join(d.tools, "python")+"\n", address(1), address(2), address(3))
	d.installs(address(1))
	d.put(address(1), "unpublished", "")
	// Installed, and still not there, as where a package of that name has something else.
	d.installs(address(2))
	d.put(address(2), "afterwards.json", strings.Replace(d.read(address(2), "report.json"), `"problems": []`, `"problems": ["nft: found none"]`, 1))
	out, err := d.play("deploy.yml", "-e", "allow_alone=1")
	d.mustSay(out, err, true, "openvswitch-switch, nftables: No package matching it is available", "mobula_packages: []", "192.0.2.2: refused: nft: found none")
	if got := d.deployed(); got != address(3) {
		t.Errorf("deployed: %q\n%s", got, out)
	}
}

// family makes hosts that have one family's package manager.
func (d *deployer) family(manager string) {
	d.Helper()
	if manager == "apt" {
		return
	}
	path := filepath.Join(d.dir, "roles/prepare_host/files/preflight.sh")
	data, err := os.ReadFile(path)
	if err != nil {
		d.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(data), "command -v apt-get", "false", 1)), 0o644); err != nil {
		d.Fatal(err)
	}
}
