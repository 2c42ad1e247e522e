package sandbox

import (
	"fmt"
	"slices"
	"strings"
)

// Table is a table that statements can read. Its name is one or up to three
// parts, as in "sales" or "main.demo.sales"; missing ones are those of
// the default catalog and schema, "main" and "default".
type Table struct {
	// Name of the table. Required.
	Name string
	// Columns in order. Required.
	Columns []Column
	// Rows in order.
	Rows []Row
	// Groups that may read the table. Defaults to everybody.
	Groups []string
}

// Column of a table or result. Type is a word such as BIGINT, STRING, DOUBLE or
// BOOLEAN. Defaults to STRING.
type Column struct{ Name, Type string }

// Row of a table. Groups makes it visible only to members of one of them, as
// a row filter does on the platform. Defaults to everybody.
type Row struct {
	Values []any // printed with fmt.Sprint; nil is NULL
	Groups []string
}

const (
	defaultCatalog   = "main"
	defaultSchema    = "default"
	defaultChunkRows = 50_000
)

// fullName completes a table's name from the statement's catalog and schema.
func fullName(name, catalog, schema string) string {
	parts := strings.Split(name, ".")
	if len(parts) == 1 {
		parts = append([]string{schema}, parts...)
	}
	if len(parts) == 2 {
		parts = append([]string{catalog}, parts...)
	}
	return strings.ToLower(strings.Join(parts, "."))
}

func (t Table) faults() (faults []error) {
	add := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if !plainName.MatchString(t.Name) || strings.Count(t.Name, ".") > 2 {
		add("table: name %q is not one to three words with dots between", t.Name)
	}
	if len(t.Columns) == 0 {
		add("table %q: no columns", t.Name)
	}
	for i, r := range t.Rows {
		if len(r.Values) != len(t.Columns) {
			add("table %q: row %d has %d values for %d columns", t.Name, i, len(r.Values), len(t.Columns))
		}
	}
	return faults
}

// visible are the rows that a member of these groups sees.
func (t Table) visible(groups []string) []Row {
	var rows []Row
	for _, r := range t.Rows {
		if allowed(r.Groups, groups) {
			rows = append(rows, r)
		}
	}
	return rows
}

func allowed(wanted, held []string) bool {
	return len(wanted) == 0 || slices.ContainsFunc(wanted, func(g string) bool { return slices.Contains(held, g) })
}
