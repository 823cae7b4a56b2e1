package metrics

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Path is where the series are.
const Path = "/metrics"

const (
	// maxScrapes are answered one after the other, or wait for that; who comes then is told so
	// (503), and is counted in promhttp_metric_handler_requests_total.
	maxScrapes = 4
	// scrapeTimeout bounds one: Prometheus waits for ten seconds by default.
	scrapeTimeout = 10 * time.Second
)

// Handler answers at Path with the series of a collector, of its own work and of the
// process, and nowhere else.
func Handler(c prometheus.Collector) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(c, collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	mux := http.NewServeMux()
	mux.Handle(Path, promhttp.InstrumentMetricHandler(registry, promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		MaxRequestsInFlight: maxScrapes, Timeout: scrapeTimeout, OfferedCompressions: []promhttp.Compression{promhttp.Identity, promhttp.Gzip},
	})))
	return mux
}

// Server returns one for Handler that gives nobody much: not of its time, and not of its
// memory. It answers nothing by itself, not even OPTIONS *: the handler may not want to speak
// to whoever asks.
func Server(h http.Handler) *http.Server {
	const patience = 5 * time.Second
	return &http.Server{Handler: h, ReadHeaderTimeout: patience, ReadTimeout: patience, WriteTimeout: scrapeTimeout + patience, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 8 << 10,
		DisableGeneralOptionsHandler: true}
}
