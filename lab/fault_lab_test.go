//go:build lab

package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"mobula/lab/meter"
)

// newNetwork makes the network of a lab with namespaces for hosts, where machines would take
// too long. It needs root, as everything with the build tag lab.
func newNetwork(t *testing.T) (*Lab, []*Host) {
	t.Helper()
	ctx := context.Background()
	l := &Lab{Dir: t.TempDir(), Prefix: "mbtest", log: newProgress(io.Discard)}
	t.Cleanup(func() {
		if err := l.removeNetwork(); err != nil {
			t.Error(err)
		}
		for _, h := range l.Hosts {
			_ = ipBatch(ctx, "netns del mbtest-"+h.Name)
		}
	})
	if err := l.createNetwork(ctx); err != nil {
		t.Fatal(err)
	}
	for _, spec := range DefaultHosts()[:3] {
		h := &Host{HostSpec: spec, lab: l}
		l.Hosts = append(l.Hosts, h)
		ns := "mbtest-" + h.Name
		err := ipBatch(ctx,
			"netns add "+ns,
			"-n "+ns+" link set lo up",
			"-n "+l.Namespace()+" link add "+h.port()+" type veth peer name "+NIC+" netns "+ns,
			"-n "+l.Namespace()+" link set "+h.port()+" master "+bridge+" up",
			"-n "+ns+" addr add "+h.Address+"/24 dev "+NIC,
			"-n "+ns+" link set "+NIC+" up",
		)
		if err != nil {
			t.Fatal(err)
		}
	}
	return l, l.Hosts
}

// ping returns how many of count packets were answered.
func ping(t *testing.T, from, to *Host, count string, args ...string) (answered string, text string) {
	t.Helper()
	cmd := Command(context.Background(), "mbtest-"+from.Name, "ping", append([]string{"-c", count, "-i", "0.01", "-W", "1", to.Address}, args...)...)
	out, _ := cmd.CombinedOutput()
	for _, line := range strings.Split(string(out), "\n") {
		if strings.Contains(line, "received") {
			return strings.Fields(strings.Split(line, ",")[1])[0], string(out)
		}
	}
	t.Fatalf("ping: %s", out)
	return "", ""
}

func TestFaults(t *testing.T) {
	l, hosts := newNetwork(t)
	a, b, c := hosts[0], hosts[1], hosts[2]
	ctx := context.Background()
	ping(t, a, b, "1")
	ping(t, b, c, "1")
	cases := []struct {
		name  string
		fault Fault
		args  []string
		want  func(answered string, text string) bool
	}{
		{"drop", Fault{Drop: true}, nil, func(n, _ string) bool { return n == "0" }},
		{"one way", Fault{Drop: true, OneWay: true}, nil, func(n, _ string) bool { return n == "0" }},
		{"loss", Fault{LossPercent: 50, OneWay: true}, nil, func(n, _ string) bool { return n != "0" && n != "100" }},
		{"mtu, small", Fault{MTU: 1300}, []string{"-s", "1272", "-M", "do"}, func(n, _ string) bool { return n == "100" }},
		{"mtu, large", Fault{MTU: 1300}, []string{"-s", "1273", "-M", "do"}, func(n, _ string) bool { return n == "0" }},
		{"delay", Fault{Delay: 40 * time.Millisecond}, nil, func(n, text string) bool { return n == "100" && strings.Contains(text, "rtt min/avg/max/mdev = 8") }},
		{"delay one way", Fault{Delay: 40 * time.Millisecond, OneWay: true}, nil, func(n, text string) bool { return n == "100" && strings.Contains(text, "rtt min/avg/max/mdev = 4") }},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			undo, err := l.Fault(ctx, a, b, tc.fault)
			if err != nil {
				t.Fatal(err)
			}
			if n, text := ping(t, a, b, "100", tc.args...); !tc.want(n, text) {
				t.Errorf("answered: %s of 100\n%s", n, text)
			}
			if n, _ := ping(t, a, c, "5"); n != "5" {
				t.Errorf("another path lost packets: %s of 5 answered", n)
			}
			if err := undo(); err != nil {
				t.Fatal(err)
			}
			if n, _ := ping(t, a, b, "5"); n != "5" {
				t.Errorf("after the fault: %s of 5 answered", n)
			}
		})
	}
	t.Run("isolate", func(t *testing.T) {
		undo, err := l.Isolate(ctx, a)
		if err != nil {
			t.Fatal(err)
		}
		if n, _ := ping(t, a, c, "3"); n != "0" {
			t.Errorf("%s of 3 answered", n)
		}
		if err := undo(); err != nil {
			t.Fatal(err)
		}
		if n, _ := ping(t, a, c, "3"); n != "3" {
			t.Errorf("afterwards %s of 3 answered", n)
		}
	})
}

func TestDelayCarriesTCP(t *testing.T) {
	l, hosts := newNetwork(t)
	a, b := hosts[0], hosts[1]
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	ping(t, a, b, "1")
	undo, err := l.Fault(ctx, a, b, Fault{Delay: 5 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer undo()
	server := Command(ctx, "mbtest-bob", "python3", "-c", "import socket,sys\ns=socket.create_server(('',99)); print(flush=True); c=s.accept()[0]\nwhile (d:=c.recv(65536)): sys.stdout.buffer.write(d)")
	var got bytes.Buffer
	pipe, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	pipe.Read(make([]byte, 1)) // it listens
	read := make(chan error)
	go func() {
		_, err := io.Copy(&got, pipe)
		read <- err
	}()
	sent := bytes.Repeat([]byte("0123456789"), 200_000)
	client := Command(ctx, "mbtest-alice", "python3", "-c", "import socket,sys; s=socket.create_connection(('"+b.Address+"',99)); s.sendall(sys.stdin.buffer.read())")
	client.Stdin = bytes.NewReader(sent)
	if out, err := client.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := <-read; err != nil {
		t.Fatal(err)
	}
	server.Wait()
	if !bytes.Equal(got.Bytes(), sent) {
		t.Errorf("%d bytes arrived, not the %d that were sent", got.Len(), len(sent))
	}
}

// TestNothingLeaves: the lab's namespaces know no other network than their own.
func TestNothingLeaves(t *testing.T) {
	l, _ := newNetwork(t)
	for _, ns := range []string{l.Namespace(), l.OutsideNamespace(), l.routerNamespace()} {
		out, err := output(context.Background(), "ip", "-n", ns, "-json", "route")
		if err != nil {
			t.Fatal(err)
		}
		var routes []struct{ Dst string }
		if err := json.Unmarshal([]byte(out), &routes); err != nil {
			t.Fatal(err)
		}
		for _, r := range routes {
			if r.Dst != "192.0.2.0/24" && r.Dst != "198.51.100.0/24" {
				t.Errorf("namespace %s has a route to %s", ns, r.Dst)
			}
		}
	}
}

func TestMeterProcess(t *testing.T) {
	l, hosts := newNetwork(t)
	binary := l.path("meter")
	build := exec.Command("go", "build", "-o", binary, "mobula/lab/cmd/meter")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	a, b := hosts[0], hosts[1]
	ping(t, a, b, "1")
	var processes []*exec.Cmd
	for i, h := range []*Host{a, b} {
		peer := []*Host{b, a}[i]
		config, _ := json.Marshal(meter.Config{Every: 10 * time.Millisecond, TCP: true, Send: []meter.Sending{{Flow: meter.Flow{From: h.Address, To: peer.Address}}}})
		if err := os.WriteFile(l.path(h.Name+".config"), config, 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := Command(context.Background(), "mbtest-"+h.Name, binary, l.path(h.Name+".config"), l.path(h.Name+".report"))
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		processes = append(processes, cmd)
	}
	time.Sleep(500 * time.Millisecond) // until both listen
	for _, cmd := range processes {
		cmd.Process.Signal(syscall.SIGHUP)
	}
	time.Sleep(time.Second)
	undo, err := l.Fault(context.Background(), a, b, Fault{Drop: true, OneWay: true})
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(300 * time.Millisecond)
	if err := undo(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * time.Second)
	reports := make([]meter.Report, 2)
	for _, cmd := range processes {
		cmd.Process.Signal(syscall.SIGUSR2)
	}
	time.Sleep(500 * time.Millisecond)
	for i, cmd := range processes {
		cmd.Process.Signal(os.Interrupt)
		if err := cmd.Wait(); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(l.path([]*Host{a, b}[i].Name + ".report"))
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(data, &reports[i]); err != nil {
			t.Fatal(err)
		}
	}
	there := merge(meter.Flow{From: a.Address, To: b.Address}, reports[0], reports[1])
	back := merge(meter.Flow{From: b.Address, To: a.Address}, reports[1], reports[0])
	if there.Lost < 20 || there.Lost > 60 || there.LongestGap < 250*time.Millisecond || len(there.Gaps) != 1 {
		t.Errorf("the broken direction: %s", Table([]FlowResult{there}))
	}
	if err := Lossless([]FlowResult{back}); err != nil {
		t.Errorf("the other direction: %v", err)
	}
	if there.TCPError != "" || there.BlocksSent != there.BlocksReceived || there.BlocksSent < uint64(3*time.Second/meter.TCPEvery) {
		t.Errorf("TCP did not survive: %s", Table([]FlowResult{there, back}))
	}
}
