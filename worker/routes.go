package worker

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/obo-relay/obo-relay/relay"
)

// RoutesPrefix is the path under which a worker serves its own routes.
const RoutesPrefix = "/.obo/"

// The routes.
const (
	pathMe  = RoutesPrefix + "me"
	pathSQL = RoutesPrefix + "sql"
	pathAPI = RoutesPrefix + "workspace" // and what follows, from /api/ on
)

// RoutesConfig configures NewRoutes.
type RoutesConfig struct {
	// Workspace that the routes call as the person. Required.
	Workspace *Workspace
	// Next serves every path that is not under RoutesPrefix. Defaults to not_found.
	Next http.Handler
	// API lists the path prefixes of the workspace's REST API that may be called, such as "/api/2.1/unity-catalog"; each
	// holds for whole segments. Defaults to none.
	API []string
	// Warehouse runs the statements that name none. Defaults to none.
	Warehouse string
	// Inline takes SQL results through the workspace's API instead of links to its cloud storage: for networks from which
	// the storage cannot be reached. The workspace limits them to 25 MiB, and there is no Arrow. Defaults to links.
	Inline bool
	// LinkHosts are hosts (name, or name:port) to which links may point although they resolve to private addresses, as
	// storage behind a private endpoint does. Defaults to the workspace's own.
	LinkHosts []string
	// RetryTimeout limits the time in which a read of a statement's state or result is tried again after 429, 502, 503, 504
	// or a broken connection. Statements are never sent twice. Defaults to 60 s.
	RetryTimeout time.Duration
	// Log defaults to slog.Default().
	Log *slog.Logger
}

func (c RoutesConfig) withDefaults() RoutesConfig {
	if c.Next == nil {
		c.Next = http.HandlerFunc(noRoute)
	}
	if c.RetryTimeout == 0 {
		c.RetryTimeout = 60 * time.Second
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	c.API = slices.Clone(c.API)
	for i, prefix := range c.API {
		c.API[i] = strings.TrimSuffix(prefix, "/")
	}
	return c
}

// validate reports all faults at once.
func (c RoutesConfig) validate() error {
	var faults []error
	if c.Workspace == nil {
		faults = append(faults, errors.New("routes: Workspace is missing"))
	}
	for _, prefix := range c.API {
		if err := relay.CheckPath(prefix); err != nil || prefix != "/api" && !strings.HasPrefix(prefix, "/api/") {
			faults = append(faults, fmt.Errorf("routes: API prefix %q is not a canonical path under /api", prefix))
		}
	}
	if c.Warehouse != "" && !warehouseID.MatchString(c.Warehouse) {
		faults = append(faults, fmt.Errorf("routes: Warehouse %q is not the id of a SQL warehouse", c.Warehouse))
	}
	for _, host := range c.LinkHosts {
		if _, err := hostPort(host); err != nil {
			faults = append(faults, fmt.Errorf("routes: link host %q is not a host name, or a host name and port", host))
		}
	}
	if c.RetryTimeout < 0 {
		faults = append(faults, fmt.Errorf("routes: RetryTimeout is %v, it must be positive", c.RetryTimeout))
	}
	return errors.Join(faults...)
}

// Routes are the worker's own routes. Each acts as the person of the request and as nobody else:
//
//	GET  /.obo/me              who the person is, and their groups: a User as JSON
//	POST /.obo/sql             a SQL statement; its rows as NDJSON, CSV or an Arrow stream
//	ANY  /.obo/workspace/api/… the workspace's REST API, for the allowed prefixes
//
// They are for requests that came through the relay (CallFrom); any other is refused. A policy names them like any path.
//
// # SQL
//
// The body is a SQLRequest. Accept chooses the form of the rows:
//
//	application/x-ndjson, the default     {"id":1,"name":"a","price":"9.90","sold":true,"at":null}
//	text/csv                              RFC 4180 with a header; NULL is an empty field, the empty text is ""
//	application/vnd.apache.arrow.stream   one Arrow IPC stream; 204 where there are no rows
//
// In NDJSON whole and floating numbers are numbers, BOOLEAN is true or false, NULL is null, and everything else is text as
// the workspace writes it: DECIMAL, so that no digit is lost, dates and times, NaN, and ARRAY, MAP and STRUCT. The second
// column a is called a_2. The reply's head says Sql-Statement-Id, Sql-Row-Count, Sql-Truncated (by row_limit), and
// Sql-Columns, a JSON array of {"name","type"} in ASCII, unless it has over 8 KiB.
//
// Until the first row is on its way every failure is a problem document. What the workspace says of the statement itself
// (statement_failed, forbidden, not_found) holds its own words. After that the body is broken off, and NDJSON has a last
// line {"obo_error": problem}. A statement may run longer than callers wait by default: ask for more time with Obo-Timeout.
//
// A statement is submitted once, whatever happens. When the caller leaves or the time is over before the statement has
// ended it is canceled. Rows stream through with flat memory. Of results with a row over 1 MiB four are read at a time, of one
// app's three and of one person's two; others wait.
//
// # The REST API
//
// What the workspace answers is passed on, its refusals too. Of the request's header only Accept, Accept-Language, Content-*,
// If-*, Range, Idempotency-Key and traceparent cross; of the reply's all but cookies and what belongs to a connection.
type Routes struct {
	cfg   RoutesConfig
	links *linkFetcher
	large *slots // results with large rows
}

var _ http.Handler = (*Routes)(nil)

// NewRoutes checks the configuration. It makes no call.
func NewRoutes(cfg RoutesConfig) (*Routes, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	return &Routes{cfg: cfg, links: newLinkFetcher(cfg), large: newLargeSlots()}, nil
}

// Close closes idle connections. Requests under way go on. Closing twice is fine.
func (s *Routes) Close() { s.links.transport.CloseIdleConnections() }

// ServeHTTP decides by the decoded path what is the worker's own, so that no spelling of it reaches the next handler, and
// serves only the one spelling.
func (s *Routes) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != strings.TrimSuffix(RoutesPrefix, "/") && !strings.HasPrefix(r.URL.Path, RoutesPrefix) {
		s.cfg.Next.ServeHTTP(w, r)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	path := r.URL.EscapedPath()
	if err := relay.CheckPath(path); err != nil {
		refuse(w, relay.AsError(err))
		return
	}
	call, ok := CallFrom(r.Context())
	if !ok || call.Token.IsZero() {
		refuse(w, relay.NewError(relay.CodeTokenMissing, "this route is for requests that came through the relay"))
		return
	}
	switch {
	case path == pathMe && (r.Method == http.MethodGet || r.Method == http.MethodHead):
		s.me(w, r, call.Token)
	case path == pathSQL && r.Method == http.MethodPost:
		s.sql(w, r, call.Token)
	case path == pathMe || path == pathSQL:
		refuse(w, relay.Errorf(relay.CodeBadRequest, "%s is for GET, %s for POST", pathMe, pathSQL))
	case strings.HasPrefix(path, pathAPI+"/api/"):
		s.api(w, r, call.Token, strings.TrimPrefix(path, pathAPI))
	default:
		noRoute(w, r)
	}
}

func noRoute(w http.ResponseWriter, _ *http.Request) {
	refuse(w, relay.NewError(relay.CodeNotFound, "this worker serves nothing at this path"))
}

// me answers who the person is: what the worker's look-up said, else what the workspace says now.
func (s *Routes) me(w http.ResponseWriter, r *http.Request, token relay.Token) {
	user, ok := UserFrom(r.Context())
	if !ok {
		var err error
		if user, err = s.cfg.Workspace.Me(r.Context(), token); err != nil {
			refuse(w, relay.AsError(err))
			return
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(user) // a caller that left is no fault
}
