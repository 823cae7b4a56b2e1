package meter

import (
	"testing"
	"time"
)

func TestAccount(t *testing.T) {
	start := time.Unix(1_000_000, 0)
	a := newAccount(Flow{}, 10*time.Millisecond)
	for i, seq := range []uint64{0, 1, 2, 4, 3, 3, 200} {
		a.arrive(seq, start.Add(time.Duration(i)*10*time.Millisecond))
	}
	a.arrive(209, start.Add(360*time.Millisecond))
	r := a.report(start.Add(time.Second), false)
	if r.Packets != 7 || r.Highest != 209 || r.LongestLoss != 195 || r.Duplicated != 1 || r.Reordered != 1 {
		t.Errorf("%+v", r)
	}
	if r.LongestGap != 300*time.Millisecond || len(r.Gaps) != 1 || r.Gaps[0] != (Gap{start.Add(60 * time.Millisecond), 300 * time.Millisecond, 8}) {
		t.Errorf("gaps: %+v", r)
	}
	// While packets are expected, the present silence counts, but is not booked twice.
	for i := 0; i < 2; i++ {
		if r := a.report(start.Add(time.Second), true); r.LongestGap != 640*time.Millisecond || len(r.Gaps) != 2 {
			t.Errorf("in a silence: %+v", r)
		}
	}
}

func TestProcessesOnLoopback(t *testing.T) {
	there, back := Flow{"127.0.0.11", "127.0.0.12"}, Flow{"127.0.0.12", "127.0.0.11"}
	var processes []*Process
	for _, f := range []Flow{there, back} {
		p, err := Start(Config{Every: 2 * time.Millisecond, Listen: []string{f.From}, Send: []Sending{{Flow: f}}, TCP: true})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		processes = append(processes, p)
	}
	for _, p := range processes {
		p.StartSending()
	}
	time.Sleep(500 * time.Millisecond)
	for _, p := range processes {
		p.StopSending()
	}
	time.Sleep(100 * time.Millisecond)
	a, b := processes[0].Report(), processes[1].Report()
	if len(a.Sent) != 1 || len(b.Received) != 1 || a.Sent[0].Packets < 50 || a.Sent[0].Packets != b.Received[0].Packets || b.Received[0].Flow != there {
		t.Errorf("sent %+v, received %+v", a.Sent, b.Received)
	}
	if len(b.TCP) != 1 || a.Sent[0].Blocks == 0 || b.TCP[0].Blocks != a.Sent[0].Blocks || b.TCP[0].Error != "" || a.Sent[0].TCPError != "" {
		t.Errorf("TCP: sent %+v, received %+v", a.Sent, b.TCP)
	}
}

// A flow may have fewer packets than the others.
func TestSeldom(t *testing.T) {
	often, seldom := Flow{"127.0.0.13", "127.0.0.14"}, Flow{"127.0.0.14", "127.0.0.13"}
	p, err := Start(Config{Every: 2 * time.Millisecond, Listen: []string{often.From, often.To}, Send: []Sending{{Flow: often}, {seldom, 40 * time.Millisecond}}})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	p.StartSending()
	time.Sleep(500 * time.Millisecond)
	p.StopSending()
	r := p.Report()
	if many, few := r.Sent[0].Packets, r.Sent[1].Packets; few < 2 || few != (many+19)/20 {
		t.Errorf("sent %d and %d packets, wanted 20 to 1", many, few)
	}
}
