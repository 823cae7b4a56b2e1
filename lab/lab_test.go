package lab

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"mobula/lab/meter"
)

func TestFaultRules(t *testing.T) {
	const path = `iifname "a" oifname "b" ether type != arp `
	for _, tc := range []struct {
		name  string
		fault Fault
		want  []string
	}{
		{"drop", Fault{Drop: true}, []string{path + "counter drop"}},
		{"loss", Fault{LossPercent: 0.5}, []string{path + "numgen random mod 10000 < 50 counter drop"}},
		{"MTU and loss", Fault{MTU: 1300, LossPercent: 20}, []string{path + "numgen random mod 10000 < 2000 counter drop", path + "meta length > 1300 counter drop"}},
		{"SSH", Fault{Drop: true, TCP: 22}, []string{path + "tcp dport 22 counter drop"}},
		{"delay", Fault{Delay: time.Second}, []string{path + "counter drop"}},
	} {
		if err := tc.fault.check(); err != nil {
			t.Errorf("%s: %v", tc.name, err)
		}
		if got := tc.fault.rules("a", "b"); !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%s: %q, wanted %q", tc.name, got, tc.want)
		}
	}
	for _, f := range []Fault{{}, {OneWay: true}, {TCP: 22}, {TCP: 22, Delay: 1}, {LossPercent: 101}, {LossPercent: -1}, {Drop: true, Delay: 1}} {
		if f.check() == nil {
			t.Errorf("%+v is accepted", f)
		}
	}
}

func TestSeed(t *testing.T) {
	l := &Lab{Dir: t.TempDir()}
	for _, spec := range DefaultHosts() {
		found := seeded(t, &Host{HostSpec: spec, lab: l})
		config := found["etc/network/interfaces"] + found["etc/systemd/network/10-uplink.network"] +
			found["etc/netplan/50-cloud-init.yaml"] + found["etc/NetworkManager/system-connections/ens3.nmconnection"]
		if !strings.Contains(config, spec.Address+"/24") {
			t.Errorf("%s: its address is not in its configuration:\n%s", spec.Name, config)
		}
	}
	cloud := &Host{HostSpec: HostSpec{Name: "erin", ID: 5, Address: "192.0.2.5", Debian: 13, Manager: "netplan", DHCP: true, TwoUplinks: true}, lab: l}
	if got := seeded(t, cloud)["etc/netplan/50-cloud-init.yaml"]; got != `network:
  version: 2
  ethernets:
    ens3:
      match:
        macaddress: 52:54:00:1a:00:05
      set-name: ens3
      dhcp4: true
    ens6:
      match:
        macaddress: 52:54:00:1b:00:05
      set-name: ens6
      accept-ra: false
      addresses: [203.0.113.5/24]
      routes:
        - to: default
          via: 203.0.113.254
          metric: 2048
` {
		t.Errorf("a host that asks for its address has\n%s", got)
	}
	for _, spec := range []HostSpec{{Manager: "none"}, {Manager: "netplan"}, {Manager: "NetworkManager", Debian: 13, DHCP: true}, {Manager: "networkd", TwoUplinks: true}} {
		if (&Host{HostSpec: spec}).seedNetwork(newSeed()) == nil {
			t.Errorf("a network manager that the lab does not have is accepted: %+v", spec)
		}
	}
}

// seeded are the files that a host's network is made of.
func seeded(t *testing.T, h *Host) map[string]string {
	t.Helper()
	s := newSeed()
	s.authorizedKeys("home/ops", 1000, "key\n")
	if err := h.seedNetwork(s); err != nil {
		t.Fatal(err)
	}
	data, err := s.bytes()
	if err != nil || len(data)%512 != 0 {
		t.Fatalf("%s: %d bytes: %v", h.Name, len(data), err)
	}
	found := map[string]string{}
	for r := tar.NewReader(bytes.NewReader(data)); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return found
		}
		if err != nil {
			t.Fatal(err)
		}
		content, _ := io.ReadAll(r)
		found[header.Name] = string(content)
		if strings.HasPrefix(header.Name, "home/ops/") != (header.Uid == 1000) {
			t.Errorf("%s: %s belongs to %d", h.Name, header.Name, header.Uid)
		}
	}
}

func TestAddresses(t *testing.T) {
	s := HostSpec{ID: 256, Name: "carol"}
	if s.IntrawireAddress() != "10.30.1.0" || s.GatewayAddress() != "10.31.1.0" || s.AccessAddress() != "10.31.129.0" {
		t.Error(s.IntrawireAddress(), s.GatewayAddress(), s.AccessAddress())
	}
}

func TestAnswerQuery(t *testing.T) {
	names := filepath.Join(t.TempDir(), "names")
	if err := os.WriteFile(names, []byte("moves.example.net. 192.0.2.77\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name    string
		kind    uint16
		rcode   int
		answers int
	}{
		{"outside.example.net.", dns.TypeA, dns.RcodeSuccess, 1},
		{"OutSide.example.net.", dns.TypeA, dns.RcodeSuccess, 1},
		{"outside.example.net.", dns.TypeAAAA, dns.RcodeSuccess, 0},
		{"alias.example.net.", dns.TypeA, dns.RcodeSuccess, 2},
		{"1.100.51.198.in-addr.arpa.", dns.TypePTR, dns.RcodeSuccess, 1},
		{"large.example.net.", dns.TypeA, dns.RcodeSuccess, 200},
		{"nowhere.example.net.", dns.TypeA, dns.RcodeNameError, 0},
		{"moves.example.net.", dns.TypeA, dns.RcodeSuccess, 1},
	} {
		logged := ""
		reply := answerQuery(new(dns.Msg).SetQuestion(tc.name, tc.kind), changing(names), func(line string) { logged = line })
		if reply.Rcode != tc.rcode || len(reply.Answer) != tc.answers {
			t.Errorf("%s: %v", tc.name, reply)
		}
		if want := tc.name + " " + dns.TypeToString[tc.kind]; logged != want {
			t.Errorf("logged %q, wanted %q", logged, want)
		}
	}
}

func TestMergeAndLossless(t *testing.T) {
	f := meter.Flow{From: "192.0.2.1", To: "192.0.2.2"}
	sender := meter.Report{Sent: []meter.Sent{{Flow: f, Packets: 100, Blocks: 10}}}
	receiver := meter.Report{
		Received: []meter.Received{{Flow: f, Packets: 100}},
		TCP:      []meter.TCPReceived{{Flow: f, Blocks: 10}},
	}
	if err := Lossless([]FlowResult{merge(f, sender, receiver)}); err != nil {
		t.Error(err)
	}
	receiver.Received[0].Packets = 99
	if r := merge(f, sender, receiver); r.Lost != 1 || Lossless([]FlowResult{r}) == nil {
		t.Errorf("%+v", r)
	}
	receiver.Received[0].Packets, receiver.TCP[0].Blocks = 100, 9
	if Lossless([]FlowResult{merge(f, sender, receiver)}) == nil {
		t.Error("a lost TCP block goes unnoticed")
	}
	if Lossless([]FlowResult{merge(f, meter.Report{}, meter.Report{})}) == nil {
		t.Error("a flow without any packet goes unnoticed")
	}
}

func TestExitCodeAndQuote(t *testing.T) {
	for _, s := range []string{"plain", "it's", `a "b" $c \d`, "two\nlines"} {
		out, err := exec.Command("sh", "-c", "printf %s "+shellQuote(s)).Output()
		if err != nil || string(out) != s {
			t.Errorf("%q became %q: %v", s, out, err)
		}
	}
	_, err := output(context.Background(), "sh", "-c", "echo why >&2; exit 3")
	if ExitCode(err) != 3 || !strings.Contains(err.Error(), "why") {
		t.Error(err)
	}
	if ExitCode(nil) != -1 || ExitCode(os.ErrNotExist) != -1 {
		t.Error("an exit code out of nothing")
	}
}

// TestEndProcess: only the process that was started is ended, not a later one with its number.
func TestEndProcess(t *testing.T) {
	file := t.TempDir() + "/sleep.pid"
	if err := startProcess(file, file+".log", "sleep", "1000"); err != nil {
		t.Fatal(err)
	}
	pid := livePID(file)
	if pid == 0 {
		t.Fatal("it does not run")
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	other := t.TempDir() + "/other.pid"
	if err := os.WriteFile(other, append(data, '1'), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := endProcess(other); err != nil || livePID(file) != pid {
		t.Fatal("a stranger was ended", err)
	}
	if err := endProcess(file); err != nil || livePID(file) != 0 {
		t.Fatal("it still runs", err)
	}
	if err := endProcess(file); err != nil {
		t.Error("ending it twice:", err)
	}
}
