package lab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// Inventory is an Ansible inventory of the given hosts, default: all that the lab has. Emulated
// processors need long to shake hands and to become root.
func (l *Lab) Inventory(hosts ...*Host) string {
	if len(hosts) == 0 {
		hosts = l.Hosts
	}
	var b strings.Builder
	b.WriteString("all:\n  hosts:\n")
	for _, h := range hosts {
		fmt.Fprintf(&b, "    %s:\n      host_id: %d\n      hostname: '%s'\n", h.Address, h.ID, h.FQDN())
	}
	fmt.Fprintf(&b, `  vars:
    ansible_user: root
    ansible_ssh_private_key_file: '%s'
    ansible_ssh_timeout: 40
    ansible_ssh_common_args: '%s'
    ansible_python_interpreter: /usr/bin/python3
`, l.Key(), sshArgs)
	if h := hosts[0]; h.Wire != "" {
		fmt.Fprintf(&b, "    wire_network: %s\n    access_network: %s\n", h.InWire(0, 0)+"/16", h.InAccess(0, 0)+"/16")
	}
	return b.String()
}

// sshArgs keep Ansible's connections out of the user's own SSH configuration.
const sshArgs = "-F none -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -o KexAlgorithms=curve25519-sha256"

// Through are the inventory lines of a host that the deployer reaches only through this one.
func (h *Host) Through() string {
	return fmt.Sprintf("      ansible_ssh_common_args: '%s -o ProxyCommand=\"ssh %s -i %s -W %%h:%%p root@%s\"'\n", sshArgs, sshArgs, h.lab.Key(), h.Address)
}

// DeployerCommand prepares a program on the deployer, in the folder dir, with env added to the environment.
func (l *Lab) DeployerCommand(ctx context.Context, dir string, env []string, name string, args ...string) *exec.Cmd {
	cmd := Command(ctx, l.Namespace(), name, args...)
	cmd.Dir = dir
	// Labs share the addresses of their hosts, and must not share open SSH connections.
	cmd.Env = append(append(os.Environ(), "ANSIBLE_SSH_CONTROL_PATH_DIR="+l.path("cp")), env...)
	return cmd
}

// Deployer runs a program on the deployer and returns its output, standard error included.
// With MOBULA_LAB_VERBOSE set the output is also shown as it comes.
func (l *Lab) Deployer(ctx context.Context, dir string, env []string, name string, args ...string) (string, error) {
	cmd := l.DeployerCommand(ctx, dir, env, name, args...)
	var out tee
	if os.Getenv("MOBULA_LAB_VERBOSE") != "" {
		out.also = l.log
	}
	cmd.Stdout, cmd.Stderr = &out, &out
	// Its children end with it when ctx does.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s: %w\n%s", name, err, out.String())
	}
	return out.String(), nil
}
