package connect

import (
	"context"
	"errors"
	"sync"

	"github.com/redpanda-data/benthos/v4/public/service"
)

// errEnded is why a source ends if its run panicked or called Goexit.
var errEnded = errors.New("the source ended")

// A source runs something that delivers parcels, and implements the methods of service.Input for it.
type source struct {
	out chan *parcel

	// run runs until ctx is done or it fails. It calls ready when it is connected. If it returns nil before ctx is done, the input
	// has come to its end.
	run func(ctx context.Context, ready func()) error

	mu     sync.Mutex
	cancel context.CancelFunc
	ended  chan struct{} // closed when err is valid
	err    error
}

// Connect implements service.Input.
func (s *source) Connect(ctx context.Context) error {
	s.mu.Lock()
	if s.ended != nil {
		select {
		case <-s.ended:
		default:
			s.mu.Unlock()
			return nil // it is running
		}
	}
	running, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	s.cancel, s.ended, s.err = cancel, ended, nil
	s.mu.Unlock()

	connected := make(chan struct{})
	go func() {
		err := errEnded
		defer func() {
			s.mu.Lock()
			s.err = err
			s.mu.Unlock()
			close(ended)
		}()
		err = s.run(running, sync.OnceFunc(func() { close(connected) }))
	}()
	select {
	case <-connected:
		return nil
	case <-ended:
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.err == nil {
			return service.ErrEndOfInput
		}
		return s.err
	case <-ctx.Done():
		cancel()
		return ctx.Err()
	}
}

// Read implements service.Input.
func (s *source) Read(ctx context.Context) (*service.Message, service.AckFunc, error) {
	s.mu.Lock()
	ended := s.ended
	s.mu.Unlock()
	if ended == nil {
		return nil, nil, service.ErrNotConnected
	}
	select {
	case p := <-s.out:
		return p.message, p.ack, nil
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	case <-ended:
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		return nil, nil, service.ErrEndOfInput
	}
	return nil, nil, service.ErrNotConnected
}

// Close implements service.Input. It waits until the session has ended.
func (s *source) Close(ctx context.Context) error {
	s.mu.Lock()
	cancel, ended := s.cancel, s.ended
	s.mu.Unlock()
	if cancel == nil {
		return nil
	}
	cancel()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
