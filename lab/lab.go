// Package lab runs real Debian machines under software emulation, on a network that exists only
// inside network namespaces, so that Mobula is tested on the kernels it is made for.
// README.md says what stands where.
package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Fixed addresses of the lab.
const (
	DeployerAddress   = "192.0.2.250"
	RepositoryAddress = "192.0.2.253"
	RouterAddress     = "192.0.2.254"
	// RouterOutsideAddress is the router's other one.
	RouterOutsideAddress = "198.51.100.254"
	// MetadataAddress is where clouds answer hosts; here the router pings back.
	MetadataAddress = "169.254.169.254"
	OutsideAddress  = "198.51.100.1"
	ResolverAddress = "198.51.100.53"
	// OutsideName is what the resolver answers OutsideAddress for.
	OutsideName = "outside.example.net"
)

// Options says what Up builds. The zero value of a field means its default.
type Options struct {
	// Hosts to start; default: alice, bob and carol of DefaultHosts.
	Hosts []HostSpec
	// Dir holds the state, sockets and logs of the running lab. Default: $MOBULA_LAB_DIR, else /run/mobula-lab.
	Dir string
	// Prefix begins the name of every namespace. Two labs with different prefixes and
	// directories do not meet. Default: $MOBULA_LAB_PREFIX, else "mobula".
	Prefix string
	// Log receives progress, one line per event. Default: os.Stderr.
	Log io.Writer
	// Replace ends a lab that already runs in Dir; without it that is an error.
	Replace bool
}

// Lab is a running lab. Its methods may be called concurrently, those of one Host may not.
type Lab struct {
	Dir    string
	Prefix string
	// Image is the folder with the disk images and the package repository, a folder for each suite of Debian's.
	Image string
	Hosts []*Host

	log   *progress
	state sync.Mutex
}

// savedLab is the part of a Lab that outlives its process.
type savedLab struct {
	Prefix, Image string
	Hosts         []HostSpec
}

func (o *Options) fill() {
	if len(o.Hosts) == 0 {
		o.Hosts = DefaultHosts()[:3]
	}
	if o.Dir == "" {
		o.Dir = DefaultDir()
	}
	if o.Prefix == "" {
		o.Prefix = envOr("MOBULA_LAB_PREFIX", "mobula")
	}
	if o.Log == nil {
		o.Log = os.Stderr
	}
}

// DefaultDir is where a lab keeps its state unless told otherwise.
func DefaultDir() string { return envOr("MOBULA_LAB_DIR", "/run/mobula-lab") }

// Up builds the images if needed, creates the network and starts the hosts. It returns when
// every host answers SSH. On an error nothing of the lab is left running.
func Up(ctx context.Context, o Options) (_ *Lab, err error) {
	o.fill()
	l := &Lab{Dir: o.Dir, Prefix: o.Prefix, log: newProgress(o.Log)}
	if old, openErr := Open(o.Dir); openErr == nil {
		if !o.Replace {
			return nil, fmt.Errorf("a lab already runs in %s; end it with `lab down`", o.Dir)
		}
		old.log = l.log
		if err := old.Down(); err != nil {
			return nil, fmt.Errorf("ending the lab before: %w", err)
		}
	} else if !errors.Is(openErr, fs.ErrNotExist) {
		return nil, openErr
	}
	if _, err := os.Stat("/run/netns/" + l.Namespace()); err == nil {
		return nil, fmt.Errorf("the namespace %s exists already and belongs to a lab in another folder", l.Namespace())
	}
	if l.Image, err = buildImage(ctx, l.log, o.Hosts); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(l.Dir, 0o700); err != nil {
		return nil, err
	}
	for _, spec := range o.Hosts {
		l.Hosts = append(l.Hosts, &Host{HostSpec: spec, lab: l})
	}
	if err := l.save(o.Hosts); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.Down())
		}
	}()
	if err := l.buildTools(ctx); err != nil {
		return nil, err
	}
	l.log.printf("creating namespaces %s, %s, %s", l.Namespace(), l.OutsideNamespace(), l.routerNamespace())
	if err := l.createNetwork(ctx); err != nil {
		return nil, fmt.Errorf("creating the lab's network: %w", err)
	}
	if err := l.deployerHosts(); err != nil {
		return nil, err
	}
	if err := l.startServices(); err != nil {
		return nil, err
	}
	if err := l.makeKey(ctx); err != nil {
		return nil, err
	}
	if err := l.EachHost(func(h *Host) error { return h.create(ctx) }); err != nil {
		return nil, err
	}
	return l, nil
}

// Open returns the lab that runs in dir; fs.ErrNotExist when there is none.
func Open(dir string) (*Lab, error) {
	if dir == "" {
		dir = DefaultDir()
	}
	data, err := os.ReadFile(filepath.Join(dir, "lab.json"))
	if err != nil {
		return nil, fmt.Errorf("no lab in %s: %w", dir, err)
	}
	var saved savedLab
	if err := json.Unmarshal(data, &saved); err != nil {
		return nil, fmt.Errorf("reading the state of the lab in %s: %w", dir, err)
	}
	l := &Lab{Dir: dir, Prefix: saved.Prefix, Image: saved.Image, log: newProgress(os.Stderr)}
	for _, spec := range saved.Hosts {
		l.Hosts = append(l.Hosts, &Host{HostSpec: spec, lab: l})
	}
	return l, nil
}

// Down ends every process that the lab started, and removes its namespaces and files.
func (l *Lab) Down() error {
	l.log.printf("ending the lab in %s", l.Dir)
	var errs []error
	for _, h := range l.Hosts {
		h.Disconnect()
	}
	pids, err := filepath.Glob(filepath.Join(l.Dir, "*.pid"))
	errs = append(errs, err)
	for _, file := range pids {
		errs = append(errs, endProcess(file))
	}
	errs = append(errs, l.removeNetwork())
	for _, h := range l.Hosts {
		if err := os.Remove(h.disk()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	errs = append(errs, os.RemoveAll(l.Dir))
	return errors.Join(errs...)
}

// AddHost starts one more host in a running lab.
func (l *Lab) AddHost(ctx context.Context, spec HostSpec) (*Host, error) {
	h := &Host{HostSpec: spec, lab: l}
	l.state.Lock()
	l.Hosts = append(l.Hosts, h)
	specs := make([]HostSpec, len(l.Hosts))
	for i, h := range l.Hosts {
		specs[i] = h.HostSpec
	}
	err := l.save(specs)
	l.state.Unlock()
	if err != nil {
		return nil, err
	}
	return h, h.create(ctx)
}

// Host returns the host with the given short name (alice), or nil.
func (l *Lab) Host(name string) *Host {
	for _, h := range l.Hosts {
		if h.Name == name {
			return h
		}
	}
	return nil
}

// EachHost calls f for all hosts at once and joins the errors, each with the host's name.
func (l *Lab) EachHost(f func(*Host) error) error {
	errs := make([]error, len(l.Hosts))
	var wg sync.WaitGroup
	for i, h := range l.Hosts {
		wg.Add(1)
		go func(i int, h *Host) {
			defer wg.Done()
			if err := f(h); err != nil {
				errs[i] = fmt.Errorf("%s: %w", h.Name, err)
			}
		}(i, h)
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (l *Lab) save(hosts []HostSpec) error {
	data, err := json.MarshalIndent(savedLab{Prefix: l.Prefix, Image: l.Image, Hosts: hosts}, "", "  ")
	if err != nil {
		return err
	}
	// Moved into place: the DHCP server reads it at any time.
	if err := os.WriteFile(l.path("lab.json.new"), data, 0o600); err != nil {
		return err
	}
	return os.Rename(l.path("lab.json.new"), l.path("lab.json"))
}

func (l *Lab) path(name string) string { return filepath.Join(l.Dir, name) }

// moduleRoot is the folder of the project's go.mod: the tools of the lab are built from it.
func moduleRoot() (string, error) {
	out, err := output(context.Background(), "go", "env", "GOMOD")
	root := filepath.Dir(strings.TrimSpace(out))
	if err == nil && root == "." {
		err = errors.New("the lab must be started from inside the project's folder")
	}
	return root, err
}

// buildImage makes what the hosts boot from. Debian 12 is always there: it has the package repository.
func buildImage(ctx context.Context, log *progress, hosts []HostSpec) (string, error) {
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	suites := []string{"bookworm"}
	for _, h := range hosts {
		if !slices.Contains(suites, h.suite()) {
			suites = append(suites, h.suite())
		}
	}
	cmd := exec.CommandContext(ctx, filepath.Join(root, "lab", "image.sh"), suites...)
	cmd.Stderr = log
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("building the images: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// buildTools compiles the lab's own programs, static because the meter also runs in the hosts.
func (l *Lab) buildTools(ctx context.Context) error {
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-o", l.Dir+"/", "./lab/cmd/lab", "./lab/cmd/meter")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building the lab's tools: %w\n%s", err, out)
	}
	return nil
}

func envOr(name, fallback string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return fallback
}

// progress writes lines with the time since the start in front.
type progress struct {
	mu    sync.Mutex
	out   io.Writer
	start time.Time
}

func newProgress(out io.Writer) *progress { return &progress{out: out, start: time.Now()} }

func (p *progress) printf(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.out, "lab %5.1fs  %s\n", time.Since(p.start).Seconds(), fmt.Sprintf(format, args...))
}

// Write passes the output of a program on as it comes.
func (p *progress) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.Write(b)
}
