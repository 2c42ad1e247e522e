package hostile

import (
	"bufio"
	"bytes"
	"reflect"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
)

func read(t *testing.T, text string) (frame, error) {
	t.Helper()
	return readFrame(bufio.NewReaderSize(strings.NewReader(text), 16)) // lines longer than the buffer, too
}

// What is not touched goes on byte by byte.
func TestFramesPassUnchanged(t *testing.T) {
	for _, text := range []string{
		"INFO {\"server_id\":\"N\",\"headers\":true}\r\n", "CONNECT {\"verbose\":false}\r\n", "PING\r\n", "PONG\r\n", "+OK\r\n", "-ERR 'Permissions Violation'\r\n",
		"SUB a.* 1\r\n", "SUB a.* q 1\r\n", "UNSUB 1\r\n", "UNSUB 1 5\r\n",
		"PUB a 0\r\n\r\n", "PUB a 5\r\nhe\nlo\r\n", "PUB a r 7\r\n\r\nPING\n\r\n",
		"MSG a 1 0\r\n\r\n", "MSG a 1 r 2\r\n\r\n\r\n",
		"HPUB a 23 28\r\nNATS/1.0\r\nb:  c\r\nB:\r\n\r\nhello\r\n",
		"HPUB a r 20 20\r\nNATS/1.0\r\nb: 1 2\r\n\r\n\r\n",
		"HMSG a 9 r 16 16\r\nNATS/1.0 503\r\n\r\n\r\n",
		"HMSG a 9 26 28\r\nNATS/1.0 100 Idle Beat\r\n\r\n\x00\x01\r\n",
		"HMSG a 9 r 12 12\r\nNATS/1.0\r\n\r\n\r\n",
	} {
		f, err := read(t, text+"rest")
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if got := string(f.append(nil)); got != text {
			t.Errorf("%q became %q", text, got)
		}
		if f.message == nil {
			continue
		}
		copied := frame{message: f.message.Copy()}
		if got := string(copied.append(nil)); got != text {
			t.Errorf("the copy of %q became %q", text, got)
		}
	}
}

func TestWhatIsNoFrame(t *testing.T) {
	for _, text := range []string{
		"", "PIN", "GET / HTTP/1.1\r\n", "PUB\r\n", "PUB a\r\n", "PUB a x\r\n", "PUB a -1\r\n", "PUB a b c 1\r\n1\r\n", "PUB a 3\r\n12\r\n", "PUB a 1\r\n12\r\n",
		"MSG a 1\r\n", "HPUB a 5\r\n", "HPUB a 13 12\r\nNATS/1.0\r\n\r\n\r\n", "HPUB a 5 5\r\nNOTAT\r\n", "HPUB a x 5\r\n", "PUB a 99999999999\r\n",
		"\r\n", "SUB" + strings.Repeat(" a", maxLine) + "\r\n",
	} {
		if f, err := read(t, text); err == nil {
			t.Errorf("%.40q is %+v", text, f)
		}
	}
}

// What is altered is rendered so that a client of NATS reads what was meant.
func TestAlteredMessages(t *testing.T) {
	f, err := read(t, "HMSG a 9 r 20 25\r\nNATS/1.0\r\nb: 1 2\r\n\r\nhello\r\n")
	if err != nil {
		t.Fatal(err)
	}
	before := string(f.append(nil))
	altered := f.message.Altered(func(m *Message) {
		m.Header["b"][0] = "3"
		m.Header.Set("Status", "503")
		m.Header.Add("B", "x")
		m.Subject, m.Reply, m.Data[0] = "other", "", 'j'
	})
	if got := string(f.append(nil)); got != before {
		t.Errorf("altering a copy changed the original: %q", got)
	}
	g, err := readFrame(bufio.NewReader(bytes.NewReader(frame{message: altered}.append(nil))))
	if err != nil {
		t.Fatal(err)
	}
	want := nats.Header{"b": {"3"}, "B": {"x"}, "Status": {"503"}}
	if m := g.message; m.Subject != "other" || m.SID != "9" || m.Reply != "" || string(m.Data) != "jello" || !reflect.DeepEqual(m.Header, want) {
		t.Errorf("%+v %v", m.Msg, m.Header)
	}
	bare := altered.Altered(func(m *Message) { m.Header = nil })
	if got := string(frame{message: bare}.append(nil)); got != "MSG other 9 5\r\njello\r\n" {
		t.Errorf("%q", got)
	}
}
