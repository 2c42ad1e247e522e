package relay

import (
	"net/http"
	"testing"
)

func BenchmarkRequestHead(b *testing.B) {
	head := &RequestHead{
		Method: "POST", Path: "/files/report", Query: "a=1", Length: 1024, IssuedAt: fixedNow.UnixMilli(), TimeoutMS: 60_000,
		Header:  http.Header{"Accept": {"*/*"}, "Accept-Encoding": {"gzip, deflate"}, "Content-Type": {"application/json"}, "User-Agent": {"python-requests/2.32"}, "X-Request-Id": {"7f0c"}},
		Subject: "obo.v1.req.middleware.aaaaaaaaaaaaaaaa.ui", Reply: "obo.v1.rep.ui.aaaaaaaaaaaaaaaaaaaaaaaaaa.aaaaaaaaaaaaaaaaaaaaaaaaaa",
	}
	encoded, _ := EncodeHead(head)
	b.Run("encode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = EncodeHead(head)
		}
	})
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = DecodeRequestHead(encoded)
		}
	})
}
