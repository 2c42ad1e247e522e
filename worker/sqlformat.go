package worker

import (
	"mime"
	"net/http"
	"strconv"
	"strings"
)

// sqlFormat is a form in which rows leave.
type sqlFormat struct {
	mediaType string // of the reply
	accept    []string
	workspace string // the format in which the workspace gives the result
}

// sqlFormats, the first is the default.
var sqlFormats = []*sqlFormat{formatNDJSON, formatCSV, formatArrow}

var (
	formatNDJSON = &sqlFormat{"application/x-ndjson", []string{"application/x-ndjson", "application/ndjson", "application/jsonl", "application/*", "*/*"}, "JSON_ARRAY"}
	formatCSV    = &sqlFormat{"text/csv; charset=utf-8; header=present", []string{"text/csv", "text/*"}, "JSON_ARRAY"}
	formatArrow  = &sqlFormat{"application/vnd.apache.arrow.stream", []string{"application/vnd.apache.arrow.stream"}, "ARROW_STREAM"}
)

// chooseFormat finds the format that Accept wants most (RFC 9110 §12.5.1), nil if it wants none of them. Of equals the
// first in the header counts, as callers write it.
func chooseFormat(header http.Header) *sqlFormat {
	accept := strings.Join(header["Accept"], ",")
	if strings.TrimSpace(accept) == "" {
		return sqlFormats[0]
	}
	var best *sqlFormat
	quality := 0.0
	for item := range strings.SplitSeq(accept, ",") {
		mediaType, parameters, err := mime.ParseMediaType(item)
		if err != nil {
			continue
		}
		q := 1.0
		if v, given := parameters["q"]; given {
			if q, err = strconv.ParseFloat(v, 64); err != nil {
				continue
			}
		}
		if f := formatOf(mediaType); f != nil && q > quality && q <= 1 {
			best, quality = f, q
		}
	}
	return best
}

func formatOf(mediaType string) *sqlFormat {
	for _, f := range sqlFormats {
		for _, a := range f.accept {
			if a == mediaType {
				return f
			}
		}
	}
	return nil
}
