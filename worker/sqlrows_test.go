package worker

import (
	"bytes"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
)

// Only null is NULL: a value that comes as no text is not lost.
func TestRowsKeepWhatIsNoText(t *testing.T) {
	for format, want := range map[*sqlFormat]string{
		formatCSV:    "a,b,c,d\r\n1,true,,x\r\n",
		formatNDJSON: `{"a":1,"b":true,"c":null,"d":"x"}` + "\n",
	} {
		w := httptest.NewRecorder()
		out := newRowSender(w)
		encoder := newRowEncoder(format, []sqlColumn{{Name: "a"}, {Name: "b"}, {Name: "c"}, {Name: "d"}})
		_, _ = out.Write(encoder.head())
		must(t, json.UnmarshalRead(bytes.NewReader([]byte(`[[1,true,null,"x"]]`)), &rowReader{encoder: encoder, out: out, room: newRowRoom(t.Context(), nil, person{})}))
		must(t, out.Flush())
		if got := w.Body.String(); got != want {
			t.Errorf("%s: %q", format.mediaType, got)
		}
	}
}

// However many columns have one name, they get names of their own at once: a person could keep a processor busy for hours.
func TestUniqueNames(t *testing.T) {
	columns := func(names ...string) (all []sqlColumn) {
		for _, n := range names {
			all = append(all, sqlColumn{Name: n})
		}
		return all
	}
	got := uniqueNames(columns("a", "a_2", "a", "a", "a_2", "", ""))
	if want := []string{"a", "a_2", "a_3", "a_4", "a_2_2", "", "_2"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	start := time.Now()
	names := uniqueNames(columns(slices.Repeat([]string{"a"}, 200_000)...))
	slices.Sort(names)
	if len(slices.Compact(names)) != 200_000 {
		t.Error("not unique")
	}
	if took := time.Since(start); took > 30*time.Second {
		t.Errorf("took %v", took)
	}
}
