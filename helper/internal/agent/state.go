package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"
	"unicode"

	"mobula/helper/internal/network"
	"mobula/helper/internal/paths"
	"mobula/helper/internal/probe"
)

var background = context.Background()

// State is what the agent tells whoever connects to its socket.
type State struct {
	Generation string      `json:"generation"`
	Peers      []PeerState `json:"peers"`
	// Unverified counts the direct messages from where no peer is known to be that
	// were too many to be verified.
	Unverified uint64 `json:"unverified_messages,omitempty"`
}

// PeerState is how the way to a peer is.
type PeerState struct {
	HostID uint16 `json:"host_id"`
	// State is "up", "down" or "unknown".
	State string `json:"state"`
	// Via is the host ID of the relay; 0: direct.
	Via   uint16    `json:"via"`
	Since time.Time `json:"since"`
	// RTT in milliseconds; 0: not known.
	RTT float64 `json:"rtt_ms"`
	// Loss is the share of lost probes over the last 10 to 20 s, LossMinutes
	// over five minutes, both ways together, 0..1.
	Loss        float64 `json:"loss"`
	LossMinutes float64 `json:"loss_minutes"`
	// DirectRTT and DirectLoss are of the direct path while traffic is relayed.
	// DirectWell is for how many seconds it has been well; after DirectHold seconds
	// it is taken again.
	DirectRTT  float64        `json:"direct_rtt_ms,omitempty"`
	DirectLoss float64        `json:"direct_loss,omitempty"`
	DirectWell float64        `json:"direct_well_s,omitempty"`
	DirectHold float64        `json:"direct_hold_s,omitempty"`
	Problem    string         `json:"problem,omitempty"`
	Endpoint   netip.AddrPort `json:"endpoint"`
	// Name is the name that the peer's endpoint has in the document, if it is one.
	Name *NameState `json:"endpoint_name,omitempty"`
	// Generation tells whether the peer runs the same one: one of the constants.
	Generation string `json:"generation"`
	// Unanswered counts the peer's probes that were too many to be answered, Unverified
	// the direct messages from its address that were too many to be verified.
	Unanswered uint64 `json:"unanswered_probes,omitempty"`
	Unverified uint64 `json:"unverified_messages,omitempty"`
	// LastHeard is when the peer's agent last said anything.
	LastHeard *time.Time `json:"last_heard"`
}

// NameState is what is known about the name of an endpoint.
type NameState struct {
	Name string `json:"name"`
	// Endpoint is what it stands for, as far as is known, and Changed since when that is
	// not what the document says; nil: it is.
	Endpoint netip.AddrPort `json:"endpoint"`
	Changed  *time.Time     `json:"changed,omitempty"`
	// Problem is why it could not be looked up last time, since Since.
	Problem string     `json:"problem,omitempty"`
	Since   *time.Time `json:"problem_since,omitempty"`
}

// What a PeerState says of a peer's generation.
const (
	generationSame      = "same"
	generationDifferent = "different"
	generationUnknown   = "unknown"
)

// state describes all peers.
func (h *healer) state() State {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.now()
	began := time.Now().Add(-now)
	s := State{Generation: h.generation, Peers: []PeerState{}, Unverified: h.unverified}
	for _, r := range h.engine.Reports(now) {
		other := h.peers[r.Peer]
		p := PeerState{HostID: r.Peer, State: r.State, Via: r.Via, Since: began.Add(r.Since), RTT: milliseconds(r.RTT),
			Loss: r.LossNow, LossMinutes: r.LossMinutes, DirectRTT: milliseconds(r.DirectRTT), DirectLoss: r.DirectLoss,
			DirectWell: r.DirectWell.Seconds(), DirectHold: r.DirectHold.Seconds(),
			Problem: r.Problem, Endpoint: r.Endpoint, Generation: generationUnknown,
			Unanswered: other.unanswered, Unverified: other.unverified}
		switch other.generation {
		case probe.Generation{}:
		case h.number:
			p.Generation = generationSame
		default:
			p.Generation = generationDifferent
		}
		if !other.heard.IsZero() {
			heard := other.heard
			p.LastHeard = &heard
		}
		p.Name = h.nameState(r.Peer, began)
		if r.State == paths.StateUnknown {
			p.RTT = 0
		}
		s.Peers = append(s.Peers, p)
	}
	return s
}

// nameState describes the name of a peer's endpoint; nil: it has none.
func (h *healer) nameState(id uint16, began time.Time) *NameState {
	r, named := h.names.Report(id)
	if !named {
		return nil
	}
	s := &NameState{Name: r.Name, Endpoint: r.Endpoint, Problem: r.Problem}
	if r.Changed != 0 {
		changed := began.Add(r.Changed)
		s.Changed = &changed
	}
	if r.Problem != "" {
		since := began.Add(r.Since)
		s.Since = &since
	}
	return s
}

func milliseconds(d time.Duration) float64 { return float64(d.Round(10*time.Microsecond)) / 1e6 }

// stateServer writes the state as JSON to whoever connects. Nothing is computed
// for nobody.
type stateServer struct {
	path string
	log  *slog.Logger
	mu   sync.Mutex
	heal *healer
}

func (s *stateServer) set(h *healer) {
	s.mu.Lock()
	s.heal = h
	s.mu.Unlock()
}

func (s *stateServer) start(ctx context.Context) error {
	if err := os.Remove(s.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	listener, err := net.Listen("unix", s.path)
	if err != nil {
		return err
	}
	if err := os.Chmod(s.path, 0o600); err != nil {
		listener.Close()
		return err
	}
	go func() {
		<-ctx.Done()
		listener.Close()
	}()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			s.answer(conn)
		}
	}()
	return nil
}

func (s *stateServer) answer(conn net.Conn) {
	defer conn.Close()
	s.mu.Lock()
	heal := s.heal
	s.mu.Unlock()
	var state State
	if heal != nil {
		state = heal.state()
	}
	_ = conn.SetWriteDeadline(time.Now().Add(5 * time.Second))
	if err := json.NewEncoder(conn).Encode(state); err != nil {
		s.log.Debug("telling the state", "error", err)
	}
}

// ReadState asks the running agent. It fails if there is none.
func ReadState(path string) (*State, error) {
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	return decodeState(conn)
}

// maxStateBytes is far more than 32,767 peers need.
const maxStateBytes = 32 << 20

// decodeState reads a state strictly. The agent parses what strangers send and
// may do less than who asks it, so nothing it says goes to a terminal unread.
func decodeState(from io.Reader) (*State, error) {
	var s State
	if err := json.NewDecoder(io.LimitReader(from, maxStateBytes)).Decode(&s); err != nil {
		return nil, err
	}
	if !printable(s.Generation) {
		return nil, fmt.Errorf("generation: found %q, wanted printable text", s.Generation)
	}
	for _, p := range s.Peers {
		if err := p.validate(); err != nil {
			return nil, fmt.Errorf("peer %d: %w", p.HostID, err)
		}
	}
	return &s, nil
}

func (p *PeerState) validate() error {
	share := func(f float64) bool { return f >= 0 && f <= 1 }
	switch {
	case p.State != paths.StateUp && p.State != paths.StateDown && p.State != paths.StateUnknown:
		return fmt.Errorf("state: found %q, wanted up, down or unknown", p.State)
	case p.Generation != generationSame && p.Generation != generationDifferent && p.Generation != generationUnknown:
		return fmt.Errorf("generation: found %q, wanted same, different or unknown", p.Generation)
	case !share(p.Loss) || !share(p.LossMinutes) || !share(p.DirectLoss):
		return fmt.Errorf("loss: found %v, %v, %v, wanted shares in 0..1", p.Loss, p.LossMinutes, p.DirectLoss)
	case p.RTT < 0 || p.DirectRTT < 0 || p.DirectWell < 0 || p.DirectHold < 0:
		return fmt.Errorf("round trips, well and hold: found %v and %v ms, %v and %v s, wanted no negative time", p.RTT, p.DirectRTT, p.DirectWell, p.DirectHold)
	case p.Name != nil && !(network.IsDNSName(p.Name.Name) && printable(p.Name.Problem) && printable(p.Name.Endpoint.Addr().Zone())):
		return fmt.Errorf("endpoint name: found %q, %q and %s, wanted a name and printable text", p.Name.Name, p.Name.Problem, p.Name.Endpoint)
	case !printable(p.Problem) || !printable(p.Endpoint.Addr().Zone()):
		return fmt.Errorf("found %q and %s, wanted printable text", p.Problem, p.Endpoint)
	}
	return nil
}

// printable reports whether a text does nothing to a terminal but appear.
func printable(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
}
