package sandbox

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// query is what a statement turned out to mean for one person.
type query struct {
	columns []Column
	rows    int
	row     func(i int) []*string // nil is NULL
	takes   time.Duration         // until it ends
	queued  bool                  // PENDING, not RUNNING, until it ends
	fault   *sqlFault

	chunkRows int
}

// sqlFault is how a statement fails.
type sqlFault struct{ code, state, message string }

// forever is longer than any test or demo.
const forever = 1000 * time.Hour

var (
	sqlRange  = regexp.MustCompile(`(?is)^select\s+(\*|id)\s+from\s+range\s*\(\s*(\d{1,12})\s*\)$`)
	sqlTable  = regexp.MustCompile(`(?is)^select\s+\*\s+from\s+([a-z0-9_.]+)$`)
	sqlWait   = regexp.MustCompile(`(?is)^select\s+(slow|queued|stuck)\s*\(\s*(\d{0,5})\s*\)$`)
	sqlRaise  = regexp.MustCompile(`(?is)^select\s+raise_error\s*\(\s*'([^']*)'\s*\)$`)
	sqlValues = regexp.MustCompile(`(?is)^select\s+((?::[a-z_][a-z0-9_]*|-?\d+|'[^']*'|null|(?:current|session)_user\s*\(\s*\))(?:\s*,\s*(?::[a-z_][a-z0-9_]*|-?\d+|'[^']*'|null|(?:current|session)_user\s*\(\s*\)))*)$`)
	sqlWrite  = regexp.MustCompile(`(?is)^(insert|update|delete|merge|create|drop|alter|grant|use)\b`)
)

// parseSQL understands a handful of statements, listed in the package's doc.
func (w *Workspace) parseSQL(req sqlRequest, p principal) query {
	text := strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(req.Statement), ";"))
	switch {
	case sqlRange.MatchString(text):
		m := sqlRange.FindStringSubmatch(text)
		n, _ := strconv.Atoi(m[2]) // 12 digits at most
		return rangeQuery(n, m[1] == "*")
	case sqlWait.MatchString(text):
		return waitQuery(sqlWait.FindStringSubmatch(text))
	case sqlRaise.MatchString(text):
		return query{fault: &sqlFault{"BAD_REQUEST", "P0001", "[USER_RAISED_EXCEPTION] " + sqlRaise.FindStringSubmatch(text)[1] + " SQLSTATE: P0001"}}
	case sqlValues.MatchString(text):
		return valuesQuery(sqlValues.FindStringSubmatch(text)[1], req.Parameters, p)
	case sqlTable.MatchString(text):
		return w.tableQuery(fullName(sqlTable.FindStringSubmatch(text)[1], req.Catalog, req.Schema), p)
	case sqlWrite.MatchString(text):
		return query{}
	}
	word, _, _ := strings.Cut(text, " ")
	return query{fault: &sqlFault{"BAD_REQUEST", "42601",
		fmt.Sprintf("[PARSE_SYNTAX_ERROR] Syntax error at or near '%s'. SQLSTATE: 42601 (line 1, pos 0)", word)}}
}

// rangeQuery generates rows on demand, so that a million of them take no memory.
func rangeQuery(n int, wide bool) query {
	if !wide {
		return query{columns: []Column{{"id", "BIGINT"}}, rows: n, row: func(i int) []*string { return []*string{text(i)} }}
	}
	columns := []Column{{"id", "BIGINT"}, {"name", "STRING"}, {"half", "DOUBLE"}, {"even", "BOOLEAN"}}
	return query{columns: columns, rows: n, row: func(i int) []*string {
		name := text("row-" + strconv.Itoa(i))
		if i%10 == 9 {
			name = nil
		}
		return []*string{text(i), name, text(float64(i) / 2), text(i%2 == 0)}
	}}
}

func waitQuery(m []string) query {
	q := oneRow([]Column{{"slow", "STRING"}}, []*string{text("done")})
	seconds, err := strconv.Atoi(m[2])
	q.takes, q.queued = time.Duration(seconds)*time.Second, strings.EqualFold(m[1], "queued")
	if err != nil || strings.EqualFold(m[1], "stuck") {
		q.takes = forever
	}
	return q
}

func valuesQuery(list string, parameters []sqlParameter, who principal) query {
	var columns []Column
	var row []*string
	for item := range strings.SplitSeq(list, ",") {
		item = strings.TrimSpace(item)
		column, value := Column{item, "STRING"}, text(strings.Trim(item, "'"))
		switch {
		case strings.EqualFold(item, "null"):
			column.Type, value = "VOID", nil
		case strings.HasSuffix(item, ")"):
			column.Name, value = "current_user()", text(who.name)
		case item[0] == ':':
			p, ok := findParameter(parameters, item[1:])
			if !ok {
				return query{fault: &sqlFault{"BAD_REQUEST", "42P02",
					"[UNBOUND_SQL_PARAMETER] Found the unbound parameter: " + item[1:] + ". SQLSTATE: 42P02"}}
			}
			value = p.Value
			if p.Type != "" {
				column.Type = strings.ToUpper(p.Type)
			}
		case item[0] != '\'':
			column.Type = "INT"
		}
		columns, row = append(columns, column), append(row, value)
	}
	return oneRow(columns, row)
}

func findParameter(parameters []sqlParameter, name string) (sqlParameter, bool) {
	for _, p := range parameters {
		if p.Name == name {
			return p, true
		}
	}
	return sqlParameter{}, false
}

func (w *Workspace) tableQuery(name string, p principal) query {
	for _, t := range w.cfg.Tables {
		if fullName(t.Name, defaultCatalog, defaultSchema) != name {
			continue
		}
		var groups []string
		for _, m := range w.directory.memberships(p.groups) {
			groups = append(groups, m.group)
		}
		if !allowed(t.Groups, groups) {
			return query{fault: &sqlFault{"BAD_REQUEST", "42501",
				"[INSUFFICIENT_PERMISSIONS] Insufficient privileges: User does not have SELECT on Table '" + name + "'. SQLSTATE: 42501"}}
		}
		rows := t.visible(groups)
		return query{columns: t.Columns, rows: len(rows), row: func(i int) []*string {
			values := make([]*string, len(t.Columns))
			for c, v := range rows[i].Values {
				if v != nil {
					values[c] = text(v)
				}
			}
			return values
		}}
	}
	return query{fault: &sqlFault{"BAD_REQUEST", "42P01",
		"[TABLE_OR_VIEW_NOT_FOUND] The table or view `" + strings.ReplaceAll(name, ".", "`.`") + "` cannot be found. SQLSTATE: 42P01"}}
}

func oneRow(columns []Column, values []*string) query {
	return query{columns: columns, rows: 1, row: func(int) []*string { return values }}
}

func text(v any) *string {
	s := fmt.Sprint(v)
	return &s
}
