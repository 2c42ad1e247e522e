package relay

import "testing"

func TestLoopbackHost(t *testing.T) {
	for host, want := range map[string]bool{
		"127.0.0.1": true, "127.0.0.1:80": true, "127.9.9.9": true, "[::1]:80": true, "[::1]": true, "::1": false, "0::1": false,
		"localhost": true, "LOCALHOST:8000": true, "[::ffff:127.0.0.1]:1": true,
		"": false, ":80": false, "0.0.0.0:80": false, "10.0.0.1": false, "localhost.evil.example": false,
		"evil.example:80": false, "127.0.0.1.evil.example": false, "localhost:": true, "[::1%lo]:80": false, "[localhost]": false, "[127.0.0.1]:80": false, "[::1": false, "::1]": false,
	} {
		if got := LoopbackHost(host); got != want {
			t.Errorf("LoopbackHost(%q) = %v", host, got)
		}
	}
}
