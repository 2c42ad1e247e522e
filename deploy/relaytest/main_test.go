package relaytest_test

import (
	"testing"

	"go.uber.org/goleak"
)

// TestMain looks for goroutines left behind. The workspace's SDK starts one of OpenCensus when it is loaded.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("go.opencensus.io/stats/view.(*worker).start"))
}
