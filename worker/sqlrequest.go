package worker

import (
	"errors"
	"io"
	"net/http"
	"regexp"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/obo-relay/obo-relay/relay"
)

// SQLRequestTypeName names the schema of a SQLRequest.
const SQLRequestTypeName = "obo.v1.sql-request"

// Bounds of a SQLRequest, the same as in its schema.
const (
	maxSQLBody    = 2 << 20
	maxStatement  = 1 << 20 // characters
	maxParameters = 256
	maxSQLName    = 255 // characters
	maxRowLimit   = 1 << 53
)

// SQLRequest is the body of POST /.obo/sql.
type SQLRequest struct {
	Statement   string         `json:"statement"`             // with parameter markers as in :name
	Parameters  []SQLParameter `json:"parameters,omitzero"`   // for the markers
	WarehouseID string         `json:"warehouse_id,omitzero"` // empty: the worker's own
	Catalog     string         `json:"catalog,omitzero"`      // what unqualified names are in
	Schema      string         `json:"schema,omitzero"`
	RowLimit    int64          `json:"row_limit,omitzero"` // 0 = none
}

// SQLParameter is the value of one parameter marker.
type SQLParameter struct {
	Name  string  `json:"name"`
	Value *string `json:"value,omitzero"` // as text, whatever its type; nil is NULL
	Type  string  `json:"type,omitzero"`  // a SQL type such as DATE or DECIMAL(10,2); empty: STRING
}

var (
	warehouseID   = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
	parameterName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,254}$`)
	parameterType = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_ ]{0,39}(\([0-9]{1,3}(, ?[0-9]{1,3})?\))?$`)
)

// decodeSQLRequest reads strictly: an unknown or repeated member, or anything after the document, is an error.
func decodeSQLRequest(body io.Reader) (SQLRequest, error) {
	var q SQLRequest
	if err := json.UnmarshalRead(body, &q, json.RejectUnknownMembers(true)); err != nil {
		return q, sqlRequestError(err)
	}
	return q, q.check()
}

// sqlRequestError says where a body is at fault, and nothing of what it holds.
func sqlRequestError(err error) error {
	if e, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return relay.Errorf(relay.CodeBodyTooLarge, "a statement with its parameters has at most %d bytes", e.Limit)
	}
	if e, ok := errors.AsType[*relay.Error](err); ok {
		return e
	}
	at := "the top level"
	if e, ok := errors.AsType[*json.SemanticError](err); ok && e.JSONPointer != "" && len(e.JSONPointer) <= 64 {
		at = string(e.JSONPointer)
	}
	if e, ok := errors.AsType[*jsontext.SyntacticError](err); ok && e.JSONPointer != "" && len(e.JSONPointer) <= 64 {
		at = string(e.JSONPointer)
	}
	return relay.Errorf(relay.CodeBadRequest, "the body is not a JSON document as schemas/%s.json describes it: the fault is at %s", SQLRequestTypeName, at)
}

func (q SQLRequest) check() error {
	bad := func(what string) error { return relay.NewError(relay.CodeBadRequest, what) }
	switch {
	case q.Statement == "":
		return bad("statement is missing")
	case utf8.RuneCountInString(q.Statement) > maxStatement:
		return bad("statement has over 1,048,576 characters")
	case q.WarehouseID != "" && !warehouseID.MatchString(q.WarehouseID):
		return bad("warehouse_id is not the id of a SQL warehouse")
	case utf8.RuneCountInString(q.Catalog) > maxSQLName || utf8.RuneCountInString(q.Schema) > maxSQLName:
		return bad("catalog or schema has over 255 characters")
	case q.RowLimit < 0 || q.RowLimit > maxRowLimit:
		return bad("row_limit is not from 0 to 2^53")
	case len(q.Parameters) > maxParameters:
		return bad("there are over 256 parameters")
	}
	for _, p := range q.Parameters {
		if !parameterName.MatchString(p.Name) || p.Type != "" && !parameterType.MatchString(p.Type) {
			return bad("a parameter's name is no identifier, or its type no SQL type")
		}
	}
	return nil
}
