package healing

import (
	"context"
	"io"
	"log/slog"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"mobula/helper/internal/network"
	"mobula/helper/internal/store"
	"mobula/helper/internal/wireguard"
)

// TestInsidersOfHealers: what a host's socket says of names and clients is what its document
// has, and where the kernel of whichever host shook hands with a client. A host of the version
// before, or none, is told of; and another document is followed.
func TestInsidersOfHealers(t *testing.T) {
	n := speaking(t, 3, 1, 2)
	up := func(p PeerState) bool { return p.State == "up" }
	n.peer(1, 2, "up", up)
	n.peer(1, 3, "up", up)
	laptop, phone := network.Key{1, 2, 3}, network.Key{4, 5, 6}
	document := *n.healers[1].change.Document
	document.Names = []network.Name{{Address: netip.MustParseAddr("10.31.200.4"), Names: []string{"git.example.com"}}}
	document.Clients = []network.Client{{Address: netip.MustParseAddr("10.30.128.1"), PublicKey: laptop, Name: "laptop.example.com"}, {Address: netip.MustParseAddr("10.30.128.2"), PublicKey: phone}}
	began := time.Now().Add(-time.Second).Truncate(time.Second)
	for _, id := range []uint16{1, 2} {
		if err := n.healers[id].Follow(&store.Change{HostID: id, Document: &document}); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.healers[2].SetEndpoint(laptop, netip.MustParseAddrPort("192.0.2.99:4000")); err != nil {
		t.Fatal(err)
	}
	server := &Teller{Log: slog.New(slog.NewTextHandler(io.Discard, nil))}
	server.Set(n.healers[1].Healer)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	path := filepath.Join(t.TempDir(), "mesh.sock")
	if err := server.StartMesh(ctx, path); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(300 * time.Millisecond) {
		m, err := ReadMesh(context.Background(), path)
		if err != nil {
			t.Fatal(err)
		}
		if m.Clients == nil || len(m.Clients.List) != 2 || m.Names == nil {
			t.Fatalf("found %+v and %+v", m.Names, m.Clients)
		}
		first := m.Clients.List[0]
		if first.LastHandshake == nil && time.Now().Before(deadline) { // the other host has not looked yet
			continue
		}
		if first.Name != "laptop.example.com" || first.HostID != 2 || first.LastHandshake == nil || first.LastHandshake.Before(began) {
			t.Errorf("found %+v, heard at %v, wanted the laptop heard by host 2", first, first.LastHandshake)
		}
		if second := m.Clients.List[1]; second.Name != "" || second.Address != document.Clients[1].Address || second.LastHandshake != nil || second.HostID != 0 {
			t.Errorf("found %+v, wanted one that nobody heard", second)
		}
		if at := m.Clients.UnknownAt; len(at) != 1 || at[0] != 3 {
			t.Errorf("found %v, wanted host 3, which says nothing", at)
		}
		want := []string{"a.example.com 10.31.128.1 host", "b.example.com 10.31.128.2 host", "c.example.com 10.31.128.3 host", "git.example.com 10.31.200.4 extra", "laptop.example.com 10.30.128.1 client"}
		if len(m.Names.List) != len(want) {
			t.Fatalf("found %v", m.Names.List)
		}
		for i, name := range m.Names.List {
			if found := name.Name + " " + name.Address.String() + " " + name.Of; found != want[i] {
				t.Errorf("found %q, wanted %q", found, want[i])
			}
		}
		return
	}
}

// TestClocksThatWereSetBack: of a handshake that is still to come nobody knows when it was,
// so it does not hide a later one that another host heard.
func TestClocksThatWereSetBack(t *testing.T) {
	key := network.Key{1, 2, 3}
	in := insidersOf(&network.Document{Clients: []network.Client{{Address: netip.MustParseAddr("10.30.128.1"), PublicKey: key}}})
	now := time.Now()
	for ahead, known := range map[time.Duration]bool{-time.Hour: true, time.Second: true, time.Hour: false} {
		in.look(1, []wireguard.PeerState{{PublicKey: key, LastHandshake: now.Add(ahead)}})
		if c := in.list()[0]; (c.LastHandshake != nil) != known || (c.HostID == 1) != known {
			t.Errorf("%v ahead: found %+v, wanted it known: %v", ahead, c, known)
		}
	}
}
