package agent

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
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

const (
	// maxScrapers bounds the connections to each of the sockets. Who comes then waits at the
	// host's, and is turned away inside.
	maxScrapers = 16
	// maxScrapersOfHost bounds those of one host inside. They are fewer than what is answered
	// at a time: whatever runs on a host may ask, and must not keep Prometheus out.
	maxScrapersOfHost = 3
)

// scrapeLimits are those inside: for some Prometheus that look every few seconds, and less
// than a twentieth of a processor with 3,000 peers.
var scrapeLimits = web.Limits{Each: 1, EachBurst: 5, All: 3, AllBurst: 20}

// metricsServer tells Prometheus what the agent knows: on a socket that is root's alone, and
// inside, where the document says so, to programs of the hosts.
type metricsServer struct {
	agent *Agent
	// network is what is known of it and whether the NIC stays with the host; nil: it does not run.
	network func() (n *metrics.Network, sharedUplink bool)
	repairs func() metrics.Repairs
	// callsRefused are of those who asked for what all hosts say, pageRefused the page's.
	callsRefused, pageRefused func() uint64

	handler http.Handler  // of all sockets: one scrape at a time
	serving insideService // what runs; only follow touches it
	failed  string        // what was said last of why it does not
	refused atomic.Uint64 // scrapes beyond scrapeLimits

	mu  sync.Mutex
	dns *nameserver.Server // nil: there is none
}

// insideService is where the series are inside.
type insideService struct {
	namespace uint64 // inode; 0: nowhere
	at        netip.AddrPort
	change    *store.Change // of which the door knows the names
	door      *web.Door
	close     func()
}

func newMetricsServer(a *Agent, network func() (*metrics.Network, bool), repairs func() metrics.Repairs) *metricsServer {
	none := func() uint64 { return 0 }
	m := &metricsServer{agent: a, network: network, repairs: repairs, callsRefused: none, pageRefused: none}
	m.handler = metrics.Handler(metrics.Collector(m.look))
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
	m.serve(ctx, netutil.LimitListener(listener, maxScrapers), m.handler)
	return nil
}

// serve answers until the context ends, or what it returns is called.
func (m *metricsServer) serve(ctx context.Context, listener net.Listener, h http.Handler) (stop func()) {
	server := metrics.Server(h)
	ctx, stop = context.WithCancel(ctx)
	context.AfterFunc(ctx, func() { server.Close() })
	go func() { _ = server.Serve(listener) }() // until it is closed
	return stop
}

// follow has the series be inside where what runs says so.
func (m *metricsServer) follow(ctx context.Context, p *parts, running *store.Change) {
	m.mu.Lock()
	if m.dns = nil; p.dns != nil {
		m.dns = p.dns.server
	}
	m.mu.Unlock()
	want := insideService{}
	if running != nil && running.Document != nil {
		if self, _ := running.Document.Host(running.HostID); self.Metrics {
			want = insideService{namespace: netns.Inode(spec.Namespace), at: netip.AddrPortFrom(running.Document.DirectGateway(), spec.MetricsTCPPort)}
		}
	}
	if m.serving.namespace == want.namespace && m.serving.at == want.at {
		if m.serving.change != running && want.namespace != 0 {
			m.serving.change = running
			m.serving.door.Know(namesOfGateway(running))
		}
		return
	}
	m.stop()
	if want.namespace == 0 {
		return
	}
	var listener net.Listener
	err := netns.Do(spec.Namespace, func() (err error) {
		listener, err = net.Listen("tcp4", want.at.String())
		return err
	})
	if err != nil {
		if m.failed != err.Error() {
			m.failed = err.Error()
			m.agent.Log.Warn("serving metrics inside", "error", err)
		}
		return
	}
	want.change, want.door = running, &web.Door{Limits: scrapeLimits, Refused: &m.refused}
	want.door.Know(namesOfGateway(running))
	m.failed, want.close = "", m.serve(ctx, web.Bounded(listener, maxScrapers, maxScrapersOfHost), want.door.Guard(m.handler))
	m.serving = want
	m.agent.Log.Info("serving metrics inside", "address", want.at)
}

// stop ends what is served inside.
func (m *metricsServer) stop() {
	if m.serving.close != nil {
		m.serving.close()
	}
	m.serving = insideService{}
}

// look takes a snapshot for one scrape.
func (m *metricsServer) look() metrics.Snapshot {
	a := m.agent
	s := metrics.Snapshot{Version: a.Version, GoVersion: runtime.Version(), Repairs: m.repairs(), CallsRefused: m.callsRefused(),
		ScrapesRefused: m.refused.Load(), PageRefused: m.pageRefused()}
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
