package relay

import (
	"crypto/ecdsa"
	"errors"
	"fmt"
	"time"
)

// AnnouncementTypeName is the type constant of Announcement.
const AnnouncementTypeName = "obo.v1.announcement"

// Times of the protocol (PROTOCOL.md §3, §5, §6).
const (
	Leeway           = 30 * time.Second
	AnnouncementLife = 20 * time.Second
	AnnounceEvery    = 5 * time.Second
	MaxGrantLife     = 5 * time.Minute
	MaxOpaqueLife    = time.Minute
	MaxAnnouncement  = 4 << 10 // bytes
	MaxVersion       = 64      // bytes of an announced version, or server id
)

// State is what a worker says of itself.
type State string

// The states.
const (
	Ready    State = "ready"
	Draining State = "draining"
	Gone     State = "gone" // the last word of an instance: nothing may be sent to it any more
)

// Announcement is a worker's signed statement that it is there (PROTOCOL.md §5).
type Announcement struct {
	Service  string `json:"iss"`
	Instance string `json:"sub"`
	Seq      uint64 `json:"seq"`
	IssuedAt int64  `json:"iat"` // Unix seconds
	Expiry   int64  `json:"exp"`
	Key      JWK    `json:"jwk"`
	Kid      string `json:"kid"`
	KeyExp   int64  `json:"key_exp"`
	State    State  `json:"state"`
	InFlight int    `json:"in_flight"`
	Capacity int    `json:"capacity"`
	MaxBody  int64  `json:"max_body"` // bytes; 0 = no limit
	Version  string `json:"version"`
	Server   string `json:"server"`

	recipient *ecdsa.PublicKey // Key, checked
	signedBy  string           // thumbprint of the service's identity key
}

// Sign completes the announcement with times and key and returns it as a compact JWS.
func (a Announcement) Sign(id Identity, key *InstanceKey, now time.Time) (string, error) {
	a.IssuedAt, a.Expiry = now.Unix(), now.Add(AnnouncementLife).Unix()
	a.Key, a.Kid, a.KeyExp = key.Public(), key.Kid(), key.Expiry().Unix()
	return id.sign(AnnouncementTypeName+"+jwt", a)
}

// VerifyAnnouncement makes every check of PROTOCOL.md §5 but the one of seq, which needs the directory's memory. The
// service is the one that the NATS subject names. A key that is not trusted is CodeWorkerUntrusted with its thumbprint, a
// clock that is off CodeClockSkew with the difference; any other fault is CodeRefused.
func (t *Trust) VerifyAnnouncement(service string, payload []byte, now time.Time) (*Announcement, error) {
	if len(payload) > MaxAnnouncement {
		return nil, Errorf(CodeRefused, "announcement of %d bytes, the limit is %d", len(payload), MaxAnnouncement)
	}
	var a Announcement
	kid, err := t.verify(string(payload), AnnouncementTypeName+"+jwt", RoleService, service, &a)
	if errors.Is(err, errUntrusted) {
		return nil, Errorf(CodeWorkerUntrusted, "service %s announces itself with key %s; trusted for it: %v", service, kid, t.Kids(RoleService, service))
	}
	if err != nil {
		return nil, Wrap(CodeRefused, err, "announcement")
	}
	if err := a.check(service); err != nil {
		return nil, Wrap(CodeRefused, err, "announcement")
	}
	issued, expires := time.Unix(a.IssuedAt, 0), time.Unix(a.Expiry, 0)
	if ahead := issued.Sub(now); ahead > Leeway {
		return nil, Errorf(CodeClockSkew, "the clock of %s worker %s is %v ahead of this one, or this one is behind", service, a.Instance, ahead.Round(time.Second))
	}
	if behind := now.Sub(expires); behind > Leeway {
		return nil, Errorf(CodeClockSkew, "an announcement of %s worker %s was made %v ago by its clock: that clock is behind, or this one ahead, or the broker delivers old messages", service, a.Instance, now.Sub(issued).Round(time.Second))
	}
	a.signedBy = kid
	return &a, nil
}

// SignedBy is the thumbprint of the identity key that signed a verified announcement.
func (a *Announcement) SignedBy() string { return a.signedBy }

func (a *Announcement) check(service string) error {
	switch {
	case a.Service != service:
		return fmt.Errorf("iss is not %s", service)
	case !ValidInstance(a.Instance):
		return errors.New("sub is not an instance id")
	case a.Seq == 0:
		return errors.New("seq is 0")
	case a.IssuedAt <= 0 || a.Expiry <= a.IssuedAt || a.Expiry-a.IssuedAt > int64(AnnouncementLife/time.Second):
		return errors.New("exp is not at most 20 s after iat")
	case a.State != Ready && a.State != Draining && a.State != Gone:
		return errors.New("state is not ready, draining or gone")
	case a.InFlight < 0 || a.Capacity < 1 || a.MaxBody < 0 || a.KeyExp <= 0:
		return errors.New("a number is out of range")
	case len(a.Version) > MaxVersion || len(a.Server) > MaxVersion:
		return errors.New("version or server is too long")
	}
	public, err := a.Key.p256()
	if err != nil {
		return err
	}
	if a.Kid != a.Key.Thumbprint() {
		return errors.New("kid is not the thumbprint of jwk")
	}
	a.recipient = public
	return nil
}
