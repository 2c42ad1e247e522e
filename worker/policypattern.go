package worker

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/obo-relay/obo-relay/relay"
)

// pattern is the match of a rule, as http.ServeMux reads it.
type pattern struct {
	match  string // "METHOD /path" or "/path"
	method string // empty: every method
	path   string
	names  []string // its segments, "" for a wildcard; without what stands for the rest
	end    ending
}

// ending is what a pattern asks of a path's last slash.
type ending int

const (
	endsBare  ending = iota // /a: no slash
	endsSlash               // /a/{$}: a slash
	endsTree                // /a/ or /a/{rest...}: a slash and anything
)

// parsePattern refuses what http.ServeMux refuses, and what would never match: the error quotes the file only.
func parsePattern(text string) (pattern, error) {
	method, path := "", text
	if i := strings.IndexAny(text, " \t"); i >= 0 {
		method, path = text[:i], strings.TrimLeft(text[i+1:], " \t")
		if !relay.ValidMethod(method) || method != strings.ToUpper(method) {
			return pattern{}, fmt.Errorf("%q is not a method: want one in capitals, not CONNECT", method)
		}
	}
	p := pattern{match: path, method: method, path: path}
	if method != "" {
		p.match = method + " " + path
	}
	switch {
	case path == "":
		return pattern{}, fmt.Errorf("%q has no path: want for example GET /reports/", text)
	case path[0] != '/':
		return pattern{}, fmt.Errorf("%q: the path does not start with /; a host cannot be named, since there is only one", text)
	case strings.Contains(path, ";"):
		return pattern{}, errors.New("it would never match: paths with a semicolon are denied")
	}
	if err := relay.CheckPath(path); err != nil {
		return pattern{}, fmt.Errorf("it would never match: %s; write other characters percent-encoded", relay.AsError(err).Detail)
	}
	if err := register(http.NewServeMux(), p.match); err != nil {
		_, detail, _ := strings.Cut(err.Error(), ": ") // after `parsing "…"`
		return pattern{}, fmt.Errorf("%q cannot be read: %s", text, detail)
	}
	p.split()
	return p, nil
}

// split reads the segments of a pattern that http.ServeMux has accepted.
func (p *pattern) split() {
	segments := strings.Split(p.path[1:], "/")
	last := segments[len(segments)-1]
	switch {
	case last == "" || strings.HasSuffix(last, "...}"):
		p.end, segments = endsTree, segments[:len(segments)-1]
	case last == "{$}":
		p.end, segments = endsSlash, segments[:len(segments)-1]
	}
	for _, s := range segments {
		if strings.HasPrefix(s, "{") {
			s = ""
		}
		p.names = append(p.names, s)
	}
}

// is reports whether the pattern, which matches the path, names the path itself rather than a tree that it is in.
func (p *pattern) is(path string) bool {
	if strings.HasSuffix(path, "/") {
		return p.end != endsBare && strings.Count(path, "/") == len(p.names)+1
	}
	return p.end == endsBare
}

// moreLiteral reports whether p has a name wherever q has one, and in more places. Both have the same number of segments.
func (p *pattern) moreLiteral(q *pattern) bool {
	more := false
	for i := range p.names {
		if p.names[i] == "" && q.names[i] != "" {
			return false
		}
		more = more || p.names[i] != "" && q.names[i] == ""
	}
	return more
}

// register is mux.Handle with an error for its panic.
func register(mux *http.ServeMux, match string) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("%v", v)
		}
	}()
	mux.Handle(match, http.NotFoundHandler())
	return nil
}

// conflicting returns the rule of those before that meets r without either being more specific.
func conflicting(before []*rule, r *rule) *rule {
	for _, other := range before {
		mux := http.NewServeMux()
		if register(mux, other.match) == nil && register(mux, r.match) != nil {
			return other
		}
	}
	return nil
}

var errOldMux = errors.New("GODEBUG=httpmuxgo121=1 changes how patterns are read: unset it")

// checkMux makes sure that http.ServeMux reads patterns as documented, which an environment variable can change.
func checkMux() error {
	mux := http.NewServeMux()
	if err := register(mux, "GET /{x}"); err != nil {
		return errOldMux
	}
	if _, match := mux.Handler(&http.Request{Method: "GET", URL: &url.URL{Path: "/a"}}); match == "" {
		return errOldMux
	}
	return nil
}

// deciding returns the rules that must all allow a request, that of the path as it was asked for first.
func (p *Policy) deciding(method, path string) []*rule {
	own := p.find(method, path)
	sibling, ok := strings.CutSuffix(path, "/")
	if !ok {
		sibling = path + "/"
	}
	var other *rule
	if sibling != "" {
		other = p.find(method, sibling)
	}
	switch {
	case own == nil && (other == nil || !other.is(sibling)):
		return nil
	case other == nil || other == own || !other.is(sibling):
		return []*rule{own}
	case own == nil || !own.is(path) || other.moreLiteral(&own.pattern):
		return []*rule{other}
	case own.moreLiteral(&other.pattern) || !own.differs(other):
		return []*rule{own}
	}
	return []*rule{own, other}
}

// differs reports whether two patterns of one length have names in different places.
func (p *rule) differs(q *rule) bool {
	for i := range p.names {
		if (p.names[i] == "") != (q.names[i] == "") {
			return true
		}
	}
	return false
}

// find returns the rule that http.ServeMux chooses, nil if it chooses none. For a path without a slash at the end that is
// the rule of the path with one, where only that is named: there http.ServeMux would redirect.
func (p *Policy) find(method, path string) *rule {
	u, err := url.ParseRequestURI(path)
	if err != nil {
		return nil
	}
	_, match := p.mux.Handler(&http.Request{Method: method, URL: u})
	return p.byMatch[match]
}
