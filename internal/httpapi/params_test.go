package httpapi_test

import (
	"net/http"
	"strconv"
	"strings"
	"testing"

	"daybook/internal/httpapi"
)

func TestDays(t *testing.T) {
	t.Parallel()
	b := setup(t)
	runtime := b.addRuntime(t, "UTC")
	// One row a day, so that the number of rows tells the number of days.
	for _, days := range []int{0, 1, 2, 90, 91, 365, 366} {
		b.addUsage(t, runtime, "UTC", "now() - interval '1 day' * "+strconv.Itoa(days), "p", strconv.Itoa(days), [4]int64{1, 1, 1, 1})
	}
	b.drain(t)
	for query, rows := range map[string]int{
		"": 4, "other=1": 4, "days=1": 2, "days=2": 3, "days=90": 4, "days=91": 5, "days=364": 5, "days=365": 6, "days=007": 3,
	} {
		a := b.get(t, owner, usagePath(runtime, query))
		a.require(t, http.StatusOK)
		if got := strings.Count(a.body, `"date"`); got != rows {
			t.Errorf("%q: %d rows, want %d: %s", query, got, rows, a.body)
		}
	}
	for _, query := range []string{
		"days=0", "days=366", "days=-1", "days=x", "days=", "days", "days=1.5", "days=1e2", "days=0x10", "days=1_0", "days=+7", "days=%207",
		"days=99999999999999999999", "days=7&days=8", "days=7&days=7", "days=x&days=7", "days=7&days=x",
	} {
		a := b.get(t, owner, usagePath(runtime, query))
		a.require(t, http.StatusBadRequest)
		a.requireGolden(t, "bad_days")
	}
	for _, query := range []string{"days=%zz", "days=7;x=1"} {
		a := b.get(t, owner, usagePath(runtime, query))
		a.require(t, http.StatusBadRequest)
		a.requireGolden(t, "bad_query")
	}
	// Whoever may not see a runtime learns nothing from its parameters.
	b.get(t, "", usagePath(runtime, "days=x")).require(t, http.StatusUnauthorized)
}

func TestRuntimeIDMustBeAUUID(t *testing.T) {
	t.Parallel()
	b := setup(t)
	runtime := b.addRuntime(t, "UTC")
	for _, id := range []string{
		"", "x", "1", "%20", runtime + "0", runtime[:35], strings.ReplaceAll(runtime, "-", ""), strings.ReplaceAll(runtime, "-", "_"),
		"%7B" + runtime + "%7D", runtime[:35] + "g", runtime[:35] + "%00", "'%20OR%20true%20--", runtime[:34] + "%C3%A9",
	} {
		a := b.get(t, owner, usagePath(id, ""))
		a.require(t, http.StatusBadRequest)
		a.requireGolden(t, "bad_runtime")
	}
	b.get(t, owner, usagePath(strings.ToUpper(runtime), "")).require(t, http.StatusOK)
}

func TestParseUUID(t *testing.T) {
	t.Parallel()
	for s, ok := range map[string]bool{
		"0190163d-8694-739b-aea5-966c26f8ad91":          true,
		"0190163D-8694-739B-AEA5-966C26F8AD91":          true,
		"0190163d8694739baea5966c26f8ad91":              false,
		"0190163dx8694x739bxaea5x966c26f8ad91":          false,
		"0190163d-8694-739b-aea5_966c26f8ad91":          false,
		"0190163-d8694-739b-aea5-966c26f8ad91":          false,
		"{0190163d-8694-739b-aea5-966c26f8ad91}":        false,
		"urn:uuid:0190163d-8694-739b-aea5-966c26f8ad91": false,
		"": false,
	} {
		if _, err := httpapi.ParseUUID(s); (err == nil) != ok {
			t.Errorf("%q: %v", s, err)
		}
	}
}
