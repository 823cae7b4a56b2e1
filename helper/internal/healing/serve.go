package healing

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"

	"mobula/helper/internal/links"
	"mobula/helper/internal/netns"
	"mobula/helper/internal/network"
	"mobula/helper/internal/probe"
	"mobula/helper/internal/rawudp"
	"mobula/helper/internal/sourceport"
	"mobula/helper/internal/spec"
	"mobula/helper/internal/store"
	"mobula/helper/internal/wireguard"
)

// Serve has the current healer (nil: none) follow what runs, or starts another one where it
// cannot; nil: there is nothing to heal, or it cannot be started yet.
func Serve(ctx context.Context, c Config, current *Healer, running *store.Change) *Healer {
	if running == nil || running.Document == nil {
		current.Stop()
		return nil
	}
	self, ok := running.Self()
	inode := netns.Inode(spec.Namespace)
	if current != nil && current.namespace == inode && current.self.ListenPort() == self.ListenPort() && current.self.ID == self.ID && current.ranges == running.Document.Ranges &&
		underlayNamespace(current.self) == underlayNamespace(self) {
		if err := current.Follow(running); err != nil {
			c.Log.Warn("following the network document", "error", err)
		}
		return current
	}
	current.Stop()
	if !ok || inode == 0 {
		return nil
	}
	h, err := start(ctx, c, inode, running, self)
	if err != nil {
		c.Log.Warn("starting to watch paths", "error", err)
		return nil
	}
	c.Log.Info("watching paths", "peers", len(h.peers), "generation", h.generation)
	return h
}

// underlayNamespace names the network namespace that WireGuard's encrypted packets
// come to, where direct probes go beside them; "" is the host's own.
func underlayNamespace(self network.Host) string {
	if self.SharedUplink {
		return ""
	}
	return spec.Namespace
}

// start starts a healer in the namespace of that inode, which was there before the sockets are.
func start(ctx context.Context, c Config, namespace uint64, running *store.Change, self network.Host) (*Healer, error) {
	inside, err := listen(fmt.Sprintf("%s:%d", running.Document.DirectGateway(), spec.ProbeUDPPort))
	if err != nil {
		return nil, err
	}
	below, err := rawudp.Listen(underlayNamespace(self), self.ListenPort(), probe.Magic)
	if err != nil {
		inside.Close()
		return nil, err
	}
	kept, err := wireguard.Keep(spec.Namespace)
	if err != nil {
		return nil, errors.Join(err, inside.Close(), below.Close())
	}
	h := New(c, namespace, inside, below, wireguard.On(kept, spec.WireLink, nil))
	underlay := underlayNamespace(self)
	h.kept, h.underlay = kept, &underlay
	if err := sourceport.End(underlay); err != nil {
		c.Log.Warn("an agent that was killed may have left another port", "error", err)
	}
	sockets := []io.Closer{inside, below, kept}
	if self.SharedUplink {
		if h.below6 = below6(c, self); h.below6 != nil {
			sockets = append(sockets, h.below6)
		}
	}
	h.networks = func() ([]netip.Prefix, error) { return links.Nearby(underlay) }
	h.outside6 = func() (netip.Addr, error) { return links.Outside6(underlay) }
	if err := h.Follow(running); err != nil {
		for _, s := range sockets {
			err = errors.Join(err, s.Close())
		}
		return nil, err
	}
	// Paths are kept whether anybody can ask how they are or not.
	if questions, err := listen(fmt.Sprintf("%s:%d", running.Document.DirectGateway(), spec.MeshUDPPort)); err == nil {
		h.mesh = h.meshService(questions)
	} else {
		c.Log.Warn("answering how the network is", "error", err)
	}
	if socket, err := listen(fmt.Sprintf("%s:%d", running.Document.DirectGateway(), spec.CarryUDPPort)); err == nil {
		h.carrier = h.newCarrier(roomy(socket), openLocal(underlay, self.ListenPort()))
	} else {
		c.Log.Warn("carrying for others", "error", err)
	}
	h.Start(ctx)
	h.watchLeaving()
	return h, nil
}

// below6 is the socket beside WireGuard over IPv6; nil: the host goes on without.
func below6(c Config, self network.Host) Answering {
	if _, err := os.Stat("/proc/net/if_inet6"); errors.Is(err, fs.ErrNotExist) {
		return nil // the kernel has none
	}
	socket, err := rawudp.Listen6(underlayNamespace(self), self.ListenPort(), probe.Magic)
	if err != nil {
		c.Log.Warn("probing over IPv6", "error", err)
		return nil
	}
	return socket
}
