package relay

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// An upload that goes on is no service that does not answer: the time counts from its last part. What the worker says meanwhile
// counts for nothing.
func TestReplyTimerCountsFromTheLastOfTheUpload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t)
		p.start()
		defer p.close()
		if err := p.app.SendHead([]byte("{}"), nil, false, 0); err != nil {
			t.Fatal(err)
		}
		<-p.accepted
		const most = 10 * time.Second
		var late, lateStopped [2]atomic.Int64 // when the patience was over, from the end of the upload
		var end time.Time
		var stopped []*ReplyTimer
		for i, s := range []*Stream{p.app, p.svc} {
			NewReplyTimer(s, most, func() { late[i].Store(int64(time.Since(end))) }).Start()
			stopped = append(stopped, NewReplyTimer(s, most, func() { lateStopped[i].Store(1) }))
			stopped[i].Start()
		}
		for range 10 {
			time.Sleep(most * 3 / 4) // synctest's clock, as all here
			if _, err := p.app.WriteData(t.Context(), []byte("x")); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(most * 3 / 4)
		if err := p.app.SendEnd([]byte("{}"), 0); err != nil {
			t.Fatal(err)
		}
		end = time.Now()
		for range 9 {
			if err := p.svc.SendInform([]byte(`{"status":103}`)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		for i, side := range []string{"publisher", "worker"} {
			if after := late[i].Load(); after != 0 {
				t.Errorf("the %s waited until %v after the end of the upload, want %v", side, time.Duration(after), most)
			}
			stopped[i].Stop()
		}
		time.Sleep(2 * most)
		for i, side := range []string{"publisher", "worker"} {
			if after := time.Duration(late[i].Load()); after < most || after > most+time.Second {
				t.Errorf("the %s waited until %v after the end of the upload, want %v", side, after, most)
			}
			if lateStopped[i].Load() != 0 {
				t.Errorf("the %s's timer ran out after it had been stopped", side)
			}
		}
	})
}
