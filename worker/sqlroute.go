package worker

import (
	"context"
	"net/http"
	"strconv"

	"github.com/obo-relay/obo-relay/relay"
)

// sql runs a statement as the person and streams its rows.
//
// Until the first row is on its way every failure is a problem document with the status of its code. After that the body
// is broken off, so that no client takes it for whole; NDJSON has a last line before it, {"obo_error": problem}.
func (s *Routes) sql(w http.ResponseWriter, r *http.Request, token relay.Token) {
	format := chooseFormat(r.Header)
	if format == nil || format == formatArrow && s.cfg.Inline {
		refuse(w, relay.NewError(relay.CodeBadRequest, "rows come as application/x-ndjson, text/csv or, unless the worker takes results inline, application/vnd.apache.arrow.stream; Accept names none of them"))
		return
	}
	q, err := decodeSQLRequest(http.MaxBytesReader(w, r.Body, maxSQLBody))
	if err != nil {
		refuse(w, relay.AsError(err))
		return
	}
	if q.WarehouseID == "" {
		q.WarehouseID = s.cfg.Warehouse
	}
	if q.WarehouseID == "" {
		refuse(w, relay.NewError(relay.CodeBadRequest, "the request names no warehouse_id, and the worker has none of its own (--warehouse)"))
		return
	}
	statement := &sqlStatement{workspace: s.cfg.Workspace, token: token, retry: s.cfg.RetryTimeout, log: s.cfg.Log}
	if e, acted := statement.submit(r.Context(), s.submission(q, format)); e != nil {
		answerSQLError(w, e, acted)
		return
	}
	defer statement.cancel(r.Context()) // unless it has ended
	call, _ := CallFrom(r.Context())
	room := newRowRoom(r.Context(), s.large, personOf(call.App, token))
	defer room.release()
	state, e := statement.await(r.Context(), room)
	switch {
	case e != nil && !statement.ended: // what was refused is to ask for its state: it may run on, and succeed
		end(w, e, true)
		return
	case e != nil:
		answerSQLError(w, e, true)
		return
	}
	s.sendRows(r.Context(), w, statement, state, room, format)
}

func (s *Routes) submission(q SQLRequest, format *sqlFormat) sqlSubmission {
	disposition := "EXTERNAL_LINKS"
	if s.cfg.Inline {
		disposition = "INLINE"
	}
	return sqlSubmission{
		Statement: q.Statement, WarehouseID: q.WarehouseID, Catalog: q.Catalog, Schema: q.Schema, Parameters: q.Parameters,
		RowLimit: q.RowLimit, Disposition: disposition, Format: format.workspace, WaitTimeout: "0s",
	}
}

// answerSQLError answers a statement that gave no rows. What the workspace says of the statement itself is the outcome of
// the request, and holds the workspace's words.
func answerSQLError(w http.ResponseWriter, e *relay.Error, acted bool) {
	switch {
	case e.Outcome == relay.Done, e.Code == relay.CodeStatementFailed, e.Code == relay.CodeForbidden, e.Code == relay.CodeNotFound:
		reply(w, e)
	default:
		end(w, e, acted)
	}
}

// sendRows streams a result chunk by chunk.
func (s *Routes) sendRows(ctx context.Context, w http.ResponseWriter, statement *sqlStatement, state *sqlState, room *rowRoom, format *sqlFormat) {
	h := w.Header()
	h.Set("Content-Type", format.mediaType)
	h.Set("Sql-Statement-Id", statement.id)
	h.Set("Sql-Row-Count", strconv.FormatInt(state.Manifest.Rows, 10))
	h.Set("Sql-Truncated", strconv.FormatBool(state.Manifest.Truncated))
	if columns := columnsHeader(state.Manifest.Schema.Columns); columns != "" {
		h.Set("Sql-Columns", columns)
	}
	if format == formatArrow && state.Manifest.Chunks == 0 {
		w.WriteHeader(http.StatusNoContent) // no chunk, no Arrow schema
		return
	}
	out := newRowSender(w)
	result := &sqlResult{sqlStatement: statement, state: state, links: s.links, room: room, inline: s.cfg.Inline}
	var e *relay.Error
	if format == formatArrow {
		e = result.sendArrow(ctx, out)
	} else {
		e = result.sendRows(ctx, out, newRowEncoder(format, state.Manifest.Schema.Columns))
	}
	out.finish(e, format)
}
