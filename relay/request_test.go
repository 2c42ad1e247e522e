package relay

import (
	"bytes"
	"context"
	"testing"
	"time"
)

// A request that refers to its grant begins with a length of 0, also in memory that a frame was in before.
func TestReferenceInUsedMemory(t *testing.T) {
	grant := &Grant{Gid: NewID(), keys: newKeySource(make([]byte, 32), NewID())}
	hash := HashGrant([]byte("grant"))
	budget := NewBudget(0)
	for range 100 { // a sync.Pool may forget
		budget.recycle(bytes.Repeat([]byte{0xFF}, largeBuffer))
		var sent []byte
		s := NewStream(context.Background(), StreamConfig{
			Role: RoleApp, ID: NewID(), Grant: grant, Limit: MaxFrame, Budget: budget, Now: time.Now,
			Publish: func(payload []byte, _ FrameType, _ int) error {
				sent = bytes.Clone(payload)
				return nil
			},
		})
		s.SetGrant([]byte("grant"))
		s.ReferToGrant(hash)
		if err := s.SendHead([]byte("{}"), make([]byte, largeLeast), true, 0); err != nil {
			t.Fatal(err)
		}
		sealed, referred, _, err := SplitRequest(sent)
		if err != nil || sealed != nil || referred != hash {
			t.Fatalf("the payload begins with %x: %v", sent[:2], err)
		}
		s.Close()
	}
}
