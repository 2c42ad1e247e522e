package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/obo-relay/obo-relay/relay"
)

// people is the process of those who must not suffer: asked with ?for=TIME, it answers with how long their requests took.
func people(base string) http.Handler {
	client := &http.Client{Transport: newTransport()}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d, err := time.ParseDuration(r.FormValue("for"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		times, err := seen(client, base, d)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		_ = json.NewEncoder(w).Encode(times)
	})
}

// seen is what four people see for a while: each sends a request, with the time between that a person's page leaves, and
// every tenth one is a new person.
func seen(client *http.Client, base string, d time.Duration) (all []time.Duration, fault error) {
	var mu sync.Mutex
	var wait sync.WaitGroup
	expiry := time.Now().Add(time.Hour)
	start := time.Now()
	for c := range 4 {
		wait.Go(func() {
			known := longToken(fmt.Sprint("other", c), expiry)
			for i := 0; time.Since(start) < d; i++ {
				token := known
				if i%10 == 9 {
					token = longToken(relay.NewID().String(), expiry)
				}
				took, err := timed(client, base, token)
				mu.Lock()
				all = append(all, took)
				if err != nil {
					fault = err
				}
				mu.Unlock()
				pauseFor(context.Background(), answerTime)
			}
		})
	}
	wait.Wait()
	return all, fault
}

// timed sends one request.
func timed(client *http.Client, base, token string) (time.Duration, error) {
	r, err := http.NewRequest("POST", base+"/answer", bytes.NewReader(make([]byte, size)))
	if err != nil {
		return 0, err
	}
	r.Header.Set(relay.HeaderAccessToken, token)
	begun := time.Now()
	resp, err := client.Do(r)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err == nil && (resp.StatusCode != http.StatusOK || len(got) != size) {
		err = fmt.Errorf("status %d: %.300s", resp.StatusCode, got)
	}
	return time.Since(begun), err
}
