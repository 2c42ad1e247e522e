package supply

import (
	"regexp"
	"slices"

	"github.com/google/licensecheck"
)

// Allowed are the licences under which a dependency may be: those that ask for a notice alone, and MPL-2.0, which covers its
// own files only.
var Allowed = []string{"Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "MPL-2.0"}

type kind int

const (
	other kind = iota
	license
	notice
)

var (
	licenseName = regexp.MustCompile(`(?i)^(licen[cs]e|copying|unlicense)([-_.].*)?$`)
	noticeName  = regexp.MustCompile(`(?i)^(notice|patents)([-_.].*)?$`)
	codeName    = regexp.MustCompile(`(?i)\.(go|py|sh|s|json|ya?ml|tmpl)$`)
)

// kindOf is what a file is by its name.
func kindOf(name string) kind {
	switch {
	case codeName.MatchString(name):
		return other
	case licenseName.MatchString(name):
		return license
	case noticeName.MatchString(name):
		return notice
	}
	return other
}

// least is how much of a text must be that of known licences, in percent. The rest are names and headings.
const least = 75

// identify returns the SPDX identifiers of the licences that a text consists of; none if it holds much else.
func identify(text []byte) (ids []string) {
	cover := licensecheck.Scan(text)
	if cover.Percent < least {
		return nil
	}
	for _, m := range cover.Match {
		if !m.IsURL && !slices.Contains(ids, m.ID) {
			ids = append(ids, m.ID)
		}
	}
	return ids
}
