package relay

import (
	"context"
	"io"
)

// HeadFrame is the head of a message as it came: JSON, the first bytes of the body, and whether that is all of it.
type HeadFrame struct {
	Type FrameType // FrameInform, FrameHead or FrameWhole
	JSON []byte
	Body []byte

	key *frameKey // of a request, for the Stream that goes on with it
}

// Head waits for the reply's head, or for a 1xx before it. The body part is then read by Read.
func (s *Stream) Head(ctx context.Context) (HeadFrame, error) {
	f, err := s.in.take(ctx)
	if err != nil {
		return HeadFrame{}, err
	}
	switch f.Type {
	case FrameInform:
		return HeadFrame{Type: f.Type, JSON: f.Body}, nil
	case FrameHead, FrameWhole:
		head, body, err := splitHead(f.Body)
		if err == nil {
			s.in.rest = body
			s.in.over.Store(f.Type == FrameWhole)
			return HeadFrame{Type: f.Type, JSON: head, Body: body}, nil
		}
	}
	s.Fail(NewError(CodeStreamBroken, "the "+s.peer()+" sent something else where a head belongs"))
	return HeadFrame{}, s.Err()
}

// Preload gives the stream of a worker the part of the body that came with the head it has opened already.
func (s *Stream) Preload(body []byte) { s.in.rest = body }

// Read reads the body. io.EOF means that the whole body has come; a body that breaks off is an error, always.
func (s *Stream) Read(p []byte) (int, error) { return s.ReadContext(context.Background(), p) }

// ReadContext is Read with another way to give up.
func (s *Stream) ReadContext(ctx context.Context, p []byte) (int, error) {
	r := &s.in
	for len(r.rest) == 0 {
		if r.over.Load() {
			return 0, io.EOF
		}
		f, err := r.take(ctx)
		if err != nil {
			return 0, err
		}
		switch f.Type {
		case FrameData:
			r.rest = f.Body
			r.consume(len(f.Body))
		case FrameEnd:
			if err := s.takeEnd(f.Body); err != nil {
				return 0, err
			}
		default:
			s.Fail(NewError(CodeStreamBroken, "the "+s.peer()+" sent a second head"))
			return 0, s.Err()
		}
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

func (s *Stream) takeEnd(body []byte) error {
	end, err := DecodeEnd(body)
	switch {
	case err != nil:
		err = Unfit(s.peer(), EndTypeName, err)
	case end.Failure != nil && s.cfg.Role == RoleService: // publishers send none, and its code would be the app's to choose
		err = NewError(CodeStreamBroken, "the publisher broke the request's body off")
	case end.Failure != nil:
		e := end.Failure.Err()
		e.Outcome = Unknown // part of the message has come, whatever the code says of requests that were not started
		err = e
	}
	if err != nil {
		s.Fail(err)
		return err
	}
	s.in.trailer = end
	s.in.over.Store(true)
	s.sendCredit(false) // the peer need keep nothing more
	return nil
}

// Complete reports whether the whole body has been read.
func (s *Stream) Complete() bool { return s.in.over.Load() && len(s.in.rest) == 0 }

// Trailer is what came with the end; nil before Read has returned io.EOF and where there is none.
func (s *Stream) Trailer() *End { return s.in.trailer }
