package app

import (
	"errors"
	"fmt"
	"net"
	"syscall"
)

// listeners are the addresses of a process. They are taken before anything is made:
// a start that fails because of them leaves nothing behind.
type listeners struct{ http, grpc, metrics net.Listener }

// bind takes the addresses of a process: those of the API only when it has one.
func bind(c Config) (l listeners, err error) {
	if c.MetricsAddr != "" {
		if l.metrics, err = listen("--metrics-addr", c.MetricsAddr); err != nil {
			return listeners{}, err
		}
	}
	if !c.has(RoleAPI) {
		return l, nil
	}
	if l.http, err = listen("--http-addr", c.HTTPAddr); err != nil {
		return listeners{}, errors.Join(err, l.close())
	}
	if l.grpc, err = listen("--grpc-addr", c.GRPCAddr); err != nil {
		return listeners{}, errors.Join(err, l.close())
	}
	return l, nil
}

func listen(flag, address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%s: another program listens on %s; stop it, or choose another address", flag, address)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", flag, err)
	}
	return l, nil
}

// close frees what no server has taken over; one that was closed before is fine.
func (l listeners) close() error {
	var failures []error
	for _, listener := range []net.Listener{l.http, l.grpc, l.metrics} {
		if listener == nil {
			continue
		}
		if err := listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			failures = append(failures, err)
		}
	}
	return errors.Join(failures...)
}
