package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// longestBoot is far more than a boot takes, even beside other work.
const longestBoot = 6 * time.Minute

// create gives the host its disk and its place on the network, starts it and waits for SSH.
func (h *Host) create(ctx context.Context) error {
	for _, n := range h.nics() {
		if err := h.plugIn(ctx, n); err != nil {
			return err
		}
	}
	if err := h.writeSeed(ctx); err != nil {
		return fmt.Errorf("writing its identity: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(h.disk()), 0o700); err != nil {
		return err
	}
	base := h.image(h.Image + ".raw")
	if _, err := output(ctx, "qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", base, h.disk()); err != nil {
		return err
	}
	if err := h.Start(); err != nil {
		return err
	}
	start := time.Now()
	h.lab.log.printf("%s: starting (host ID %d, %s, %s, image %s of %s)", h.Name, h.ID, h.Address, h.Manager, h.Image, h.suite())
	ctx, cancel := context.WithTimeout(ctx, longestBoot)
	defer cancel()
	if err := h.WaitSSH(ctx); err != nil {
		return err
	}
	h.lab.log.printf("%s: answers SSH after %.0f s", h.Name, time.Since(start).Seconds())
	return nil
}

// ipv6 is what the kernel is told of it.
func (h *Host) ipv6() string {
	if h.NoIPv6 {
		return " ipv6.disable=1"
	}
	return ""
}

// Start powers the machine on; it does not wait for it.
func (h *Host) Start() error {
	if livePID(h.pidFile()) != 0 {
		return nil
	}
	args := []string{"netns", "exec", h.lab.Namespace(), "qemu-system-x86_64",
		"-name", h.Name,
		// The default processor is the plainest, and so the fastest to emulate: with -cpu max
		// WireGuard is ten times slower, because it then uses vector instructions.
		// Room for a second processor, which never comes: a machine that can have but one is
		// emulated without memory barriers, and then virtio now and then misses a wake-up for good.
		// Translated code is kept up to tb-size MiB; when that is full, all of it is translated
		// anew. It is kept by virtual address: norandmaps has each process reuse what others
		// left, which makes deploys up to twice as fast.
		"-accel", "tcg,thread=multi,tb-size=1024", "-smp", "1,maxcpus=2", "-m", "768",
		"-nodefaults", "-display", "none",
		"-kernel", h.image("vmlinuz"), "-initrd", h.image("initrd.img"),
		// tsc=reliable: or each look at the clock leaves the emulated processor for the HPET. What
		// hardens the kernel (kernel-parameters.txt of Linux) is not what is tested, and takes its time.
		"-append", "root=/dev/vda rw console=ttyS0 mitigations=off norandmaps tsc=reliable init_on_alloc=0 randomize_kstack_offset=off hardened_usercopy=off panic=5 init=/usr/local/sbin/lab-init" + clockRate() + h.ipv6(),
		// unsafe: the guest's flushes reach this machine's memory, which a power cut of the guest spares.
		"-drive", "id=root,if=none,cache=unsafe,file=" + h.disk(),
		"-device", "virtio-blk-pci,drive=root,addr=4",
		"-drive", "id=seed,if=none,format=raw,readonly=on,file=" + h.seed(),
		"-device", "virtio-blk-pci,drive=seed,addr=5",
		"-device", "virtio-rng-pci",
		"-chardev", "file,id=serial,append=on,path=" + h.SerialLog(), "-serial", "chardev:serial",
		"-serial", "unix:" + h.console() + ",server=on,wait=off",
		"-qmp", "unix:" + h.monitor() + ",server=on,wait=off",
	}
	for _, n := range h.nics() {
		tap, more := n.tap, ""
		if h.Bridged {
			tap, more = n.wire(), ",csum=off,guest_csum=off" // the trunk passes whole frames on
		}
		args = append(args, "-netdev", "tap,id="+n.id+",script=no,downscript=no,ifname="+tap,
			// Without segmentation offload the frames on the lab's wire are those of a real
			// wire, so MTU and packet counts mean something.
			"-device", fmt.Sprintf("virtio-net-pci,netdev=%s,addr=%d,mac=%s,host_tso4=off,host_tso6=off,host_ufo=off,guest_tso4=off,guest_tso6=off,guest_ufo=off%s", n.id, n.slot, n.mac, more))
	}
	return startProcess(h.pidFile(), h.lab.path(h.Name+".qemu.log"), "ip", args...)
}

// Running tells whether the machine has power.
func (h *Host) Running() bool { return livePID(h.pidFile()) != 0 }

// PowerOff takes the power away: nothing in the machine gets a chance to write anything.
func (h *Host) PowerOff() error {
	defer h.Disconnect()
	return endProcess(h.pidFile())
}

// PowerCut takes the power away and gives it back, and waits until the machine answers SSH again.
func (h *Host) PowerCut(ctx context.Context) error {
	if err := h.PowerOff(); err != nil {
		return err
	}
	if err := h.Start(); err != nil {
		return err
	}
	return h.WaitSSH(ctx)
}

// Reset presses the reset button; it does not wait.
func (h *Host) Reset() error {
	defer h.Disconnect()
	return h.qmp("system_reset", nil)
}

// SetLink pulls the cable of the NIC, or puts it back: the machine sees its carrier change.
func (h *Host) SetLink(up bool) error {
	return h.qmp("set_link", map[string]any{"name": "nic", "up": up})
}

// Pause stops the machine's processor; Resume lets it go on. The machine does not notice.
func (h *Host) Pause() error { return h.qmp("stop", nil) }

// Resume ends a Pause.
func (h *Host) Resume() error { return h.qmp("cont", nil) }

// hmp runs a command of the human monitor, for what QMP has no command for.
func (h *Host) hmp(command string) error {
	var out string
	if err := h.query("human-monitor-command", map[string]any{"command-line": command}, &out); err != nil {
		return err
	}
	if out = strings.TrimSpace(out); strings.HasPrefix(out, "Error") {
		return fmt.Errorf("QEMU: %s: %s", command, out)
	}
	return nil
}

func (h *Host) qmp(command string, arguments map[string]any) error {
	return h.query(command, arguments, nil)
}

// query sends one command over QEMU's machine protocol (docs/interop/qmp-spec) and decodes its answer.
func (h *Host) query(command string, arguments map[string]any, answer any) error {
	conn, err := net.DialTimeout("unix", h.monitor(), 5*time.Second)
	if err != nil {
		return fmt.Errorf("%s has no power: %w", h.Name, err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(2 * time.Minute)) // a snapshot takes its time
	in, out := json.NewDecoder(conn), json.NewEncoder(conn)
	type request struct {
		Execute   string         `json:"execute"`
		Arguments map[string]any `json:"arguments,omitempty"`
	}
	for _, req := range []request{{Execute: "qmp_capabilities"}, {command, arguments}} {
		if err := out.Encode(req); err != nil {
			return err
		}
		for done := false; !done; {
			var reply struct {
				Return json.RawMessage
				Error  *struct{ Desc string }
			}
			if err := in.Decode(&reply); err != nil {
				return fmt.Errorf("QEMU of %s: %s: %w", h.Name, command, err)
			}
			if reply.Error != nil {
				return fmt.Errorf("QEMU of %s: %s: %s", h.Name, command, reply.Error.Desc)
			}
			// Anything without an answer is the greeting or an event.
			if done = reply.Return != nil; done && answer != nil && req.Execute == command {
				return json.Unmarshal(bytes.TrimSpace(reply.Return), answer)
			}
		}
	}
	return nil
}
