package web

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"sync"
	"time"

	"mobula/helper/internal/report"
	"mobula/helper/internal/shared"
)

// Fresh is how long what the hosts said is said again, to however many ask. Who asks all
// hosts that seldom stays within what each of them answers.
const Fresh = 4 * time.Second

// Status asks how the network is, once for all who want to know.
type Status struct {
	// Ask asks all hosts, see mesh.Service.Ask. It returns a Mesh of its own, which is not
	// judged yet.
	Ask func(context.Context) (*report.Mesh, error)
	// Fresh is the package's Fresh, if it is 0.
	Fresh time.Duration

	asked shared.Question[said]
}

// said is what the hosts said, for all who may know it and for guests; made when the first
// of them wants to know.
type said struct{ all, guests func() ([]byte, error) }

// Now returns what the network is like, as JSON that gzip has made small: slow readers may
// keep several of them in memory. Guests are told of no clients. Who is no longer interested
// waits no longer; the others are told.
func (s *Status) Now(ctx context.Context, guest bool) ([]byte, error) {
	fresh := s.Fresh
	if fresh == 0 {
		fresh = Fresh
	}
	said, err := s.asked.Ask(ctx, fresh, s.ask)
	switch {
	case err != nil:
		return nil, err
	case guest:
		return said.guests()
	}
	return said.all()
}

// patience is longer than asking all hosts takes.
const patience = 15 * time.Second

func (s *Status) ask() (said, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	m, err := s.Ask(ctx)
	if err != nil {
		return said{}, err
	}
	m.Judge()
	return said{sync.OnceValues(func() ([]byte, error) { return saying(m) }), sync.OnceValues(func() ([]byte, error) { return saying(m.ForGuests()) })}, nil
}

func saying(m *report.Mesh) ([]byte, error) {
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	if err := json.NewEncoder(z).Encode(m); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
