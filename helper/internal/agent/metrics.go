package agent

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"sync"
	"time"

	"golang.org/x/net/netutil"

	"mobula/helper/internal/localsocket"
	"mobula/helper/internal/metrics"
	"mobula/helper/internal/nameserver"
	"mobula/helper/internal/netns"
	"mobula/helper/internal/spec"
	"mobula/helper/internal/store"
	"mobula/helper/internal/vswitch"
	"mobula/helper/internal/web"
)

// maxScrapers bounds the connections to each of the sockets. Who comes then waits at the
// host's, and is turned away inside.
const maxScrapers = 16

// scrapeLimits are those inside: for some Prometheus that look every few seconds, and less
// than a twentieth of a processor with 3,000 peers. One host's connections are fewer than what is
// answered at a time: whatever runs there may ask, and must not keep Prometheus out.
var scrapeLimits = web.Limits{Each: 1, EachBurst: 5, All: 3, AllBurst: 20, Conns: maxScrapers, ConnsEach: 3}

// metricsServer tells Prometheus what the agent knows: on a socket that is root's alone, and
// inside, where the document says so, to programs of the hosts.
type metricsServer struct {
	agent *Agent
	// network is what is known of it and whether the NIC stays with the host; nil: it does not run.
	network func() (n *metrics.Network, sharedUplink bool)
	repairs func() metrics.Repairs
	// callsRefused are of those who asked for what all hosts say, pageRefused the page's.
	callsRefused, pageRefused func() uint64

	handler http.Handler // of all sockets: one scrape at a time
	inside  insideServer

	mu  sync.Mutex
	dns *nameserver.Server // nil: there is none
}

func newMetricsServer(a *Agent, network func() (*metrics.Network, bool), repairs func() metrics.Repairs) *metricsServer {
	none := func() uint64 { return 0 }
	m := &metricsServer{agent: a, network: network, repairs: repairs, callsRefused: none, pageRefused: none}
	m.handler = metrics.Handler(metrics.Collector(m.look))
	m.inside = insideServer{what: "metrics", log: a.Log, limits: scrapeLimits, server: func(d *web.Door) *http.Server { return metrics.Server(d.Guard(m.handler)) }}
	return m
}

// start serves the socket of the host.
func (m *metricsServer) start(ctx context.Context, path string) error {
	if path == "" {
		return nil
	}
	listener, err := localsocket.Listen(path)
	if err != nil {
		return err
	}
	go func() {
		if err := web.Serve(ctx, []net.Listener{netutil.LimitListener(listener, maxScrapers)}, nil, metrics.Server(m.handler)); err != nil {
			m.agent.Log.Warn("serving metrics ended", "error", err)
		}
	}()
	return nil
}

// follow has the series be inside where what runs says so.
func (m *metricsServer) follow(ctx context.Context, p *parts, running *store.Change) {
	m.mu.Lock()
	if m.dns = nil; p.dns != nil {
		m.dns = p.dns.server
	}
	m.mu.Unlock()
	var want place
	if self, _ := running.Self(); self.Metrics {
		want = place{namespace: netns.Inode(spec.Namespace), at: []netip.AddrPort{netip.AddrPortFrom(running.Document.DirectGateway(), spec.MetricsTCPPort)}}
	}
	m.inside.follow(ctx, want, running)
}

// look takes a snapshot for one scrape.
func (m *metricsServer) look() metrics.Snapshot {
	a := m.agent
	s := metrics.Snapshot{Version: a.Version, GoVersion: runtime.Version(), Repairs: m.repairs(), CallsRefused: m.callsRefused(),
		ScrapesRefused: m.inside.refused.Load(), PageRefused: m.pageRefused()}
	if a.Pending != nil {
		s.Pending = a.Pending()
	}
	m.mu.Lock()
	server := m.dns
	m.mu.Unlock()
	if server != nil {
		stats := server.Stats()
		s.DNS = &stats
	}
	network, sharedUplink := m.network()
	if s.Network = network; network != nil {
		if n, err := vswitch.CountDropped(a.SwitchDir, spec.SwitchBridge, time.Second); err == nil {
			s.DroppedFrames = &n
		}
		if n, err := vswitch.CountFlooded(a.SwitchDir, spec.SwitchBridge, time.Second); err == nil {
			s.FloodedFrames = &n
		}
		if a.Counters != nil {
			s.Gateway = a.counters(sharedUplink)
		}
	}
	return s
}

// counters reads those of the gateway's rules; nil: they cannot be read.
func (a *Agent) counters(sharedUplink bool) *metrics.Gateway {
	counted, err := a.Counters(sharedUplink)
	if err != nil {
		a.Log.Debug("reading the counters of the gateway's rules", "error", err)
		return nil
	}
	return counted
}
