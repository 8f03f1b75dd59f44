package httpapi

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
)

const (
	// lagMaxAge is how old the lag may be that an answer shows.
	lagMaxAge = time.Second
	// lagTimeout bounds the reading of the lag, lagPatience how long an answer that is ready waits for it.
	lagTimeout  = 2 * time.Second
	lagPatience = 250 * time.Millisecond
)

// lagSampler keeps the lag of the last second, so that requests share one reading of it. It reads only while requests come.
type lagSampler struct {
	// read returns the lag in seconds; known is false when there is no telling, as while triggers are off.
	read func(context.Context) (seconds float64, known bool, err error)

	flight singleflight.Group
	mu     sync.Mutex
	sample lagSample
	tried  time.Time // also of readings that failed, so that they are no more often
}

type lagSample struct {
	seconds float64
	known   bool
	at      time.Time
}

// refresh begins to read the lag if the sample is too old, beside whatever the request does. The channel, nil if the sample is good,
// is for wait.
func (l *lagSampler) refresh() <-chan singleflight.Result {
	l.mu.Lock()
	fresh := time.Since(l.tried) < lagMaxAge
	l.mu.Unlock()
	if fresh {
		return nil
	}
	return l.flight.DoChan("", func() (any, error) {
		l.mu.Lock()
		l.tried = time.Now()
		l.mu.Unlock()
		ctx, cancel := context.WithTimeout(context.Background(), lagTimeout)
		defer cancel()
		seconds, known, err := l.read(ctx)
		if err != nil {
			return nil, err // What was read last ages, and is shown as that much older.
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.sample = lagSample{seconds, known, time.Now()}
		return nil, nil
	})
}

// wait returns the lag in seconds, and whether it is known. If it cannot be read in time, the oldest change of the last reading may
// still be waiting, so the time since then is added.
func (l *lagSampler) wait(ctx context.Context, refreshed <-chan singleflight.Result) (seconds float64, known bool) {
	if refreshed != nil {
		patience := time.NewTimer(lagPatience)
		defer patience.Stop()
		select {
		case <-refreshed:
		case <-patience.C:
		case <-ctx.Done():
		}
	}
	last := l.last()
	if age := time.Since(last.at); age >= lagMaxAge {
		last.seconds += age.Seconds()
	}
	return last.seconds, last.known
}

func (l *lagSampler) last() lagSample {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sample
}
