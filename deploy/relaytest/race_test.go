//go:build race

package relaytest_test

// raceSlows is how much less a second gets done under the race detector.
const raceSlows = 5
