//go:build kernel

package hostnames

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"mobula/helper/internal/nameserver"
	"mobula/helper/internal/netns"
	"mobula/helper/internal/netns/netnstest"
	"mobula/helper/internal/network"
	"mobula/helper/internal/spec"
)

// outside is where names that are not private are looked up, and what the answer is.
const outside, publicAddress = "192.0.2.53", "203.0.113.1"

// world is a host with the real systemd-resolved, its gateway with the real nameserver, and
// a resolver outside, each in a network namespace.
type world struct {
	*testing.T
	packages string // where deps.sh has unpacked those of systemd-resolved
	resolver *Resolver
	gateway  *nameserver.Server

	mu    sync.Mutex
	asked []string // of the resolver outside

	stop func() // systemd-resolved
}

// newWorld returns nil in the process that only waits for the one with the namespaces.
// conf is of resolved.conf(5).
func newWorld(t *testing.T, conf string) *world {
	t.Helper()
	if !netnstest.Alone(t) {
		return nil
	}
	w := &world{T: t, packages: cacheDir() + "-resolved"}
	if _, err := os.Stat(w.at("systemd-resolved")); err != nil {
		t.Fatalf("%v: wanted what 'lab/deps.sh test' unpacks", err)
	}
	w.network()
	w.files(conf)
	w.serveOutside()
	daemon(t, "", "dbus-daemon --system --nofork --nopidfile", "busctl --system list")
	w.start()
	w.sh("", w.at("resolvectl")+" dns eth0 "+outside)
	w.resolver = New(w.run, func(path string, data []byte, mode os.FileMode) error { return os.WriteFile(path, data, mode) })
	return w
}

func cacheDir() string {
	if dir := os.Getenv("MOBULA_LAB_CACHE"); dir != "" {
		return dir
	}
	return "/var/cache/mobula-lab"
}

// at is where a program or library of the packages is.
func (w *world) at(name string) string {
	for _, dir := range []string{"/usr/lib/systemd/", "/lib/systemd/", "/usr/bin/"} {
		if _, err := os.Stat(w.packages + dir + name); err == nil {
			return w.packages + dir + name
		}
	}
	return w.packages + "/" + name
}

func (w *world) network() {
	w.Helper()
	for _, ns := range []string{spec.Namespace, "outside"} {
		netnstest.Namespace(w.T, ns)
	}
	w.sh("", `ip link add eth0 type veth peer name eth0 netns outside
ip addr add 192.0.2.1/24 dev eth0; ip link set eth0 up; ip -n outside addr add `+outside+`/24 dev eth0; ip -n outside link set eth0 up
ip route add default via `+outside)
	w.sh(spec.Namespace, "sysctl -qw net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2 net.ipv4.conf.all.rp_filter=0")
	w.sh("", "ip rule add from 10.30.0.1 table 1030 pref 1030; ip rule add to 10.30.0.0/16 table 1030 pref 1031")
	w.link()
}

// link makes the direct link, as links and routes of the plan are.
func (w *world) link() {
	w.Helper()
	w.sh("", `ip link add mo-dir-hs type veth peer name mo-dir-gw netns `+spec.Namespace+`
ip addr add 10.30.0.1/32 dev mo-dir-hs; ip link set mo-dir-hs up; ip -n `+spec.Namespace+` addr add 10.30.0.0/32 dev mo-dir-gw
ip -n `+spec.Namespace+` link set mo-dir-gw up; ip -n `+spec.Namespace+` route add 10.30.0.1 dev mo-dir-gw
for net in 10.30.0.0/16 10.31.0.0/16; do ip route replace $net via 10.30.0.0 dev mo-dir-hs onlink src 10.30.0.1 table 1030; done`)
}

// files are those of a host with systemd-resolved, in an /etc of the test's own.
func (w *world) files(conf string) {
	w.Helper()
	etc := w.TempDir()
	w.sh("", "cp -a /etc/. "+etc+" 2>/dev/null || true; rm -f "+etc+"/resolv.conf; cp -r "+w.packages+"/usr/share/dbus-1/system.d/. "+etc+"/dbus-1/system.d/")
	if err := unix.Mount(etc, "/etc", "", unix.MS_BIND, ""); err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { _ = unix.Unmount("/etc", unix.MNT_DETACH) })
	w.sh("", `grep -q ^systemd-resolve: /etc/passwd || { echo systemd-resolve:x:996:996::/:/usr/sbin/nologin >>/etc/passwd; echo systemd-resolve:x:996: >>/etc/group; }
ln -s ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf; printf '127.0.0.1 localhost\n# no end' >/etc/hosts
printf 'passwd: files\ngroup: files\nhosts: files dns\n' >/etc/nsswitch.conf
mkdir -p /run/dbus /run/systemd/resolve /etc/systemd/resolved.conf.d; chown systemd-resolve: /run/systemd/resolve`)
	if err := os.WriteFile("/etc/systemd/resolved.conf.d/test.conf", []byte("[Resolve]\n"+conf), 0o644); err != nil {
		w.Fatal(err)
	}
}

// start begins systemd-resolved, again after stop.
func (w *world) start() {
	w.Helper()
	w.stop = daemon(w.T, w.packages, w.at("systemd-resolved"), "busctl --system call org.freedesktop.DBus /org/freedesktop/DBus org.freedesktop.DBus NameHasOwner s org.freedesktop.resolve1 | grep -q true")
}

// daemon runs a program in the host's namespace until it is stopped or the test ends,
// however that ends: then the one that waits for input reads its end.
func daemon(t *testing.T, packages, program, ready string) (stop func()) {
	t.Helper()
	log := filepath.Join(t.TempDir(), "log")
	cmd := exec.Command("sh", "-c", program+" >"+log+" 2>&1 </dev/null & read _; kill $!; wait $!")
	cmd.Env = append(os.Environ(), libraries(packages))
	input, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	stop = func() {
		input.Close()
		_ = cmd.Wait()
	}
	t.Cleanup(stop)
	for end := time.Now().Add(20 * time.Second); exec.Command("sh", "-c", ready).Run() != nil; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			said, _ := os.ReadFile(log)
			t.Fatalf("%s: not ready:\n%s", program, said)
		}
	}
	return stop
}

// libraries is where those of the packages are, which systemd's own are of another version
// than.
func libraries(packages string) string {
	found, _ := filepath.Glob(packages + "/usr/lib/*/systemd")
	return "LD_LIBRARY_PATH=" + strings.Join(found, ":")
}

// run is Commands of the host, on which no systemd runs that would tell of units.
func (w *world) run(ctx context.Context, name string, args ...string) (string, error) {
	switch name {
	case "systemctl":
		return "LoadState=loaded\nActiveState=active\nUnitFileState=enabled\n", nil
	case "resolvectl":
		name = w.at(name)
	}
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), libraries(w.packages))
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = errors.New(name + " " + strings.Join(args, " ") + ": " + string(exit.Stderr))
	}
	return string(out), err
}

// sh runs commands in a network namespace and returns what they print.
func (w *world) sh(ns, script string) string {
	w.Helper()
	var out []byte
	err := netns.Do(ns, func() (err error) {
		cmd := exec.Command("bash", "-euc", script)
		cmd.Env = append(os.Environ(), libraries(w.packages))
		out, err = cmd.CombinedOutput()
		return err
	})
	if err != nil {
		w.Fatalf("%s: %v: %s", script, err, out)
	}
	return strings.TrimSpace(string(out))
}

// serveOutside answers everything, and notes what it was asked.
func (w *world) serveOutside() {
	w.Helper()
	handler := dns.HandlerFunc(func(to dns.ResponseWriter, q *dns.Msg) {
		name := q.Question[0].Name
		w.mu.Lock()
		w.asked = append(w.asked, name)
		w.mu.Unlock()
		r := new(dns.Msg).SetReply(q)
		r.RecursionAvailable = true
		if q.Question[0].Qtype == dns.TypeA {
			r.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 1}, A: net.ParseIP(publicAddress)}}
		}
		_ = to.WriteMsg(r)
	})
	var conn net.PacketConn
	err := netns.Do("outside", func() (err error) {
		conn, err = net.ListenPacket("udp4", outside+":53")
		return err
	})
	if err != nil {
		w.Fatal(err)
	}
	server := &dns.Server{PacketConn: conn, Handler: handler}
	go func() { _ = server.ActivateAndServe() }()
	w.Cleanup(func() { _ = server.Shutdown() })
}

// questions returns what was asked outside since the last time.
func (w *world) questions() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := strings.Join(w.asked, " ")
	w.asked = nil
	return all
}

// serveGateway is the gateway's nameserver, which asks those upstream, by the host.
func (w *world) serveGateway(d *network.Document, upstreams []netip.Addr) {
	w.Helper()
	cfg := nameserver.Config{Upstreams: nameserver.Port53(upstreams), Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		return netns.Dial(ctx, "", network, address)
	}}
	err := netns.Do(spec.Namespace, func() error {
		packets, err := net.ListenPacket("udp4", "10.30.0.0:53")
		if err != nil {
			return err
		}
		listener, err := net.Listen("tcp4", "10.30.0.0:53")
		cfg.PacketConns, cfg.Listeners = []net.PacketConn{packets}, []net.Listener{listener}
		return err
	})
	if err != nil {
		w.Fatal(err)
	}
	w.gateway = nameserver.New(cfg, slog.New(slog.NewTextHandler(io.Discard, nil)))
	w.gateway.SetZone(d)
	ctx, cancel := context.WithCancel(context.Background())
	w.Cleanup(cancel)
	go func() { _ = w.gateway.Serve(ctx) }()
}
