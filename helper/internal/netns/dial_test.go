package netns_test

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"mobula/helper/internal/netns"
	"mobula/helper/internal/netns/netnstest"
)

// TestWaitingTakesNoThread has more connections wait than an agent may have
// threads.
func TestWaitingTakesNoThread(t *testing.T) {
	if !netnstest.Alone(t) {
		return
	}
	const name, many = "other", 200
	netnstest.Namespace(t, name)
	address := netnstest.Deaf(t, name, 0).String()
	before := netnstest.Threads(t)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	var all sync.WaitGroup
	began := time.Now()
	for i := 0; i < many; i++ {
		all.Add(1)
		go func() {
			defer all.Done()
			if _, err := netns.Dial(ctx, name, "tcp", address); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("found %v, wanted %v", err, context.DeadlineExceeded)
			}
		}()
	}
	most := 0
	for time.Since(began) < 1500*time.Millisecond {
		most = max(most, netnstest.Threads(t))
		time.Sleep(time.Millisecond)
	}
	if most > before+16 {
		t.Errorf("found %d threads while %d connections are waited for, %d before", most, many, before)
	}
	all.Wait()
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("the last one ended after %v, wanted 2 s", took)
	}
}

func TestDial(t *testing.T) {
	if !netnstest.Alone(t) {
		return
	}
	const name = "other"
	netnstest.Namespace(t, name)
	var listener net.Listener
	var packets net.PacketConn
	err := netns.Do(name, func() (err error) {
		if listener, err = net.Listen("tcp4", "127.0.0.1:5353"); err != nil {
			return err
		}
		packets, err = net.ListenPacket("udp4", "127.0.0.1:5353")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			conn.Write([]byte("tcp"))
			conn.Close()
		}
	}()
	go func() {
		b := make([]byte, 10)
		for {
			n, from, err := packets.ReadFrom(b)
			if err != nil {
				return
			}
			packets.WriteTo(b[:n], from)
		}
	}()
	ctx := context.Background()
	for network, says := range map[string]string{"tcp": "tcp", "udp": "udp"} {
		conn, err := netns.Dial(ctx, name, network, "127.0.0.1:5353")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if network == "udp" {
			conn.Write([]byte(says))
		}
		b := make([]byte, 10)
		conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		if n, err := conn.Read(b); err != nil || string(b[:n]) != says {
			t.Errorf("%s: found %q, %v", network, b[:n], err)
		}
		conn.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		if network == "udp" {
			if _, err := conn.Read(b); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("a deadline: found %v", err)
			}
		}
	}
	for about, c := range map[string]struct {
		namespace, network, address string
		want                        error
	}{
		"nobody listens":             {name, "tcp", "127.0.0.1:9", syscall.ECONNREFUSED},
		"no route":                   {name, "udp", "192.0.2.1:53", syscall.ENETUNREACH},
		"listens in another":         {"", "tcp", "127.0.0.1:5353", syscall.ECONNREFUSED},
		"no such namespace":          {"none", "tcp", "127.0.0.1:53", os.ErrNotExist},
		"a network that is not made": {name, "unix", "127.0.0.1:53", net.UnknownNetworkError("unix")},
	} {
		if _, err := netns.Dial(ctx, c.namespace, c.network, c.address); !errors.Is(err, c.want) {
			t.Errorf("%s: found %v, wanted %v", about, err, c.want)
		}
	}
	if _, err := netns.Dial(ctx, name, "tcp", "localhost:53"); err == nil {
		t.Error("a name was dialed")
	}
	over, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := netns.Dial(over, name, "tcp", "127.0.0.1:5353"); !errors.Is(err, context.Canceled) {
		t.Errorf("found %v, wanted %v", err, context.Canceled)
	}
}
