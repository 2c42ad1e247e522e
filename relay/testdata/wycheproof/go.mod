// Where the outside vectors come from: this file pins them, the tests of relay fetch and read them, and no program sees them.
// The repository's go.mod names itself in lower case, and the module proxy knows it under its upper-case name.
module github.com/obo-relay/obo-relay/relay/testdata/wycheproof

go 1.24

require github.com/c2sp/wycheproof v0.0.0-20250901140545-b51abcfb8daf

replace github.com/c2sp/wycheproof => github.com/C2SP/wycheproof v0.0.0-20250901140545-b51abcfb8daf
