package vswitch

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"path/filepath"
	"testing"
	"time"
)

// sentFlow is a flow as the switch sends it (OpenFlow 1.4 section 7.3.5.2).
func sentFlow(table byte, cookie, packets uint64, match, actions []byte) []byte {
	f := make([]byte, ofFlowSize)
	f[2] = table
	binary.BigEndian.PutUint32(f[4:], uint32(packets)) // as old as that
	binary.BigEndian.PutUint16(f[12:], 300)
	binary.BigEndian.PutUint64(f[24:], cookie)
	binary.BigEndian.PutUint64(f[32:], packets)
	f = binary.BigEndian.AppendUint16(f, 1) // OFPMT_OXM
	f = binary.BigEndian.AppendUint16(f, uint16(ofMatchHeader+len(match)))
	f = append(f, match...)
	for len(f)%8 != 0 {
		f = append(f, 0)
	}
	f = append(f, actions...)
	binary.BigEndian.PutUint16(f, uint16(len(f)))
	return f
}

var (
	fromPort1  = []byte{0x80, 0, 0, 4, 0, 0, 0, 1}
	fromRemote = append(append([]byte{}, fromPort1...), 0, 1, 0x3e, 4, 10, 30, 1, 0)
)

func TestFlowsAsBytes(t *testing.T) {
	const own = cookieTag | classStatic | 7
	one, other := sentFlow(0, own, 3, fromRemote, []byte{1}), sentFlow(20, own+1, 0, fromPort1, []byte{2})
	learned := sentFlow(tableLearned, cookieLearnedOwn, 0, fromPort1, []byte{3})
	read := func(parts ...[]byte) installed {
		t.Helper()
		var have installed
		for _, p := range parts {
			var err error
			if have, err = have.add(p); err != nil {
				t.Fatal(err)
			}
		}
		return have
	}
	have := read(append(append([]byte{}, one...), learned...), other)
	if len(have) != 2 || have[0].table != 0 || have[0].cookie != own || have[1].table != 20 {
		t.Errorf("found %+v, wanted the two that were not learned", have)
	}
	if remotes := have.remotes(); len(remotes) != 1 || !remotes["10.30.1.0"] {
		t.Errorf("accepts %v", remotes)
	}
	digest := have.digest()
	for what, same := range map[string]installed{
		"another order": read(other, one),
		"more packets":  read(sentFlow(0, own, 99, fromRemote, []byte{1}), other),
	} {
		if same.digest() != digest {
			t.Errorf("%s: another digest", what)
		}
	}
	for what, different := range map[string]installed{
		"another action": read(sentFlow(0, own, 3, fromRemote, []byte{9}), other),
		"another match":  read(sentFlow(0, own, 3, fromPort1, []byte{1}), other),
		"another table":  read(sentFlow(1, own, 3, fromRemote, []byte{1}), other),
		"another cookie": read(sentFlow(0, own+2, 3, fromRemote, []byte{1}), other),
		"one less":       read(one),
		"one twice":      read(one, one, other),
	} {
		if different.digest() == digest {
			t.Errorf("%s: the same digest", what)
		}
	}
}

func TestFlowsThatAreNone(t *testing.T) {
	good := sentFlow(0, 1, 0, fromPort1, []byte{1, 2, 3, 4})
	for n := 1; n < len(good); n++ {
		if _, err := installed(nil).add(good[:n]); err == nil {
			t.Errorf("the first %d bytes of a flow were taken", n)
		}
	}
	for _, damage := range []func([]byte){
		func(b []byte) { binary.BigEndian.PutUint16(b, 0) },
		func(b []byte) { binary.BigEndian.PutUint16(b[ofFlowSize+2:], 3) },
		func(b []byte) { binary.BigEndian.PutUint16(b[ofFlowSize+2:], 0xffff) },
	} {
		bad := append([]byte{}, good...)
		damage(bad)
		if _, err := installed(nil).add(bad); err == nil {
			t.Errorf("% x was taken", bad)
		}
	}
}

// TestASwitchThatDoesNotAnswer: what is asked of it next waits for it no more.
func TestASwitchThatDoesNotAnswer(t *testing.T) {
	dir := t.TempDir()
	listener, err := net.Listen("unix", filepath.Join(dir, "br.mgmt"))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(io.Discard, conn); conn.Close() }()
		}
	}()
	s := New(Options{RunDir: dir, CommandTimeout: 100 * time.Millisecond})
	if _, err := s.installedFlows(context.Background(), "br"); err == nil {
		t.Fatal("it answered")
	}
	if !s.tools.hangs || s.tools.limit() > hungTimeout {
		t.Error("it is waited for as before")
	}
}
