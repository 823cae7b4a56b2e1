package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"time"
)

// Client is an administrator's machine: a namespace beside the hosts with a WireGuard tunnel
// in user space.
type Client struct {
	// Address is the client's own, outside the tunnel.
	Address string
	// Interface is the name of the WireGuard device.
	Interface string
	// PublicKey goes into extra_wires.yml.
	PublicKey string

	lab       *Lab
	namespace string
	keyFile   string
}

// NewClient makes a client with a new key; number (0 to 9) tells several apart. An older one
// with the same number is removed first. It has no peer until Connect.
func (l *Lab) NewClient(ctx context.Context, number int) (_ *Client, err error) {
	name := fmt.Sprintf("client%d", number)
	c := &Client{
		Address:   fmt.Sprintf("192.0.2.%d", 200+number),
		Interface: fmt.Sprintf("%.9s-wg%d", l.Prefix, number),
		lab:       l,
		namespace: l.Prefix + "-" + name,
		keyFile:   l.path(name + ".key"),
	}
	if err := c.Close(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Close())
		}
	}()
	ns, port := c.namespace, c.port()
	err = ipBatch(ctx,
		"netns add "+ns,
		"-n "+ns+" link set lo up",
		"-n "+l.Namespace()+" link add "+port+" type veth peer name uplink netns "+ns,
		"-n "+l.Namespace()+" link set "+port+" master "+bridge+" up",
		"-n "+ns+" addr add "+c.Address+"/24 dev uplink",
		"-n "+ns+" link set uplink up",
	)
	if err != nil {
		return nil, err
	}
	private, err := output(ctx, "wg", "genkey")
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(c.keyFile, []byte(private), 0o600); err != nil {
		return nil, err
	}
	if c.PublicKey, err = outputWithInput(ctx, private, "wg", "pubkey"); err != nil {
		return nil, err
	}
	c.PublicKey = strings.TrimSpace(c.PublicKey)
	// wg(8) removes a socket that nobody listens on, also one on which somebody is about to.
	socket := "/var/run/wireguard/" + c.Interface + ".sock"
	if err := os.Remove(socket); err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	// wireguard-go opens its UDP socket where it runs: in the client's namespace.
	if err := startProcess(c.pidFile(), l.path(name+".log"), "ip", "netns", "exec", ns, "wireguard-go", "-f", c.Interface); err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		var conn net.Conn
		if conn, err = net.Dial("unix", socket); err == nil {
			conn.Close()
			_, err = c.Run(ctx, "wg", "set", c.Interface, "private-key", c.keyFile)
			return c, err
		}
		if time.Now().After(deadline) {
			log, _ := os.ReadFile(l.path(name + ".log"))
			return nil, fmt.Errorf("wireguard-go does not come up: %w\n%s", err, log)
		}
	}
}

func (c *Client) port() string    { return "p-" + strings.TrimPrefix(c.namespace, c.lab.Prefix+"-") }
func (c *Client) pidFile() string { return strings.TrimSuffix(c.keyFile, ".key") + ".pid" }

// Connect gives the client its address in 10.30.128.0/17 and one peer, a host by its WireGuard
// key and endpoint ("192.0.2.1:51820"), for everything inside. Another call replaces the peer.
func (c *Client) Connect(ctx context.Context, address, peerKey, endpoint string) error {
	private, err := os.ReadFile(c.keyFile)
	if err != nil {
		return err
	}
	config := fmt.Sprintf("[Interface]\nPrivateKey = %s\n[Peer]\nPublicKey = %s\nEndpoint = %s\nAllowedIPs = 10.30.0.0/16, 10.31.0.0/16\n",
		strings.TrimSpace(string(private)), peerKey, endpoint)
	if _, err := outputWithInput(ctx, config, "ip", "netns", "exec", c.namespace, "wg", "setconf", c.Interface, "/dev/stdin"); err != nil {
		return err
	}
	return ipBatch(ctx,
		"-n "+c.namespace+" addr flush dev "+c.Interface,
		"-n "+c.namespace+" addr add "+address+"/32 dev "+c.Interface,
		"-n "+c.namespace+" link set "+c.Interface+" up",
		"-n "+c.namespace+" route replace 10.30.0.0/16 dev "+c.Interface,
		"-n "+c.namespace+" route replace 10.31.0.0/16 dev "+c.Interface,
	)
}

// Run runs a program on the client and returns its output.
func (c *Client) Run(ctx context.Context, name string, args ...string) (string, error) {
	return output(ctx, "ip", append([]string{"netns", "exec", c.namespace, name}, args...)...)
}

// Close removes the client; a client that is not there is no error.
func (c *Client) Close() error {
	err := endProcess(c.pidFile())
	if _, statErr := os.Stat("/run/netns/" + c.namespace); statErr == nil {
		// The pair goes with its outer end, at once; a namespace may linger.
		_ = ipBatch(context.Background(), "-n "+c.lab.Namespace()+" link del "+c.port())
		err = errors.Join(err, ipBatch(context.Background(), "netns del "+c.namespace))
	}
	if rmErr := os.Remove(c.keyFile); rmErr != nil && !errors.Is(rmErr, fs.ErrNotExist) {
		err = errors.Join(err, rmErr)
	}
	return err
}
