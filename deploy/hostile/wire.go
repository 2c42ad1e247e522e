package hostile

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"
)

// Limits of what is believed to be the NATS protocol.
const (
	maxLine    = 64 << 10
	maxPayload = 64 << 20
)

// frame is one element of the NATS client protocol: a line, and behind it, for the four operations that carry one, a message.
type frame struct {
	line    string   // without its line break
	message *Message // nil for all but PUB, HPUB, MSG and HMSG
}

// op is the operation in capitals, and what follows it.
func (f frame) op() (op string, args []string) {
	fields := strings.Fields(f.line)
	if len(fields) == 0 {
		return "", nil
	}
	return strings.ToUpper(fields[0]), fields[1:]
}

// readFrame reads one element of the protocol.
func readFrame(r *bufio.Reader) (frame, error) {
	line, err := readLine(r)
	if err != nil {
		return frame{}, err
	}
	f := frame{line: line}
	op, args := f.op()
	switch op {
	case "PUB", "MSG", "HPUB", "HMSG":
		f.message, err = readMessage(r, op, args)
	case "INFO", "CONNECT", "SUB", "UNSUB", "PING", "PONG", "+OK", "-ERR":
	default:
		err = fmt.Errorf("hostile: not an operation of NATS: %.40q", line)
	}
	return f, err
}

func readLine(r *bufio.Reader) (string, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case len(line) > maxLine:
			return "", errors.New("hostile: a line without end")
		case err == nil:
			return strings.TrimRight(string(line), "\r\n"), nil
		case err != bufio.ErrBufferFull:
			return "", err
		}
	}
}

// readMessage reads what the arguments announce: subject, sid where it comes from a server, reply subject where there is
// one, the size of the header where there is one, and the size of all.
func readMessage(r *bufio.Reader, op string, args []string) (*Message, error) {
	m := &Message{Msg: new(nats.Msg), Way: Up}
	rest := args
	next := func() (s string) {
		if len(rest) > 0 {
			s, rest = rest[0], rest[1:]
		}
		return s
	}
	sizes := 1
	if op[0] == 'H' {
		sizes = 2
	}
	m.Subject = next()
	if op == "MSG" || op == "HMSG" {
		m.Way, m.SID = Down, next()
	}
	if len(rest) > sizes {
		m.Reply = next()
	}
	if m.Subject == "" || len(rest) != sizes {
		return nil, fmt.Errorf("hostile: %s with %d arguments", op, len(args))
	}
	var header int
	if sizes == 2 {
		var err error
		if header, err = strconv.Atoi(next()); err != nil {
			return nil, fmt.Errorf("hostile: %s: %w", op, err)
		}
	}
	total, err := strconv.Atoi(next())
	if err != nil || header < 0 || header > total || total > maxPayload {
		return nil, fmt.Errorf("hostile: %s with sizes %v", op, args[len(args)-sizes:])
	}
	payload := make([]byte, total+2)
	if _, err := io.ReadFull(r, payload); err != nil {
		return nil, err
	}
	if !bytes.HasSuffix(payload, []byte("\r\n")) {
		return nil, fmt.Errorf("hostile: %s whose payload does not end where it should", op)
	}
	m.Data = payload[header:total]
	if sizes == 2 {
		if m.Header, err = nats.DecodeHeadersMsg(payload[:header]); err != nil {
			return nil, fmt.Errorf("hostile: %s: %w", op, err)
		}
		m.rawHeader, m.asRead = payload[:header:header], cloneHeader(m.Header)
	}
	return m, nil
}

// append renders the frame.
func (f frame) append(b []byte) []byte {
	m := f.message
	if m == nil {
		return append(append(b, f.line...), "\r\n"...)
	}
	header := m.header()
	op := "PUB"
	if m.Way == Down {
		op = "MSG"
	}
	if header != nil {
		op = "H" + op
	}
	b = append(append(append(b, op...), ' '), m.Subject...)
	for _, arg := range []string{m.SID, m.Reply} {
		if arg != "" {
			b = append(append(b, ' '), arg...)
		}
	}
	if header != nil {
		b = append(b, ' ')
		b = strconv.AppendInt(b, int64(len(header)), 10)
	}
	b = append(b, ' ')
	b = strconv.AppendInt(b, int64(len(header)+len(m.Data)), 10)
	b = append(append(b, "\r\n"...), header...)
	return append(append(b, m.Data...), "\r\n"...)
}

// header is the header as it stands on the wire: as it came, unless it was altered.
func (m *Message) header() []byte {
	if m.rawHeader != nil && reflect.DeepEqual(m.Header, m.asRead) {
		return m.rawHeader
	}
	if len(m.Header) == 0 {
		return nil
	}
	b := []byte("NATS/1.0")
	for _, name := range []string{"Status", "Description"} { // stand on the first line, as in "NATS/1.0 503"
		if v := m.Header[name]; len(v) > 0 {
			b = append(append(b, ' '), v[0]...)
		}
	}
	b = append(b, "\r\n"...)
	for _, name := range slices.Sorted(maps.Keys(m.Header)) {
		if name == "Status" || name == "Description" {
			continue
		}
		for _, v := range m.Header[name] {
			b = append(append(append(append(b, name...), ": "...), v...), "\r\n"...)
		}
	}
	return append(b, "\r\n"...)
}
