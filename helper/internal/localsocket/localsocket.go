// Package localsocket has Unix sockets on which a program tells root, and nobody else, what it
// knows.
package localsocket

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
)

// Serve hands each connection to a socket, which is root's alone, to answer. An old
// socket is replaced; the new one goes with the context.
func Serve(ctx context.Context, path string, answer func(net.Conn)) error {
	listener, err := Listen(path)
	if err != nil {
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
			answer(conn)
		}
	}()
	return nil
}

// Listen opens a socket that is root's alone, in place of an old one.
func Listen(path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		listener.Close()
		return nil, err
	}
	return listener, nil
}
