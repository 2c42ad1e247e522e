package worker

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/obo-relay/obo-relay/relay"
)

// announced runs an announcer on a bubble's clock and returns it, and how often it has announced since the last time.
func announced(ctx context.Context) (a *announcer, since func() int) {
	a = newAnnouncer(nil)
	var n atomic.Int64
	go a.run(ctx, func(context.Context) { n.Add(1) })
	return a, func() int {
		synctest.Wait()
		return int(n.Swap(0))
	}
}

// Whoever asks just after the worker has announced itself, as a publisher that starts with it does, is answered at once.
func TestAskedTwiceAnnouncesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, since := announced(t.Context())
		for _, who := range []string{"the connection", "a publisher that connects", "its first request"} {
			a.soon()
			if got := since(); got != 1 {
				t.Errorf("%s asks: %d announcements at once, want 1", who, got)
			}
		}
	})
}

// However often it is asked, it announces itself ten times a second; and hardly ever when nobody asks.
func TestAnnouncementsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, since := announced(t.Context())
		for range 10_000 {
			a.soon()
			time.Sleep(time.Millisecond) // on the bubble's clock
		}
		if got, most := since(), int(10*time.Second/discoverPause)+discoverBurst; got > most || got < most-discoverBurst {
			t.Errorf("asked for 10 s: %d announcements, want about %d", got, most)
		}
		a.soon()
		a.soon()
		time.Sleep(discoverPause)
		if got := since(); got != 1 {
			t.Errorf("%d announcements for two who asked while it had to wait, want one for both", got)
		}
		time.Sleep(10 * relay.AnnounceEvery)
		if got := since(); got < 8 || got > 12 {
			t.Errorf("%d announcements in ten times %v", got, relay.AnnounceEvery)
		}
	})
}
