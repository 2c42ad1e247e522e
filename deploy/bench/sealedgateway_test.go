package bench

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/obo-relay/obo-relay/relay"
)

// The sealed gateway is the unsealed one with the least that keeps a request from a broker: each message sealed with a key of
// its own from a secret that the two ends share already, the head a strict document that is checked, ids accepted once. It is
// what is left of the relay without grants, instances, people, policy, streams, resends, fair slots and a log, and shows what
// of the distance to the unsealed gateway is the price of sealing.

// between is the secret of the two halves.
var between = sha256.Sum256([]byte("of this benchmark"))

const idSize = 16

// cipherFor makes the cipher of one message.
func cipherFor(id []byte, info string) (cipher.AEAD, error) {
	key, err := hkdf.Expand(sha256.New, between[:], info+string(id), 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// sealMessage appends to shown, which is not secret, the head and the body.
func sealMessage(shown, id []byte, info string, head, body []byte) ([]byte, error) {
	aead, err := cipherFor(id, info)
	if err != nil {
		return nil, err
	}
	n := len(shown)
	b := slices.Grow(shown, 4+len(head)+len(body)+aead.Overhead())
	b = binary.BigEndian.AppendUint32(b, uint32(len(head)))
	b = append(append(b, head...), body...)
	return aead.Seal(b[:n], make([]byte, aead.NonceSize()), b[n:], shown), nil
}

var errMessage = errors.New("no message of the sealed gateway")

// openMessage parts what sealMessage made.
func openMessage(shown, sealed, id []byte, info string) (head, body []byte, err error) {
	aead, err := cipherFor(id, info)
	if err != nil {
		return nil, nil, err
	}
	plain, err := aead.Open(sealed[:0], make([]byte, aead.NonceSize()), sealed, shown)
	if err != nil {
		return nil, nil, err
	}
	if len(plain) < 4 || uint64(binary.BigEndian.Uint32(plain)) > uint64(len(plain)-4) {
		return nil, nil, errMessage
	}
	n := 4 + binary.BigEndian.Uint32(plain)
	return plain[4:n], plain[n:], nil
}

// once is the ids that have been seen. It forgets none: a benchmark ends before that matters.
type once struct {
	mu   sync.Mutex
	seen map[[idSize]byte]struct{}
}

func (o *once) burn(id []byte) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, again := o.seen[[idSize]byte(id)]
	o.seen[[idSize]byte(id)] = struct{}{}
	return !again
}

const sealedSubject = "sealed"

// sealedBack is the half beside the backend.
func sealedBack(nc *nats.Conn, target string) error {
	service, err := micro.AddService(nc, micro.Config{Name: "sealed", Version: "0.0.1"})
	if err != nil {
		return err
	}
	out := &http.Client{Transport: newTransport()}
	ids := &once{seen: map[[idSize]byte]struct{}{}}
	return service.AddEndpoint(sealedSubject, micro.HandlerFunc(func(r micro.Request) {
		go func() {
			answer, err := answerSealed(out, target, ids, r.Subject(), r.Data())
			if err != nil {
				_ = r.Error("502", err.Error(), nil)
				return
			}
			_ = r.Respond(answer)
		}()
	}))
}

func answerSealed(out *http.Client, target string, ids *once, subject string, message []byte) ([]byte, error) {
	if len(message) < idSize {
		return nil, errMessage
	}
	id := message[:idSize]
	encoded, body, err := openMessage(id, message[idSize:], id, "request")
	if err != nil {
		return nil, err
	}
	head, err := relay.DecodeRequestHead(encoded)
	if err == nil {
		err = head.Check()
	}
	if err == nil && (head.Subject != subject || !ids.burn(id)) {
		err = errMessage
	}
	if err != nil {
		return nil, err
	}
	resp, answer, err := fetch(out, head.Method, target+head.Path, head.Header, body)
	if err != nil {
		return nil, err
	}
	encoded, err = relay.EncodeHead(&relay.ReplyHead{Status: resp.StatusCode, Header: resp.Header, Length: int64(len(answer))})
	if err != nil {
		return nil, err
	}
	return sealMessage(nil, id, "reply", encoded, answer) // one reply to an id, so one message under this key
}

// sealedFront is the half beside the client.
func sealedFront(nc *nats.Conn) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		head, body, err := askSealed(nc, r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		for name, values := range head.Header {
			w.Header()[name] = values
		}
		w.WriteHeader(head.Status)
		_, _ = w.Write(body)
	})
}

func askSealed(nc *nats.Conn, r *http.Request) (*relay.ReplyHead, []byte, error) {
	const timeout = 30 * time.Second
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, nil, err
	}
	h := r.Header.Clone()
	relay.StripRequest(h)
	encoded, err := relay.EncodeHead(&relay.RequestHead{
		Method: r.Method, Path: r.URL.EscapedPath(), Query: r.URL.RawQuery, Header: h, Length: int64(len(body)),
		Subject: sealedSubject, IssuedAt: time.Now().UnixMilli(), TimeoutMS: timeout.Milliseconds(),
	})
	if err != nil {
		return nil, nil, err
	}
	id := make([]byte, idSize)
	_, _ = rand.Read(id) // never fails
	message, err := sealMessage(id, id, "request", encoded, body)
	if err != nil {
		return nil, nil, err
	}
	answer, err := nc.Request(sealedSubject, message, timeout)
	if err != nil {
		return nil, nil, err
	}
	encoded, body, err = openMessage(nil, answer.Data, id, "reply")
	if err != nil {
		return nil, nil, err
	}
	head, err := relay.DecodeReplyHead(encoded)
	return head, body, err
}
