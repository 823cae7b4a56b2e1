//go:build lab

package scenarios

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"mobula/lab"
)

// useDocker runs a web server in a container, made of what the host has. What bridges carry
// is not for Docker to filter, as who has virtual machines on them says.
const useDocker = `echo br_netfilter >/etc/modules-load.d/bridges.conf; modprobe br_netfilter
echo net.bridge.bridge-nf-call-iptables=0 >/etc/sysctl.d/bridges.conf; sysctl -q -p /etc/sysctl.d/bridges.conf
tar -C /usr -c bin/busybox | docker import - lab
docker run -d --restart always --name web -p 8080:80 lab /bin/busybox sh -c 'busybox mkdir /www; echo a container >/www/index.html; exec busybox httpd -f -p 80 -h /www'`

// inContainer runs a command in it.
const inContainer = "docker exec web /bin/busybox "

// besideDocker: guests of a host get outside where Docker drops what is forwarded, its
// containers work as before, also after Docker started anew, and when a NIC of the bond
// fails the other takes over.
func besideDocker(t *testing.T, w *world) {
	holdsBesideDocker(t, w)
	w.on(t, "heidi", "systemctl restart docker")
	holdsBesideDocker(t, w)
	firstNICFails(t, w)
	holdsBesideDocker(t, w)
}

// holdsBesideDocker: a container, a machine on the host's bridge and a guest get outside,
// and the container's port is reached from there.
func holdsBesideDocker(t *testing.T, w *world) {
	t.Helper()
	heidi := w.Host("heidi")
	in, leave := w.guestOf(t, heidi)
	defer leave()
	vm, off := w.onBridge(t, heidi)
	defer off()
	eventually(t, 90*time.Second, "containers, machines and guests get outside", func() error { // Docker's start, and the minute's look
		for who, in := range map[string]string{"a container": inContainer, "a machine on the bridge": vm, "a guest": in} {
			if _, err := heidi.Run(w.ctx, in+"ping -q -c 2 -W 2 "+lab.OutsideAddress); err != nil {
				return fmt.Errorf("%s: %w", who, err)
			}
		}
		return nil
	})
	if from := w.on(t, "heidi", in+askOutside); !strings.Contains(from, lab.RouterOutsideAddress) {
		t.Errorf("the outside sees the guest as %q, wanted the address of her router", from)
	}
	if page, err := w.Outside(w.ctx, "curl", "-s", "-m", "10", "http://"+lab.RouterOutsideAddress+":8080/"); strings.TrimSpace(page) != "a container" {
		t.Errorf("the container's port says %q from outside, %v", page, err)
	}
	if _, err := heidi.Run(w.ctx, in+"ping -q -c 2 -i 0.3 -W 2 "+w.Host("grace").IntrawireAddress()); err != nil {
		t.Errorf("a guest does not reach grace: %v", err)
	}
}

// onBridge puts a machine on the bridge that has the host's address, as a hypervisor does:
// in is what runs a command there.
func (w *world) onBridge(t *testing.T, host *lab.Host) (in string, leave func()) {
	t.Helper()
	w.on(t, host.Name, `ip netns add vm; ip link add lab-vm type veth peer name eth0 netns vm; ip link set lab-vm master `+lab.Bridge+` up
ip -n vm link set eth0 up; ip -n vm addr add 203.0.113.58/24 dev eth0; ip -n vm route add default via `+host.Router())
	return "ip netns exec vm ", func() {
		t.Helper()
		w.on(t, host.Name, "ip netns del vm")
	}
}

// firstNICFails: the cable of one NIC is pulled while grace sends to heidi.
func firstNICFails(t *testing.T, w *world) {
	heidi := w.Host("heidi")
	active := ""
	answered := w.withoutCable(t, heidi, "heidi without one of two NICs", func() {
		active = w.on(t, "heidi", "cat /sys/class/net/"+lab.Bond+"/bonding/active_slave")
	})
	if active != lab.SecondNIC {
		t.Errorf("found %s in use, wanted %s", active, lab.SecondNIC)
	}
	if answered < 85 { // 3 s
		t.Errorf("%d of 100 packets were answered", answered)
	}
}
