package worker

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/obo-relay/obo-relay/relay"
)

// sqlStatement is one statement in the workspace, run as the person.
type sqlStatement struct {
	workspace *Workspace
	token     relay.Token
	retry     time.Duration
	log       *slog.Logger
	id        string // empty before it was submitted
	ended     bool   // there is nothing to cancel
}

const statementsAPI = "/api/2.0/sql/statements"

// sqlSubmission is what the workspace gets. wait_timeout is 0 s so that the statement's id, without which it cannot be
// canceled, is known at once.
type sqlSubmission struct {
	Statement   string         `json:"statement"`
	WarehouseID string         `json:"warehouse_id"`
	Catalog     string         `json:"catalog,omitzero"`
	Schema      string         `json:"schema,omitzero"`
	Parameters  []SQLParameter `json:"parameters,omitzero"`
	RowLimit    int64          `json:"row_limit,omitzero"`
	Disposition string         `json:"disposition"`
	Format      string         `json:"format"`
	WaitTimeout string         `json:"wait_timeout"`
}

// sqlState is what the workspace says of a statement. Rows that come with it are passed over.
type sqlState struct {
	ID     string `json:"statement_id"`
	Status struct {
		State    string `json:"state"`
		SQLState string `json:"sql_state"`
		Error    struct {
			Code    string `json:"error_code"`
			Message string `json:"message"`
		} `json:"error"`
	} `json:"status"`
	Manifest struct {
		Schema struct {
			Columns []sqlColumn `json:"columns"`
		} `json:"schema"`
		Chunks    int   `json:"total_chunk_count"`
		Rows      int64 `json:"total_row_count"`
		Truncated bool  `json:"truncated"`
	} `json:"manifest"`
	Result struct {
		Links []sqlLink  `json:"external_links"`
		Rows  passedRows `json:"data_array"`
	} `json:"result"`
}

type sqlColumn struct {
	Name     string `json:"name"`
	TypeText string `json:"type_text"`
	TypeName string `json:"type_name"`
}

// passedRows are rows of any number that are not kept.
type passedRows struct{ room *rowRoom }

// UnmarshalJSONFrom passes the rows over.
func (p *passedRows) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	if d.PeekKind() != '[' {
		return d.SkipValue()
	}
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	for d.PeekKind() != ']' {
		p.room.next()
		if err := d.SkipValue(); err != nil {
			return err
		}
	}
	_, err := d.ReadToken()
	return err
}

var statementID = regexp.MustCompile(`^[0-9A-Za-z-]{1,64}$`)

// submit sends the statement once and never again, whatever the answer. It goes on when the caller leaves, since only its
// answer tells what to cancel. acted reports whether the statement may run although there is an error.
func (s *sqlStatement) submit(ctx context.Context, q sqlSubmission) (e *relay.Error, acted bool) {
	if e, ok := ended(ctx); ok {
		return e, false
	}
	body, err := json.Marshal(q)
	if err != nil {
		return relay.NewError(relay.CodeBadRequest, "the statement cannot be written as JSON"), false
	}
	header := http.Header{"Accept": {"application/json"}, "Content-Type": {"application/json"}}
	most := s.workspace.cfg.Timeout
	submission := context.WithoutCancel(ctx)
	resp, err := watchCall(submission, most, most, func(ctx context.Context) (*http.Response, error) {
		return s.workspace.do(ctx, s.token, http.MethodPost, statementsAPI, header, bytes.NewReader(body), 0)
	})
	if err != nil {
		return callError(submission, s.token, err)
	}
	defer discard(resp)
	if e := s.answerError(resp); e != nil {
		// A refusal says that nothing ran; a failure says nothing.
		return e, resp.StatusCode < 400 || resp.StatusCode >= 500
	}
	var state sqlState
	if err := json.UnmarshalRead(io.LimitReader(resp.Body, maxJSON), &state); err != nil || !statementID.MatchString(state.ID) {
		return relay.NewError(relay.CodeWorkspaceFailed, "the workspace took the statement, but its answer cannot be read"+workspaceRequest(s.token, resp.Header)), true
	}
	s.id = state.ID
	return nil, false
}

const (
	firstPoll = 30 * time.Millisecond
	lastPoll  = time.Second
)

// await asks for the statement's state until it has succeeded.
func (s *sqlStatement) await(ctx context.Context, room *rowRoom) (*sqlState, *relay.Error) {
	for delay := firstPoll; ; delay = min(delay*3/2, lastPoll) {
		var state sqlState
		state.Result.Rows.room = room
		room.next()
		if e := s.read(ctx, statementsAPI+"/"+s.id, func(r io.Reader) error {
			return json.UnmarshalRead(bounded{io.LimitReader(r, 2*maxJSON), room}, &state)
		}); e != nil {
			return nil, e
		}
		switch state.Status.State {
		case "SUCCEEDED":
			s.ended = true
			return &state, nil
		case "PENDING", "RUNNING":
		case "FAILED", "CANCELED":
			s.ended = true
			return nil, s.failure(&state)
		case "CLOSED": // "execution successful, and statement closed; result no longer available for fetch"
			s.ended = true
			e := relay.Errorf(relay.CodeWorkspaceFailed, "the statement was executed, but the workspace has closed it and no longer has its result (statement %s)", s.id)
			e.Outcome = relay.Done
			return nil, e
		default: // it may run on, and succeed
			return nil, relay.NewError(relay.CodeWorkspaceFailed, "the workspace names no state of the statement that is known here")
		}
		if !pause(ctx, delay) {
			e, _ := ended(ctx)
			return nil, e
		}
	}
}

// failure is the workspace's own reason, for the person whose statement it is.
func (s *sqlStatement) failure(state *sqlState) *relay.Error {
	code := relay.CodeStatementFailed
	switch state.Status.SQLState {
	case "42501":
		code = relay.CodeForbidden
	case "42P01", "42704":
		code = relay.CodeNotFound
	}
	text := s.quote(state.Status.Error.Message)
	if text == "" {
		text = "the statement is " + strconv.QuoteToASCII(s.quote(state.Status.State)) + " in the workspace"
	}
	return relay.Errorf(code, "%s (statement %s)", text, s.id)
}

const maxQuote = 8 << 10

// quote is text of the workspace's that may be shown to the person: shortened, and without their token.
func (s *sqlStatement) quote(text string) string {
	text = strings.ReplaceAll(text, s.token.Reveal(), s.token.String())
	if len(text) > maxQuote {
		text = strings.ToValidUTF8(text[:maxQuote], "") + "…"
	}
	return text
}

// read makes one GET and decodes its answer.
func (s *sqlStatement) read(ctx context.Context, target string, decode func(io.Reader) error) *relay.Error {
	most := s.workspace.cfg.Timeout
	header := http.Header{"Accept": {"application/json"}}
	resp, err := watchCall(ctx, s.retry+most, most, func(ctx context.Context) (*http.Response, error) {
		return s.workspace.do(ctx, s.token, http.MethodGet, target, header, nil, s.retry)
	})
	if err != nil {
		e, _ := callError(ctx, s.token, err)
		return e
	}
	defer discard(resp)
	if e := s.answerError(resp); e != nil {
		return e
	}
	if err := decode(resp.Body); err != nil {
		if e, ok := ended(ctx); ok {
			return e
		}
		return unreadable(err, "the workspace's answer broke off or cannot be read"+workspaceRequest(s.token, resp.Header))
	}
	return nil
}

// answerError is why an answer is none.
func (s *sqlStatement) answerError(resp *http.Response) *relay.Error {
	status := resp.StatusCode
	if status == http.StatusOK && !isHTML(resp.Header) {
		return nil
	}
	request := workspaceRequest(s.token, resp.Header)
	if isHTML(resp.Header) {
		return relay.Errorf(relay.CodeWorkspaceFailed, "the workspace answered %d with an HTML page instead of JSON%s", status, request)
	}
	var doc struct {
		Code    jsontext.Value `json:"error_code"`
		Message string         `json:"message"`
	}
	_ = json.UnmarshalRead(io.LimitReader(resp.Body, 64<<10), &doc) // its status says enough
	e := answerFault(s.token, status, doc.Message, resp.Header)
	if e.Code != relay.CodeWorkspaceDown {
		return e
	}
	switch {
	case status == http.StatusNotFound:
		e.Code = relay.CodeNotFound
	case status >= 400 && status < 500:
		return relay.Errorf(relay.CodeStatementFailed, "the workspace answered %d: %s%s", status, s.quote(doc.Message), request)
	case status == http.StatusGatewayTimeout:
		e.Code = relay.CodeTimeout
	default:
		e.Code = relay.CodeWorkspaceFailed
	}
	return e
}

const (
	cancelTimeout = 5 * time.Second
	cancelAgain   = 100 * time.Millisecond
)

// cancel ends a statement that nobody waits for any more. The first try is at once; a cancel can be sent again, since it
// changes nothing twice.
func (s *sqlStatement) cancel(ctx context.Context) {
	if s.id == "" || s.ended {
		return
	}
	ctx, done := context.WithTimeout(context.WithoutCancel(ctx), cancelTimeout)
	defer done()
	header := http.Header{"Accept": {"application/json"}, "Content-Type": {"application/json"}}
	for {
		resp, err := s.workspace.do(ctx, s.token, http.MethodPost, fmt.Sprintf("%s/%s/cancel", statementsAPI, s.id), header, strings.NewReader("{}"), 0)
		refused := false
		if err == nil {
			discard(resp)
			refused = resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden
			if !refused && resp.StatusCode < 500 && resp.StatusCode != http.StatusTooManyRequests {
				return
			}
		}
		if refused || !pause(ctx, cancelAgain) {
			s.log.Warn("a statement that nobody waits for could not be canceled, it may go on", "statement", s.id)
			return
		}
	}
}
