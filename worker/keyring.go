package worker

import (
	"sync"
	"time"

	"github.com/obo-relay/obo-relay/relay"
)

// keyring holds the instance keys of this process: one that is announced, and older ones until the last grant made to
// them has run out (PROTOCOL.md §5). They are in memory only.
type keyring struct {
	life time.Duration
	now  func() time.Time

	mu      sync.RWMutex
	current *relay.InstanceKey
	live    map[string]*relay.InstanceKey
}

func newKeyring(life time.Duration, now func() time.Time) (*keyring, error) {
	k := &keyring{life: life, now: now}
	return k, k.reset()
}

// reset destroys every key and makes a new one: after it nothing sealed before can be opened.
func (k *keyring) reset() error {
	key, err := relay.NewInstanceKey(k.now().Add(k.life))
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.current = key
	k.live = map[string]*relay.InstanceKey{key.Kid(): key}
	return nil
}

// rotate replaces the announced key once half of its life is over, and destroys those that have run out. It reports
// whether there is a new key to announce.
func (k *keyring) rotate() (bool, error) {
	now := k.now()
	k.mu.Lock()
	defer k.mu.Unlock()
	for kid, key := range k.live {
		if now.After(key.DestroyAt()) && key != k.current {
			delete(k.live, kid)
		}
	}
	if k.current.Expiry().Sub(now) > k.life/2 {
		return false, nil
	}
	key, err := relay.NewInstanceKey(now.Add(k.life))
	if err != nil {
		return false, err
	}
	k.current = key
	k.live[key.Kid()] = key
	return true, nil
}

func (k *keyring) announced() *relay.InstanceKey {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.current
}

// get returns a live key, nil if there is none of that thumbprint.
func (k *keyring) get(kid string) *relay.InstanceKey {
	k.mu.RLock()
	defer k.mu.RUnlock()
	key := k.live[kid]
	if key == nil || k.now().After(key.DestroyAt()) {
		return nil
	}
	return key
}

func (k *keyring) kids() []string {
	k.mu.RLock()
	defer k.mu.RUnlock()
	out := make([]string, 0, len(k.live))
	for kid := range k.live {
		out = append(out, kid)
	}
	return out
}
