package firstpacket

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mobula/helper/internal/netns"
	"mobula/helper/internal/netns/netnstest"
)

const place = "leaving"

// start watches a device of a namespace behind which nobody answers.
func start(t *testing.T) (*Watcher, <-chan netip.Addr) {
	t.Helper()
	netnstest.Namespace(t, place)
	netnstest.Run(t, place, "sh", "-ec", `ip link add wire type veth peer name other; ip link set other up; ip link set wire up
ip addr add 10.30.0.0/32 dev wire; ip route add 10.30.0.0/17 dev wire; ip neigh add 10.30.0.2 lladdr 02:00:00:00:00:02 dev wire; ip neigh add 10.30.0.3 lladdr 02:00:00:00:00:03 dev wire
ip link add beside type veth peer name another; ip link set another up; ip link set beside up; ip addr add 192.0.2.1/24 dev beside; ip neigh add 192.0.2.2 lladdr 02:00:00:00:00:04 dev beside`)
	told := make(chan netip.Addr, 5000)
	w, err := Watch(Config{Namespace: place, Device: "wire", OwnPorts: []uint16{51821, 51822}, Again: 500 * time.Millisecond}, func(a netip.Addr) { told <- a })
	if err != nil {
		t.Fatal(err)
	}
	return w, told
}

// send has a datagram leave.
func send(t *testing.T, to string) {
	t.Helper()
	err := netns.Do(place, func() error {
		host, port, _ := strings.Cut(to, ":")
		return exec.Command("bash", "-c", "echo >/dev/udp/"+host+"/"+port).Run()
	})
	if err != nil {
		t.Fatalf("%s: %v", to, err)
	}
}

// hears returns what is told until the kernel has told all: the last is of a packet of its own.
func hears(t *testing.T, told <-chan netip.Addr) (all string) {
	t.Helper()
	send(t, "10.30.0.3:7")
	for {
		select {
		case a := <-told:
			if a == netip.MustParseAddr("10.30.0.3") {
				return all
			}
			all += a.String() + " "
		case <-time.After(5 * time.Second):
			t.Fatalf("heard %q, and nothing of the last packet", all)
		}
	}
}

func TestFirstPackets(t *testing.T) {
	if !netnstest.Alone(t) {
		return
	}
	w, told := start(t)
	send(t, "10.30.0.2:51821") // the agents' own
	send(t, "10.30.0.2:51822")
	send(t, "192.0.2.2:9") // by another device
	if heard := hears(t, told); heard != "" {
		t.Errorf("told of %q, wanted nothing", heard)
	}
	time.Sleep(600 * time.Millisecond)
	for i := 0; i < 3; i++ {
		send(t, "10.30.0.2:9")
	}
	if heard := hears(t, told); heard != "10.30.0.2 " {
		t.Errorf("told of %q, wanted one packet", heard)
	}
	time.Sleep(600 * time.Millisecond)
	send(t, "10.30.0.2:9")
	if heard := hears(t, told); heard != "10.30.0.2 " {
		t.Errorf("told of %q after a while, wanted the packet", heard)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	netnstest.Run(t, place, "sh", "-ec", "nft list tables | grep . && exit 1 || true")
}

// TestAnotherWatcher begins where one was that could not take its table away.
func TestAnotherWatcher(t *testing.T) {
	if !netnstest.Alone(t) {
		return
	}
	first, _ := start(t)
	first.stop()
	if err := first.log.Close(); err != nil {
		t.Fatal(err)
	}
	told := make(chan netip.Addr, 100)
	w, err := Watch(Config{Namespace: place, Device: "wire", OwnPorts: []uint16{51821, 51822}, Again: time.Hour}, func(a netip.Addr) { told <- a })
	if err != nil {
		t.Fatal(err)
	}
	send(t, "10.30.0.2:9")
	if heard := hears(t, told); heard != "10.30.0.2 " {
		t.Errorf("told of %q, wanted the packet", heard)
	}
	netnstest.Run(t, "", "ip", "netns", "delete", place)
	if err := w.Close(); err != nil {
		t.Errorf("without its namespace: %v", err)
	}
}

// TestManyAddresses: a guest sends to addresses of nobody.
func TestManyAddresses(t *testing.T) {
	if !netnstest.Alone(t) {
		return
	}
	w, told := start(t)
	netnstest.Run(t, place, "sh", "-ec", "ip neigh flush dev wire; ip link set wire arp off")
	began := time.Now()
	netnstest.Run(t, place, "bash", "-c", "for a in {0..15}; do for b in {1..250}; do echo >/dev/udp/10.30.$((a+64)).$b/9; done; done")
	took := time.Since(began)
	time.Sleep(100 * time.Millisecond)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if most := perSecond * (1.1 + 2*took.Seconds()); float64(len(told)) > most {
		t.Errorf("told of %d packets in %v, wanted %.0f at most", len(told), took, most)
	}
	if len(told) < perSecond/10 { // a slow reader is not told of all
		t.Errorf("told of %d packets of 4,000, wanted what the bound lets pass", len(told))
	}
}

// TestLost: what the kernel could not keep is counted, and the watch goes on.
func TestLost(t *testing.T) {
	var w Watcher
	for _, c := range []struct {
		err  error
		lost uint64
		ends int
	}{{fmt.Errorf("netlink receive: %w", unix.ENOBUFS), 1, 0}, {os.ErrDeadlineExceeded, 1, 0}, {unix.ENOBUFS, 2, 0}, {unix.EBADF, 2, 1}} {
		if ends := w.goesOn(c.err); ends != c.ends || w.Lost() != c.lost {
			t.Errorf("%v: found %d, %d lost, wanted %d, %d", c.err, ends, w.Lost(), c.ends, c.lost)
		}
	}
}

func TestNowhere(t *testing.T) {
	if w, err := Watch(Config{Namespace: "no-such-namespace", Device: "wire", Again: time.Second}, func(netip.Addr) {}); err == nil {
		t.Error("watches a namespace that is not there")
		_ = w.Close()
	}
}

func TestDestination(t *testing.T) {
	for _, packet := range [][]byte{nil, {0x45}, make([]byte, 20), append([]byte{0x60}, make([]byte, 39)...)} {
		if a, ok := destination(packet); ok {
			t.Errorf("% x has the destination %v, wanted none", packet, a)
		}
	}
}
