package telemetry

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
)

// ErrLeft is what an observer of a body is told when it was closed before its end.
var ErrLeft = errors.New("the body was closed before its end")

// WatchBody calls ended once, when the response's body has ended, failed or been closed, with the bytes that were read.
func WatchBody(resp *http.Response, ended func(n int64, err error)) {
	if resp.Body == nil || resp.Body == http.NoBody {
		ended(0, nil)
		return
	}
	whole := resp.ContentLength
	if resp.Request != nil && resp.Request.Method == http.MethodHead {
		whole = 0
	}
	resp.Body = &watchedBody{ReadCloser: resp.Body, whole: whole, ended: ended}
}

type watchedBody struct {
	io.ReadCloser
	whole int64 // its declared length, -1 = not known
	read  atomic.Int64
	once  sync.Once
	ended func(int64, error)
}

func (b *watchedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.read.Add(int64(n))
	if err != nil {
		b.end(err)
	}
	return n, err
}

func (b *watchedBody) Close() error {
	err := b.ReadCloser.Close()
	if read := b.read.Load(); read == b.whole {
		b.end(nil)
	} else {
		b.end(ErrLeft)
	}
	return err
}

func (b *watchedBody) end(err error) {
	if errors.Is(err, io.EOF) {
		err = nil
	}
	b.once.Do(func() { b.ended(b.read.Load(), err) })
}

// Count counts what is read of a body; nil and http.NoBody, which are known by their identity, stay what they are.
func Count(body io.ReadCloser, n *atomic.Int64) io.ReadCloser {
	if body == nil || body == http.NoBody {
		return body
	}
	return &countedBody{body, n}
}

type countedBody struct {
	io.ReadCloser
	n *atomic.Int64
}

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.n.Add(int64(n))
	return n, err
}
