package healing

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"mobula/helper/internal/localsocket"
	"mobula/helper/internal/mesh"
	"mobula/helper/internal/report"
)

// Teller tells on sockets that are root's alone how the paths are: the state of this host, and
// what all hosts say, as JSON for whoever connects. Nothing is computed for nobody.
type Teller struct {
	Log  *slog.Logger
	mu   sync.Mutex
	heal *Healer
	// refused counts who asked for what all hosts say while too many did.
	refused atomic.Uint64
}

// Set has it tell of this healer; nil: there is none.
func (t *Teller) Set(h *Healer) {
	t.mu.Lock()
	t.heal = h
	t.mu.Unlock()
}

// Start tells the state on a socket until the context ends.
func (t *Teller) Start(ctx context.Context, path string) error {
	return localsocket.Serve(ctx, path, t.answer)
}

// healer returns what watches paths now; nil: nothing does.
func (t *Teller) healer() *Healer {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.heal
}

func (t *Teller) answer(conn net.Conn) {
	defer conn.Close()
	var state State
	if heal := t.healer(); heal != nil {
		state = heal.state()
	}
	_ = conn.SetWriteDeadline(time.Now().Add(5 * time.Second))
	if err := json.NewEncoder(conn).Encode(state); err != nil {
		t.Log.Debug("telling the state", "error", err)
	}
}

// meshPatience is how long who asks this agent waits, beyond the time that asking may take.
const meshPatience = 5 * time.Second

// maxMeshCalls bounds who may wait at a time for what all hosts say.
const maxMeshCalls = 8

// meshReply is what the agent tells on its socket: one of the two.
type meshReply struct {
	Mesh  *report.Mesh `json:"mesh,omitempty"`
	Error string       `json:"error,omitempty"`
}

// StartMesh asks all hosts for whoever connects to a socket, until the context ends; "": there
// is none.
func (t *Teller) StartMesh(ctx context.Context, path string) error {
	if path == "" {
		return nil
	}
	room := make(chan struct{}, maxMeshCalls)
	return localsocket.Serve(ctx, path, func(conn net.Conn) {
		select {
		case room <- struct{}{}:
		default:
			t.refused.Add(1)
			t.tellMesh(conn, meshReply{Error: fmt.Sprintf("%d others are waiting for an answer already", maxMeshCalls)})
			return
		}
		go func() {
			defer func() { <-room }()
			t.tellMesh(conn, t.askMesh(ctx))
		}()
	})
}

func (t *Teller) askMesh(ctx context.Context) meshReply {
	heal := t.healer()
	if heal == nil || heal.mesh == nil {
		return meshReply{Error: "Mobula does not run on this host, or its agent has just begun"}
	}
	ctx, cancel := context.WithTimeout(ctx, mesh.Deadline+meshPatience/2)
	defer cancel()
	m, err := heal.mesh.Ask(ctx)
	if err != nil {
		return meshReply{Error: err.Error()}
	}
	return meshReply{Mesh: m}
}

func (t *Teller) tellMesh(conn net.Conn, reply meshReply) {
	defer conn.Close()
	_ = conn.SetWriteDeadline(time.Now().Add(meshPatience))
	if err := json.NewEncoder(conn).Encode(reply); err != nil {
		t.Log.Debug("telling what all hosts say", "error", err)
	}
}

// Mesh asks all hosts.
func (t *Teller) Mesh(ctx context.Context) (*report.Mesh, error) {
	reply := t.askMesh(ctx)
	if reply.Mesh == nil {
		return nil, errors.New(reply.Error)
	}
	return reply.Mesh, nil
}

// Ways are those of this host; nil: nothing is known.
func (t *Teller) Ways() []report.Way {
	if heal := t.healer(); heal != nil {
		return heal.view().Ways
	}
	return nil
}

// Refused counts who asked for what all hosts say while too many did.
func (t *Teller) Refused() uint64 { return t.refused.Load() }
