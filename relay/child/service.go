package child

import (
	"context"
	"os"
)

// service is what the parent does itself.
type service struct {
	serve  func(context.Context) error
	ctx    context.Context
	cancel context.CancelFunc
	gone   chan struct{} // closed when serve has returned; err is set before
	err    error
}

func newService(ctx context.Context, serve func(context.Context) error) *service {
	s := &service{serve: serve, gone: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx)) // the order of stopping decides
	return s
}

func (s *service) start() error {
	go func() {
		defer close(s.gone)
		s.err = s.serve(s.ctx)
	}()
	return nil
}

func (s *service) stop(os.Signal) { s.cancel() }

func (s *service) done() <-chan struct{} { return s.gone }
