package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
)

// A group is what runs side by side, in stages. The zero value is ready.
type group struct {
	stages []*stage
	failed chan error // gets the first failure of a member that nobody had told to stop

	mu     sync.Mutex
	ondown []func()
	down   bool
}

type stage struct {
	name   string
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	mu     sync.Mutex
	errs   []error
}

// start runs f in the stage of that name. f returns when its ctx ends; when it returns earlier it has failed.
func (g *group) start(name string, f func(ctx context.Context) error) {
	if g.failed == nil {
		g.failed = make(chan error, 1)
	}
	if n := len(g.stages); n == 0 || g.stages[n-1].name != name {
		ctx, cancel := context.WithCancel(context.Background())
		g.stages = append(g.stages, &stage{name: name, ctx: ctx, cancel: cancel})
	}
	s := g.stages[len(g.stages)-1]
	s.wg.Go(func() {
		err := f(s.ctx)
		if s.ctx.Err() == nil {
			g.fail(orEnded(name, err))
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.errs = append(s.errs, err)
	})
}

// onFailure calls f when a member has failed.
func (g *group) onFailure(f func()) {
	g.mu.Lock()
	g.ondown = append(g.ondown, f)
	down := g.down
	g.mu.Unlock()
	if down {
		f()
	}
}

func (g *group) fail(err error) {
	g.mu.Lock()
	g.down = true
	ondown := g.ondown
	g.mu.Unlock()
	select {
	case g.failed <- err:
	default:
	}
	for _, f := range ondown {
		f()
	}
}

// stop ends the stages one by one, the last started first, and returns what went wrong while they stopped.
func (g *group) stop() error {
	var errs []error
	for _, s := range slices.Backward(g.stages) {
		s.cancel()
		s.wg.Wait()
		errs = append(errs, s.errs...)
	}
	return errors.Join(errs...)
}

func orEnded(name string, err error) error {
	if err == nil {
		return fmt.Errorf("%s ended by itself", name)
	}
	return err
}
