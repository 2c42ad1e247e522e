package relaytest_test

import (
	"flag"
	"testing"

	"go.uber.org/goleak"
)

// TestMain looks for goroutines left behind. The workspace's SDK starts one of OpenCensus when it is loaded.
func TestMain(m *testing.M) {
	// Most of a test's time is waiting for the protocol's own silences, so more run at once than there are processors.
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	flag.Parse() // -parallel on the command line wins
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("go.opencensus.io/stats/view.(*worker).start"))
}
