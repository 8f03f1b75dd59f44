package httpapi

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"time"
)

// coalescer lets callers that ask the very same question at the same moment share the answers: while one statement is at work, all that
// come wait for the next one, which begins after they came. So nobody gets an answer from before their question, and a change that
// somebody has seen committed is seen.
type coalescer struct {
	timeout time.Duration // bounds a statement that is shared
	mu      sync.Mutex
	busy    map[any]*questions
}

// questions are those of one key: one statement is at work, and the next may have somebody who waits for it.
type questions struct{ next *sharedAnswer }

type sharedAnswer struct {
	ask  func(context.Context) (any, error)
	done chan struct{}
	// Set before done is closed.
	value any
	err   error
}

func newCoalescer(timeout time.Duration) *coalescer {
	return &coalescer{timeout: timeout, busy: make(map[any]*questions)}
}

// do returns what ask returns, or what it returned for somebody who asked the same after this call began. Key says what is asked, and
// by whom. The value is shared: nobody may change it.
func (c *coalescer) do(ctx context.Context, key any, ask func(context.Context) (any, error)) (any, error) {
	c.mu.Lock()
	q := c.busy[key]
	if q == nil {
		q = new(questions)
		c.busy[key] = q
		c.mu.Unlock()
		defer c.finish(key, q)
		return ask(ctx)
	}
	if q.next == nil {
		q.next = &sharedAnswer{ask: ask, done: make(chan struct{})}
	}
	answer := q.next
	c.mu.Unlock()
	select {
	case <-answer.done:
		return answer.value, answer.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// finish begins the next statement, if somebody waits for it.
func (c *coalescer) finish(key any, q *questions) {
	if answer := c.next(key, q); answer != nil {
		go c.answerAll(key, q, answer)
	}
}

// next returns what somebody waits for, or forgets the key if nobody does.
func (c *coalescer) next(key any, q *questions) *sharedAnswer {
	c.mu.Lock()
	defer c.mu.Unlock()
	answer := q.next
	q.next = nil
	if answer == nil {
		delete(c.busy, key)
	}
	return answer
}

// answerAll goes on until nobody waits. It is one goroutine for all statements of a key, for each new one would have its stack to grow first.
func (c *coalescer) answerAll(key any, q *questions, answer *sharedAnswer) {
	for ; answer != nil; answer = c.next(key, q) {
		c.answer(answer)
	}
}

// answer asks for all that wait, so the request of none of them bounds it.
func (c *coalescer) answer(answer *sharedAnswer) {
	defer close(answer.done)
	defer func() {
		if p := recover(); p != nil {
			answer.err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), c.timeout)
	defer cancel()
	answer.value, answer.err = answer.ask(ctx)
}

// question is the key of an answer: a statement with its parameters, the caller among them, and the format.
type question struct {
	statement string
	format    format
	params    any
}

// ask runs a read, and makes an answer of what it reads, together with those who ask the same. Name says which read it is.
func ask[P comparable, T, A any](ctx context.Context, s *API, name string, format format, f read[P, T], p P, answer func(T) A) (A, error) {
	shared, err := s.shared.do(ctx, question{name, format, p}, func(ctx context.Context) (any, error) {
		value, err := query(ctx, s, f, p)
		if err != nil {
			return nil, err
		}
		return answer(value), nil
	})
	result, _ := shared.(A)
	return result, err
}
