package healing

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"mobula/helper/internal/mesh"
	"mobula/helper/internal/network"
	"mobula/helper/internal/paths"
	"mobula/helper/internal/report"
)

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
	if !report.Printable(s.Generation) {
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
	case p.Name != nil && !(network.IsDNSName(p.Name.Name) && report.Printable(p.Name.Problem) && report.Printable(p.Name.Endpoint.Addr().Zone())):
		return fmt.Errorf("endpoint name: found %q, %q and %s, wanted a name and printable text", p.Name.Name, p.Name.Problem, p.Name.Endpoint)
	case !report.Printable(p.Problem) || !report.Printable(p.Endpoint.Addr().Zone()):
		return fmt.Errorf("found %q and %s, wanted printable text", p.Problem, p.Endpoint)
	}
	for _, e := range p.OtherEndpoints {
		if !share(e.Loss) || e.RTT < 0 || !report.Printable(e.Endpoint.Addr().Zone()) {
			return fmt.Errorf("other endpoints: found %+q, wanted shares in 0..1, no negative time and printable text", fmt.Sprint(e))
		}
	}
	return nil
}

// ReadMesh has the running agent ask all hosts, and returns what they say, without what
// follows from it. It fails if there is no agent, when the context ends, and after
// mesh.Deadline and some seconds.
func ReadMesh(ctx context.Context, path string) (*report.Mesh, error) {
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	_ = conn.SetReadDeadline(time.Now().Add(mesh.Deadline + meshPatience))
	return decodeMesh(conn)
}

// maxMeshBytes is far more than an agent tells.
const maxMeshBytes = 64 << 20

// decodeMesh trusts the agent as little as decodeState does.
func decodeMesh(from io.Reader) (*report.Mesh, error) {
	var reply meshReply
	if err := json.NewDecoder(io.LimitReader(from, maxMeshBytes)).Decode(&reply); err != nil {
		return nil, err
	}
	switch {
	case !report.Printable(reply.Error):
		return nil, fmt.Errorf("found %q, wanted printable text", reply.Error)
	case reply.Error != "":
		return nil, errors.New(reply.Error)
	case reply.Mesh == nil:
		return nil, errors.New("the agent says nothing")
	}
	return reply.Mesh, reply.Mesh.Validate()
}
