package worker

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/go-json-experiment/json"

	"github.com/obo-relay/obo-relay/relay"
)

// sqlResult is the result of a statement that has succeeded: chunks, of which one at a time is under way and none is held.
type sqlResult struct {
	*sqlStatement
	state  *sqlState
	links  *linkFetcher
	room   *rowRoom
	inline bool
}

// sqlLink is where a chunk is in the cloud's storage. Address and headers are secrets of their own.
type sqlLink struct {
	Chunk   int               `json:"chunk_index"`
	Rows    int64             `json:"row_count"`
	Address string            `json:"external_link"`
	Headers map[string]string `json:"http_headers"`
}

// sendRows writes all rows, flushed after each chunk.
func (s *sqlResult) sendRows(ctx context.Context, out *rowSender, encoder rowEncoder) *relay.Error {
	if _, err := out.Write(encoder.head()); err != nil {
		return writeError(ctx, err)
	}
	rows, room := int64(0), s.room
	for n := range s.state.Manifest.Chunks {
		room.next()
		reader := &rowReader{encoder: encoder, out: out, room: room}
		want, e := int64(0), (*relay.Error)(nil)
		if s.inline {
			want, e = s.readInline(ctx, n, reader)
		} else {
			want, e = s.readLink(ctx, n, func(body io.Reader) error { return json.UnmarshalRead(bounded{body, room}, reader) })
		}
		switch {
		case reader.failed != nil:
			return writeError(ctx, reader.failed)
		case e != nil:
			return e
		case reader.rows != want:
			return s.notWhole(n)
		}
		rows += want
		if err := out.flush(); err != nil {
			return writeError(ctx, err)
		}
	}
	if rows != s.state.Manifest.Rows {
		return s.notWhole(s.state.Manifest.Chunks)
	}
	return nil
}

func (s *sqlResult) notWhole(chunk int) *relay.Error {
	return relay.Errorf(relay.CodeWorkspaceFailed, "the result has another number of rows than the workspace says, at chunk %d (statement %s)", chunk, s.id)
}

// writeError is why nothing more can be written.
func writeError(ctx context.Context, err error) *relay.Error {
	if e, ok := ended(ctx); ok {
		return e
	}
	if e, ok := errors.AsType[*relay.Error](err); ok {
		return e
	}
	return relay.NewError(relay.CodeCanceled, "the caller left")
}

// unreadable keeps the reason of a read that failed, if it is one of the table.
func unreadable(err error, detail string) *relay.Error {
	if e, ok := errors.AsType[*relay.Error](err); ok {
		return e
	}
	return relay.NewError(relay.CodeWorkspaceFailed, detail)
}

// readInline reads a chunk whose rows are in the API's answer, wherever in it they stand.
func (s *sqlResult) readInline(ctx context.Context, n int, reader *rowReader) (want int64, e *relay.Error) {
	chunk := struct {
		Chunk int        `json:"chunk_index"`
		Rows  int64      `json:"row_count"`
		Data  *rowReader `json:"data_array"`
	}{Data: reader}
	e = s.read(ctx, s.chunkPath(n), func(body io.Reader) error { return json.UnmarshalRead(bounded{body, reader.room}, &chunk) })
	if e == nil && chunk.Chunk != n {
		e = s.notWhole(n)
	}
	return chunk.Rows, e
}

func (s *sqlResult) chunkPath(n int) string {
	return fmt.Sprintf("%s/%s/result/chunks/%d", statementsAPI, s.id, n)
}

// link finds where a chunk is; those of the first chunks may have come with the state.
func (s *sqlResult) link(ctx context.Context, n int) (*sqlLink, *relay.Error) {
	links := &s.state.Result.Links
	for again := range 2 {
		for i := range *links {
			if l := &(*links)[i]; l.Chunk == n {
				return l, nil
			}
		}
		if again > 0 {
			break
		}
		var chunk struct {
			Links []sqlLink `json:"external_links"`
		}
		if e := s.read(ctx, s.chunkPath(n), func(body io.Reader) error { return json.UnmarshalRead(io.LimitReader(body, maxJSON), &chunk) }); e != nil {
			return nil, e
		}
		*links = chunk.Links
	}
	return nil, relay.Errorf(relay.CodeWorkspaceFailed, "the workspace names no storage link for chunk %d (statement %s)", n, s.id)
}

// readLink reads a chunk from the cloud's storage. A link that the storage no longer takes is asked for anew, once.
func (s *sqlResult) readLink(ctx context.Context, n int, read func(io.Reader) error) (want int64, e *relay.Error) {
	for fresh := false; ; fresh = true {
		link, e := s.link(ctx, n)
		if e != nil {
			return 0, e
		}
		body, status, e := s.links.get(ctx, link, s.token, s.retry)
		if e != nil && status >= 400 && status < 500 && !fresh {
			s.state.Result.Links = nil
			continue
		}
		if e != nil {
			return 0, e
		}
		defer func() { _ = body.Close() }() // read only
		if err := read(body); err != nil {
			if e, ok := ended(ctx); ok {
				return 0, e
			}
			return 0, unreadable(err, fmt.Sprintf("chunk %d of the result broke off or cannot be read (statement %s)", n, s.id))
		}
		return link.Rows, nil
	}
}
