//go:build !race

package relaytest_test

const raceSlows = 1
