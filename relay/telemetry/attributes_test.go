package telemetry

import (
	"strings"
	"testing"
	"unsafe"
)

// A metric keeps its attributes for ever. The method of a request that was relayed is a part of its head, with cookies and query.
func TestMethodKeepsNoHead(t *testing.T) {
	head := strings.Clone(`GET /x?secret`)
	kept := Method(head[:3]).Value.AsString()
	if kept != "GET" || unsafe.StringData(kept) == unsafe.StringData(head) {
		t.Errorf("%q keeps the head", kept)
	}
}
