package sandbox

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ScopeSQL is what the statement API wants of a token.
const ScopeSQL = "sql"

const statementsPath = "/api/2.0/sql/statements"

// sqlRoutes are the SQL Statement Execution API, and the storage that its
// external links point to.
func (w *Workspace) sqlRoutes() {
	w.api("POST "+statementsPath, ScopeSQL, w.submitStatement)
	w.api("GET "+statementsPath+"/{id}", ScopeSQL, w.getStatement)
	w.api("GET "+statementsPath+"/{id}/result/chunks/{chunk}", ScopeSQL, w.getChunk)
	w.api("POST "+statementsPath+"/{id}/cancel", ScopeSQL, w.cancelStatement)
	w.mux.HandleFunc("GET "+storagePath+"{id}/{chunk}", w.storage)
}

type sqlRequest struct {
	Statement     string         `json:"statement"`
	WarehouseID   string         `json:"warehouse_id"`
	Catalog       string         `json:"catalog"`
	Schema        string         `json:"schema"`
	Parameters    []sqlParameter `json:"parameters"`
	RowLimit      int            `json:"row_limit"`
	Disposition   string         `json:"disposition"`
	Format        string         `json:"format"`
	WaitTimeout   string         `json:"wait_timeout"`
	OnWaitTimeout string         `json:"on_wait_timeout"`
}

type sqlParameter struct {
	Name  string  `json:"name"`
	Type  string  `json:"type"`
	Value *string `json:"value"` // absent is NULL
}

// The words of the API.
const (
	inline        = "INLINE"
	externalLinks = "EXTERNAL_LINKS"
	jsonArray     = "JSON_ARRAY"
	csvFormat     = "CSV"
	arrowStream   = "ARROW_STREAM"
)

const maxStatement = 16 << 20

// check fills in defaults, and returns the time to wait or what is wrong.
func (r *sqlRequest) check(warehouses []string) (wait time.Duration, fault string) {
	def := func(s *string, value string) {
		if *s == "" {
			*s = value
		}
	}
	def(&r.Disposition, inline)
	def(&r.Format, jsonArray)
	def(&r.WaitTimeout, "10s")
	def(&r.OnWaitTimeout, "CONTINUE")
	def(&r.Catalog, defaultCatalog)
	def(&r.Schema, defaultSchema)
	seconds, err := strconv.Atoi(strings.TrimSuffix(r.WaitTimeout, "s"))
	switch {
	case r.Statement == "":
		return 0, "statement must be defined."
	case len(r.Statement) > maxStatement:
		return 0, "statement is over 16 MiB."
	case r.WarehouseID == "":
		return 0, "warehouse_id must be defined."
	case len(warehouses) > 0 && !slices.Contains(warehouses, r.WarehouseID):
		return 0, r.WarehouseID + " is not a valid endpoint id."
	case err != nil || !strings.HasSuffix(r.WaitTimeout, "s") || seconds != 0 && (seconds < 5 || seconds > 50):
		return 0, "wait_timeout must be 0s or between 5s and 50s."
	case r.OnWaitTimeout != "CONTINUE" && (r.OnWaitTimeout != "CANCEL" || seconds == 0):
		return 0, "on_wait_timeout must be CONTINUE, or CANCEL with a wait_timeout."
	case r.Disposition != inline && r.Disposition != externalLinks:
		return 0, "disposition must be INLINE or EXTERNAL_LINKS."
	case r.Format != jsonArray && (r.Format != csvFormat && r.Format != arrowStream || r.Disposition == inline):
		return 0, "The format " + r.Format + " is not supported with disposition " + r.Disposition + "."
	case r.RowLimit < 0:
		return 0, "row_limit must be positive."
	}
	return time.Duration(seconds) * time.Second, ""
}

func (w *Workspace) submitStatement(rw http.ResponseWriter, r *http.Request, p principal) {
	var req sqlRequest
	if err := json.NewDecoder(io.LimitReader(r.Body, 2*maxStatement)).Decode(&req); err != nil {
		writeError(rw, http.StatusBadRequest, "MALFORMED_REQUEST", "Could not parse request object.")
		return
	}
	wait, fault := req.check(w.cfg.Warehouses)
	if fault != "" {
		writeError(rw, http.StatusBadRequest, "INVALID_PARAMETER_VALUE", fault)
		return
	}
	s := w.statements.submit(req, p.name, w.parseSQL(req, p))
	if wait == 0 {
		// Answered before anything ran, however short the statement is.
		writeJSON(rw, http.StatusOK, map[string]any{"statement_id": s.id, "status": map[string]any{"state": StatePending}})
		return
	}
	if !s.wait(r.Context(), wait) && req.OnWaitTimeout == "CANCEL" {
		w.statements.cancel(s)
	}
	writeJSON(rw, http.StatusOK, w.statementAnswer(s))
}

// find answers 404 for the statement of somebody else, too.
func (w *Workspace) find(rw http.ResponseWriter, r *http.Request, p principal) *statement {
	s := w.statements.get(r.PathValue("id"))
	if s == nil || s.principal != p.name {
		writeError(rw, http.StatusNotFound, "NOT_FOUND",
			fmt.Sprintf("The statement %s was not found.", r.PathValue("id")))
		return nil
	}
	return s
}

func (w *Workspace) getStatement(rw http.ResponseWriter, r *http.Request, p principal) {
	if s := w.find(rw, r, p); s != nil {
		writeJSON(rw, http.StatusOK, w.statementAnswer(s))
	}
}

func (w *Workspace) cancelStatement(rw http.ResponseWriter, r *http.Request, p principal) {
	if s := w.find(rw, r, p); s != nil {
		w.statements.cancel(s)
		writeJSON(rw, http.StatusOK, map[string]any{})
	}
}

func (w *Workspace) getChunk(rw http.ResponseWriter, r *http.Request, p principal) {
	s := w.find(rw, r, p)
	if s == nil {
		return
	}
	i, err := strconv.Atoi(r.PathValue("chunk"))
	switch state := w.statements.state(s); {
	case state != StateSucceeded:
		writeError(rw, http.StatusNotFound, "NOT_FOUND", "The statement's result is not available: it is "+string(state)+".")
	case err != nil || i < 0 || i >= s.chunks():
		writeError(rw, http.StatusBadRequest, "INVALID_PARAMETER_VALUE", "There is no such chunk.")
	default:
		rw.Header().Set("Content-Type", "application/json")
		w.writeChunk(rw, s, i)
	}
}

// statementAnswer is the status and, after success, the manifest and the first
// chunk.
func (w *Workspace) statementAnswer(s *statement) any {
	state := w.statements.state(s)
	status := map[string]any{"state": state}
	answer := map[string]any{"statement_id": s.id, "status": status}
	if state == StateFailed {
		status["error"] = map[string]any{"error_code": s.query.fault.code, "message": s.query.fault.message}
		status["sql_state"] = s.query.fault.state
	}
	if state == StateSucceeded || state == StateClosed {
		answer["manifest"] = s.manifest()
	}
	if state == StateSucceeded {
		answer["result"] = map[string]any{}
		if s.chunks() > 0 {
			answer["result"] = json.RawMessage(w.chunkJSON(s, 0))
		}
	}
	return answer
}
