package child

import (
	"slices"
	"testing"
)

func TestEnviron(t *testing.T) {
	t.Parallel()
	parent := []string{"PATH=/bin", "OBO_KEY=secret", "obo_kit=secret", "OBO_URL_A=1", "OBO_URL=x", "OBOE=1", "OBO_URL_B=2", "EMPTY="}
	clean := []string{"PATH=/bin", "OBO_URL_A=1", "OBOE=1", "OBO_URL_B=2", "EMPTY="}
	for name, c := range map[string]struct{ words, add, want []string }{
		"an app":                {words: []string{"streamlit", "run", "app.py"}, want: clean},
		"an address is new":     {words: []string{"app"}, add: []string{"OBO_URL_C=3"}, want: append(slices.Clone(clean), "OBO_URL_C=3")},
		"an address is another": {words: []string{"app"}, add: []string{"OBO_URL_A=3"}, want: []string{"PATH=/bin", "OBOE=1", "OBO_URL_B=2", "EMPTY=", "OBO_URL_A=3"}},
		"ours":                  {words: []string{"obo-worker", "--", "app"}, want: parent},
		"ours in a folder":      {words: []string{"/opt/bin/obo-publisher"}, want: parent},
		"ours on Windows":       {words: []string{`C:\bin\obo-broker.exe`}, want: parent},
		"ours under another":    {words: []string{"uv", "run", "obo-worker", "--", "app"}, want: parent},
		"an app with our name":  {words: []string{"app", "--", "obo-worker"}, want: clean},
		"a longer name":         {words: []string{"obo-worker-app"}, want: clean},
		"the operator's":        {words: []string{"obo", "tail"}, want: clean},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			before := slices.Clone(parent)
			if got := Environ(parent, c.words, c.add); !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if !slices.Equal(parent, before) {
				t.Error("the parent's environment was changed")
			}
		})
	}
}

func TestNoProxy(t *testing.T) {
	t.Parallel()
	const loopback = "localhost,127.0.0.1,::1"
	both := func(value string) []string { return []string{"NO_PROXY=" + value, "no_proxy=" + value} }
	for name, c := range map[string]struct{ parent, want []string }{
		"no proxy":         {[]string{"PATH=/bin", "NO_PROXY=x", "HTTP_PROXY=", "HTTPS_PROXY=http://proxy:1"}, nil},
		"a proxy":          {[]string{"HTTP_PROXY=http://proxy:1"}, both(loopback)},
		"in lower case":    {[]string{"http_proxy=http://proxy:1", "http_proxy_2="}, both(loopback)},
		"for everything":   {[]string{"ALL_PROXY=socks5://proxy:1", "no_proxy="}, both(loopback)},
		"with exceptions":  {[]string{"HTTP_PROXY=http://proxy:1", "NO_PROXY=a,b"}, both("a,b," + loopback)},
		"with two of them": {[]string{"no_proxy=a", "HTTP_PROXY=http://proxy:1", "NO_PROXY=b"}, both("a," + loopback)},
		"but for nothing":  {[]string{"HTTP_PROXY=http://proxy:1", "NO_PROXY=*"}, nil},
	} {
		if got := NoProxy(c.parent); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
