package relay

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

type requestVectors struct {
	Comment  string        `json:"comment"`
	Service  string        `json:"service"`
	Instance string        `json:"instance"`
	Cases    []requestCase `json:"cases"`
}

// requestCase is what comes to one worker process, message by message. Each case begins with a new one.
type requestCase struct {
	Name     string           `json:"name"`
	Messages []requestMessage `json:"messages"`
}

type requestMessage struct {
	Subject string      `json:"subject"`
	Reply   string      `json:"reply"`
	Hints   nats.Header `json:"hints,omitzero"`
	Payload string      `json:"payload"` // hex
	NowMS   int64       `json:"now_ms"`
	Want    string      `json:"want"`           // ok, repeated, or a code
	Head    string      `json:"head,omitempty"` // JSON, of what is admitted
	Body    string      `json:"body,omitempty"` // hex, the bytes that came with the head
	Whole   bool        `json:"whole,omitzero"`
	Detail  string      `json:"detail,omitempty"`
}

// draft is a request in the making.
type draft struct {
	t       testing.TB
	id      ID
	head    RequestHead
	json    string // empty: head
	body    string
	frame   FrameType
	seq     uint64
	grant   string
	keys    *keySource
	message requestMessage
}

func newDraft(t testing.TB) *draft {
	s, _ := NewSubjects("")
	id := fixedID("request")
	d := &draft{t: t, id: id, frame: FrameWhole, body: "hello", keys: newKeySource(seed("secret"), fixedID("gid")), grant: grantOf(t, fixedClaims(t))}
	d.message = requestMessage{Subject: s.Request(serviceName, instanceID, appName), Reply: s.Reply(appName, fixedID("inbox"), id), NowMS: fixedNow.UnixMilli()}
	d.head = RequestHead{
		Method: "POST", Path: "/groups/a%20b", Query: "q=1", Header: map[string][]string{"Content-Type": {"text/plain"}, "X-Bytes": {"caf\xe9"}}, Length: 5,
		Subject: d.message.Subject, Reply: d.message.Reply, IssuedAt: fixedNow.UnixMilli(), TimeoutMS: 30_000,
	}
	return d
}

// seal makes the message, with the grant before the frame.
func (d *draft) seal() requestMessage { return d.payload(append(d.front(), d.sealed()...)) }

func (d *draft) payload(b []byte) requestMessage {
	m := d.message
	m.Payload, m.Want = hex.EncodeToString(b), "refused"
	return m
}

func (d *draft) front() []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(d.grant))), d.grant...)
}

func (d *draft) reference() []byte {
	hash := HashGrant([]byte(d.grant))
	return append([]byte{0, 0}, hash[:]...)
}

func (d *draft) headJSON() string {
	if d.json == "" {
		return string(encode(d.t, &d.head))
	}
	return d.json
}

func (d *draft) sealed() []byte {
	plaintext := headPlaintext(d.headJSON(), d.body)
	return sealFrame(d.keys.request(d.id), append(newFrame(0, d.frame, d.seq, len(plaintext)), plaintext...), 0)
}

// ok says what the message is admitted as.
func (d *draft) ok(m requestMessage) requestMessage {
	m.Want, m.Head, m.Body, m.Whole = "ok", d.headJSON(), hex.EncodeToString([]byte(d.body)), d.frame == FrameWhole
	return m
}

func requestCases(t testing.TB) requestVectors {
	v := requestVectors{Comment: "PROTOCOL.md sections 4 and 6 to 9: messages to one new worker process, in this order, under the keys of keys.json.", Service: serviceName, Instance: instanceID}
	add := func(name string, messages ...requestMessage) { v.Cases = append(v.Cases, requestCase{name, messages}) }
	wants := func(want, detail string, m requestMessage) requestMessage { m.Want, m.Detail = want, detail; return m }
	changed := func(edit func(*draft)) *draft { d := newDraft(t); edit(d); return d }
	refuse := func(name, want, detail string, edit func(*draft)) {
		add(name, wants(want, detail, changed(edit).seal()))
	}
	accept := func(name string, edit func(*draft)) { d := changed(edit); add(name, d.ok(d.seal())) }
	good := newDraft(t)

	accept("whole", func(*draft) {})
	accept("head, the body follows", func(d *draft) { d.frame, d.head.Length = FrameHead, 100 })
	accept("without body and query", func(d *draft) { d.body, d.head.Length, d.head.Query = "", 0, "" })
	accept("length not known", func(d *draft) { d.head.Length = -1 })
	accept("all hints", func(d *draft) {
		d.message.Hints = HintsFull.Request(d.id, &d.head)
	})
	accept("issued 30 s ago", func(d *draft) { d.message.NowMS += 30_000 })
	accept("issued 30 s from now", func(d *draft) { d.head.IssuedAt += 30_000 })
	refuse("issued 30.001 s ago", "clock_skew", "30.001s", func(d *draft) { d.message.NowMS += 30_001 })
	refuse("issued 30.001 s from now", "clock_skew", "30.001s", func(d *draft) { d.head.IssuedAt += 30_001 })
	early := changed(func(d *draft) { d.head.IssuedAt += 30_001 })
	add("what is out of the window burns nothing", wants("clock_skew", "", early.seal()), good.ok(good.seal()))

	// By reference, and kept grants.
	add("by reference to a grant that was opened", good.ok(good.seal()), func() requestMessage {
		d := changed(func(d *draft) { d.another("another request") })
		return d.ok(d.payload(append(d.reference(), d.sealed()...)))
	}())
	add("by reference to a grant that is not kept", wants("grant_unknown", "", good.payload(append(good.reference(), good.sealed()...))), good.ok(good.seal()))
	add("by reference, 33 bytes", wants("refused", "short", good.payload(good.reference()[:33])))
	late := changed(func(d *draft) {
		d.another("another request")
		d.message.NowMS += 331_000
		d.head.IssuedAt = d.message.NowMS
	})
	add("by reference, 31 s after the grant's exp", good.ok(good.seal()), wants("refused", "expired", late.payload(append(late.reference(), late.sealed()...))))
	stranger := changed(func(d *draft) { d.as("other") })
	add("another app's kept grant by reference", good.ok(good.seal()), wants("refused", "another app", stranger.payload(append(stranger.reference(), stranger.sealed()...))))

	// Replay.
	add("the same bytes twice", good.ok(good.seal()), wants("repeated", "", good.seal()))
	add("the same bytes 30 s later", good.ok(good.seal()), wants("repeated", "", changed(func(d *draft) { d.message.NowMS += 30_000 }).seal()))
	add("the same bytes a minute later", good.ok(good.seal()), wants("clock_skew", "", changed(func(d *draft) { d.message.NowMS += 60_000 }).seal()))
	add("the same id in another head", good.ok(good.seal()), wants("repeated", "", changed(func(d *draft) { d.head.Path = "/other" }).seal()))
	second := changed(func(d *draft) {
		c := fixedClaims(t)
		c.Gid, c.Secret = fixedID("another gid"), encodeBase64(seed("another secret"))
		d.grant, d.keys = grantOf(t, c), newKeySource(seed("another secret"), c.Gid)
	})
	add("the same id under another grant", good.ok(good.seal()), second.ok(second.seal()))
	altered := good.seal()
	altered.Payload = altered.Payload[:len(altered.Payload)-2] + "00"
	add("what does not open burns nothing", wants("refused", "open", altered), good.ok(good.seal()))
	add("what is refused under seal is burned", wants("bad_request", "", changed(func(d *draft) { d.head.Method = "CONNECT" }).seal()), wants("repeated", "", good.seal()))

	// Section 4: subjects.
	refuse("another worker's subject", "refused", "subject", func(d *draft) {
		d.message.Subject = strings.Replace(d.message.Subject, instanceID, "b"+instanceID[1:], 1)
	})
	refuse("another service's subject", "refused", "subject", func(d *draft) { d.message.Subject = strings.Replace(d.message.Subject, serviceName, "billing", 1) })
	refuse("on a ctl subject", "refused", "subject", func(d *draft) { d.message.Subject = strings.Replace(d.message.Subject, ".req.", ".ctl.", 1) })
	refuse("no reply subject", "refused", "reply", func(d *draft) { d.message.Reply = "" })
	refuse("reply subject elsewhere", "refused", "reply", func(d *draft) { d.message.Reply = "_INBOX.abc.def" })
	refuse("reply subject of another app", "refused", "reply", func(d *draft) { d.message.Reply = strings.Replace(d.message.Reply, ".ui.", ".other.", 1) })
	refuse("reply subject with another id", "refused", "open", func(d *draft) {
		d.message.Reply = strings.Replace(d.message.Reply, d.id.String(), fixedID("another request").String(), 1)
	})
	refuse("reply subject with another inbox", "refused", "other subjects", func(d *draft) {
		d.message.Reply = strings.Replace(d.message.Reply, fixedID("inbox").String(), fixedID("another inbox").String(), 1)
	})
	refuse("another app's subject", "refused", "trust", func(d *draft) { d.as("other") })
	refuse("the head's subject is another", "refused", "other subjects", func(d *draft) { d.head.Subject = "dev." + d.head.Subject })
	refuse("the head's subject is missing", "refused", "other subjects", func(d *draft) { d.head.Subject = "" })
	refuse("the head's reply is another", "refused", "other subjects", func(d *draft) { d.head.Reply += "x" })

	// Section 7: the payload and frame 0.
	add("nothing", wants("refused", "short", good.payload(nil)))
	add("one byte", wants("refused", "short", good.payload([]byte{1})))
	add("grant longer than the message", wants("refused", "does not fit", good.payload(good.front()[:100])))
	add("grant longer than 15,360 bytes", wants("refused", "does not fit", good.payload(append(binary.BigEndian.AppendUint16(nil, MaxGrant+1), bytes.Repeat([]byte("A"), MaxGrant+1)...))))
	add("no frame", wants("refused", "size", good.payload(good.front())))
	add("bytes after the frame", wants("refused", "open", good.payload(append(append(good.front(), good.sealed()...), 0))))
	refuse("a grant that is none", "refused", "grant", func(d *draft) { d.grant = "a.b.c.d.e" })
	refuse("sealed under another gid", "refused", "open", func(d *draft) { d.keys = newKeySource(seed("secret"), fixedID("another gid")) })
	refuse("sealed under another secret", "refused", "open", func(d *draft) { d.keys = newKeySource(seed("another secret"), fixedID("gid")) })
	add("sealed with the key of a reply", wants("refused", "open", func() requestMessage {
		d := newDraft(t)
		plaintext := headPlaintext(d.headJSON(), d.body)
		frame := sealFrame(d.keys.reply(d.id, seed("salt")[:saltSize]), append(newFrame(0, FrameWhole, 0, len(plaintext)), plaintext...), 0)
		return d.payload(append(d.front(), frame...))
	}()))
	refuse("data in place of a head", "refused", "begin with a head", func(d *draft) { d.frame = FrameData })
	refuse("end in place of a head", "refused", "begin with a head", func(d *draft) { d.frame = FrameEnd })
	refuse("inform in place of a head", "refused", "begin with a head", func(d *draft) { d.frame = FrameInform })
	refuse("head with seq 1", "refused", "begin with a head", func(d *draft) { d.seq = 1 })
	refuse("head longer than 32 KiB", "refused", "does not fit", func(d *draft) { d.json = "{" + strings.Repeat(" ", MaxHead) + "}" })
	raw := func(plaintext string) requestMessage {
		frame := sealFrame(good.keys.request(good.id), append(newFrame(0, FrameWhole, 0, len(plaintext)), plaintext...), 0)
		return good.payload(append(good.front(), frame...))
	}
	add("head's length past the frame's end", wants("refused", "does not fit", raw("\x00\x00\x00\x09{}")))
	add("plaintext of 3 bytes", wants("refused", "short", raw("\x00\x00\x00")))
	add("head of 0 bytes", wants("refused", "JSON", raw("\x00\x00\x00\x00{}")))
	refuse("head is no JSON", "refused", "JSON", func(d *draft) { d.json = "GET / HTTP/1.1" })
	refuse("head with an unknown member", "refused", "JSON", func(d *draft) { d.json = strings.Replace(string(encode(t, &d.head)), "{", `{"x":1,`, 1) })
	refuse("head with a code point over U+00FF", "refused", "JSON", func(d *draft) { d.json = strings.Replace(string(encode(t, &d.head)), "text/plain", "\u0100", 1) })

	// Section 11.
	for _, c := range hintCases().Cases {
		if c.Want == "refused" && len(c.Hints) > 0 {
			refuse("hint: "+c.Name, "refused", "hint", func(d *draft) { d.message.Hints = c.Hints })
		}
	}
	add("a contradicting hint burns nothing", wants("refused", "hint", changed(func(d *draft) { d.message.Hints = nats.Header{HintMethod: {"GET"}} }).seal()), good.ok(good.seal()))

	// Section 9: authentic, so refused under seal.
	for name, edit := range map[string]func(*draft){
		"method CONNECT": func(d *draft) { d.head.Method = "CONNECT" }, "method of 33": func(d *draft) { d.head.Method = strings.Repeat("A", 33) },
		"no method": func(d *draft) { d.head.Method = "" }, "method with a space": func(d *draft) { d.head.Method = "GET /" },
		"length -2": func(d *draft) { d.head.Length = -2 }, "timeout 0": func(d *draft) { d.head.TimeoutMS = 0 }, "timeout over a day": func(d *draft) { d.head.TimeoutMS = 86_400_001 },
		"query with #": func(d *draft) { d.head.Query = "a#b" }, "query with a space": func(d *draft) { d.head.Query = "a b" },
		"field name not canonical": func(d *draft) { d.head.Header = map[string][]string{"content-type": {"a"}} }, "field name no token": func(d *draft) { d.head.Header = map[string][]string{"A B": {"a"}} },
		"field name empty": func(d *draft) { d.head.Header = map[string][]string{"": {"a"}} }, "field value with CR LF": func(d *draft) { d.head.Header = map[string][]string{"A": {"a\r\nB: c"}} },
		"field value with NUL": func(d *draft) { d.head.Header = map[string][]string{"A": {"a\x00"}} }, "trailer name no token": func(d *draft) { d.head.Trailer = []string{"A,B"} },
		"trailer name not canonical": func(d *draft) { d.head.Trailer = []string{"x-sum"} }, "body shorter than its length": func(d *draft) { d.head.Length = 6 },
		"body longer than its length": func(d *draft) { d.head.Length = 4 },
	} {
		refuse(name, "bad_request", "", edit)
	}
	for name, path := range map[string]string{
		"dot segment": "/a/../b", "encoded dots": "/%2E%2e/b", "encoded slash": "/a%2fb", "encoded backslash": "/a%5Cb", "backslash": `/a\b`, "empty segment": "/a//b", "no slash": "a",
		"empty": "", "control character": "/a%0a", "DEL": "/a%7F", "incomplete escape": "/a%2", "question mark": "/a?b", "not ASCII": "/\u00e9", "unencoded brace": "/{a}", "unencoded quote": `/"`,
	} {
		refuse("path: "+name, "path_not_canonical", "", func(d *draft) { d.head.Path = path })
	}
	refuse("path of 8,193 bytes", "head_too_large", "", func(d *draft) { d.head.Path = "/" + strings.Repeat("a", 8192) })
	accept("path of 8,192 bytes", func(d *draft) { d.head.Path = "/" + strings.Repeat("a", 8191) })
	sortCases(v.Cases, func(c requestCase) string { return c.Name })
	return v
}

// another gives the request another id.
func (d *draft) another(label string) {
	d.id = fixedID(label)
	d.message.Reply = strings.Replace(d.message.Reply, fixedID("request").String(), d.id.String(), 1)
	d.head.Reply = d.message.Reply
}

// as puts the request on another app's subjects.
func (d *draft) as(app string) {
	d.message.Subject = strings.TrimSuffix(d.message.Subject, appName) + app
	d.message.Reply = strings.Replace(d.message.Reply, ".ui.", "."+app+".", 1)
	d.head.Subject, d.head.Reply = d.message.Subject, d.message.Reply
}

// vectorWorker does what PROTOCOL.md §8 says with the functions of this package. The real one is package worker's.
type vectorWorker struct {
	opener   *Opener
	subjects Subjects
	kept     map[GrantHash]*Grant
	burned   map[[2]ID]bool
}

func (w *vectorWorker) take(m requestMessage, b []byte) (*RequestHead, HeadFrame, error) {
	from, reply := w.subjects.Parse(m.Subject), w.subjects.Parse(m.Reply)
	now := time.UnixMilli(m.NowMS)
	refuse := func(detail string) (*RequestHead, HeadFrame, error) {
		return nil, HeadFrame{}, NewError(CodeRefused, detail)
	}
	if from.Kind != KindRequest || from.Service != serviceName || from.Instance != instanceID {
		return refuse("subject")
	}
	if reply.Kind != KindReply || reply.App != from.App {
		return refuse("reply")
	}
	sealed, hash, frame, err := SplitRequest(b)
	if err != nil {
		return nil, HeadFrame{}, Wrap(CodeRefused, err, "message")
	}
	g := w.kept[hash]
	switch {
	case g != nil:
		err = w.opener.Usable(g, from.App, now)
	case sealed == nil:
		return nil, HeadFrame{}, NewError(CodeGrantUnknown, "")
	default:
		g, err = w.opener.Open(string(sealed), from.App, now)
	}
	if err != nil {
		return nil, HeadFrame{}, Wrap(CodeRefused, err, "grant")
	}
	w.kept[hash] = g
	opened, err := g.OpenRequest(reply.ID, frame)
	if err != nil {
		return nil, HeadFrame{}, Wrap(CodeRefused, err, "frame 0")
	}
	head, err := DecodeRequestHead(opened.JSON)
	if err == nil && (head.Subject != m.Subject || head.Reply != m.Reply) {
		return refuse("other subjects")
	}
	if err == nil {
		err = CheckHints(m.Hints, reply.ID, head)
	}
	if err != nil {
		return nil, HeadFrame{}, Wrap(CodeRefused, err, "head")
	}
	if d := now.Sub(time.UnixMilli(head.IssuedAt)); d > Leeway || d < -Leeway {
		return nil, HeadFrame{}, Errorf(CodeClockSkew, "%v", d)
	}
	if w.burned[[2]ID{g.Gid, reply.ID}] {
		return nil, HeadFrame{}, Code("repeated")
	}
	w.burned[[2]ID{g.Gid, reply.ID}] = true
	if err := head.Check(); err != nil {
		return nil, HeadFrame{}, err
	}
	if opened.Type == FrameWhole && head.Length >= 0 && head.Length != int64(len(opened.Body)) {
		return nil, HeadFrame{}, NewError(CodeBadRequest, "length")
	}
	return head, opened, nil
}

func TestRequestVectors(t *testing.T) {
	for _, c := range vectors(t, "requests.json", requestCases(t)).Cases {
		t.Run(c.Name, func(t *testing.T) {
			s, _ := NewSubjects("")
			w := &vectorWorker{opener: fixedOpener(t), subjects: s, kept: map[GrantHash]*Grant{}, burned: map[[2]ID]bool{}}
			for i, m := range c.Messages {
				head, opened, err := w.take(m, unhex(t, m.Payload))
				checkWant(t, err, m.Want, m.Detail)
				if err == nil && (string(opened.JSON) != m.Head || hex.EncodeToString(opened.Body) != m.Body || m.Whole != (opened.Type == FrameWhole) || head.Subject != m.Subject) {
					t.Errorf("message %d is read as %s %x", i, opened.JSON, opened.Body)
				}
			}
		})
	}
}
