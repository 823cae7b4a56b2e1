//go:build lab

package scenarios

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"mobula/lab"
)

// rounds of each measurement. What is compared takes turns, so that what else the machine
// does strikes both.
const rounds = 5

// TestThroughput compares what one TCP stream carries, and round trips, on intrawire and on
// the access network in both modes with plain WireGuard: carol and erin, who have nothing
// else, beside alice and bob.
func TestThroughput(t *testing.T) {
	w := start(t, "alice", "bob", "carol", "erin")
	w.plainWireGuard(t)
	w.hosts = []string{"alice", "bob"}
	for _, mode := range []string{"shared", "moved"} {
		w.modes["alice"], w.modes["bob"] = mode, mode
		w.inventory(t)
		w.deploy(t)
		w.waitDirect(t, time.Minute, "alice", "bob")
		t.Logf("%s, as a share of plain WireGuard:\n%s", mode, w.compare(t))
	}
}

// plainWireGuard connects carol and erin as wg(8) says, in a network of their own.
func (w *world) plainWireGuard(t *testing.T) {
	t.Helper()
	keys := map[string]string{}
	for _, name := range []string{"carol", "erin"} {
		keys[name] = w.on(t, name, "umask 077; wg genkey >/root/key; wg pubkey </root/key")
	}
	for name, peer := range map[string]string{"carol": "erin", "erin": "carol"} {
		w.on(t, name, fmt.Sprintf(`ip link add plain type wireguard; ip link set plain mtu 1440 up; ip addr add 10.99.0.%d/24 dev plain
wg set plain private-key /root/key listen-port 51820 peer %s endpoint %s:51820 allowed-ips 10.99.0.0/24`, plainID[name], keys[peer], w.Host(peer).Address))
	}
}

var plainID = map[string]int{"carol": 1, "erin": 2}

// compare measures in turns, and returns medians and what they are of plain WireGuard's.
func (w *world) compare(t *testing.T) string {
	t.Helper()
	bob := w.Host("bob")
	ways := []struct{ name, from, to, address string }{
		{"plain WireGuard", "carol", "erin", fmt.Sprintf("10.99.0.%d", plainID["erin"])},
		{"intrawire", "alice", "bob", bob.IntrawireAddress()},
		{"access", "alice", "bob", bob.AccessAddress()},
	}
	rate, trip := map[string][]float64{}, map[string][]float64{}
	for i := 0; i < rounds; i++ {
		for _, way := range ways {
			rate[way.name] = append(rate[way.name], w.stream(t, w.Host(way.from), w.Host(way.to), way.address))
			trip[way.name] = append(trip[way.name], float64(w.roundTrip(t, way.from, way.address, "-c 200 -i 0.01")))
		}
	}
	var b strings.Builder
	for _, way := range ways {
		r, p := median(rate[way.name]), median(rate[ways[0].name])
		fmt.Fprintf(&b, "%-16s %7.1f Mbit/s, %.2f   round trip %v, %.2f\n", way.name, r, r/p, time.Duration(median(trip[way.name])), median(trip[way.name])/median(trip[ways[0].name]))
	}
	return b.String()
}

// stream returns what one TCP stream carries, in Mbit/s.
func (w *world) stream(t *testing.T, from, to *lab.Host, address string) float64 {
	t.Helper()
	w.on(t, to.Name, "systemd-run --quiet --collect --unit lab-iperf iperf3 -s -1; sleep 1")
	var report struct {
		End struct {
			Received struct {
				Bits float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		}
	}
	if err := json.Unmarshal([]byte(w.on(t, from.Name, "iperf3 -J -t 6 -O 1 -c "+address)), &report); err != nil {
		t.Fatal(err)
	}
	return report.End.Received.Bits / 1e6
}

var averageTrip = regexp.MustCompile(`rtt min/avg/max/mdev = [\d.]+/([\d.]+)/`)

// roundTrip returns the average that ping says.
func (w *world) roundTrip(t *testing.T, from, address, options string) time.Duration {
	t.Helper()
	m := averageTrip.FindStringSubmatch(w.on(t, from, "ping -q "+options+" "+address))
	if m == nil {
		t.Fatalf("no round trips from %s to %s", from, address)
	}
	ms, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	return time.Duration(ms * float64(time.Millisecond))
}

func median(all []float64) float64 {
	all = slices.Clone(all)
	slices.Sort(all)
	return all[len(all)/2]
}
