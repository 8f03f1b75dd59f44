package httpapi

import (
	"net/http"
	"time"

	"daybook/queries"
)

// Where an answer comes from, as the header Daybook-Source says.
const (
	sourceRollup = "rollup"
	sourceLive   = "live" // the facts, while a rebuild for a new zone is pending
)

// runtimeUsageRow is one row of GET /api/runtimes/{runtimeId}/usage.
type runtimeUsageRow struct {
	RuntimeID        string `json:"runtime_id"`
	Date             string `json:"date"` // a day in the runtime's zone
	Provider         string `json:"provider"`
	Model            string `json:"model"`
	InputTokens      int64  `json:"input_tokens"`
	OutputTokens     int64  `json:"output_tokens"`
	CacheReadTokens  int64  `json:"cache_read_tokens"`
	CacheWriteTokens int64  `json:"cache_write_tokens"`
}

// runtimeUsage answers with the usage of a runtime on today and the days before it, in the runtime's zone, newest day first.
func (s *server) runtimeUsage(w http.ResponseWriter, r *http.Request) error {
	runtime, err := runtimeIDParam(r)
	if err != nil {
		return err
	}
	days, err := daysParam(r, 90)
	if err != nil {
		return err
	}
	rows, err := queries.New(s.pool).GetRuntimeUsage(r.Context(), queries.GetRuntimeUsageParams{
		UserID: callerOf(r), RuntimeID: runtime, Days: days,
	})
	if err != nil {
		return err
	}
	if len(rows) == 0 {
		return errRuntimeNotFound
	}
	id := runtime.String()
	body := make([]runtimeUsageRow, 0, len(rows))
	for _, row := range rows {
		if !row.BucketDate.Valid {
			continue // The one row of a runtime without usage.
		}
		body = append(body, runtimeUsageRow{
			RuntimeID: id, Date: row.BucketDate.Time.Format(time.DateOnly), Provider: row.Provider, Model: row.Model,
			InputTokens: row.InputTokens, OutputTokens: row.OutputTokens,
			CacheReadTokens: row.CacheReadTokens, CacheWriteTokens: row.CacheWriteTokens,
		})
	}
	source := sourceRollup
	if !rows[0].Built {
		source = sourceLive
	}
	w.Header().Set("Daybook-Timezone", rows[0].Timezone)
	w.Header().Set("Daybook-Source", source)
	w.Header().Set("Cache-Control", "private")
	writeJSON(w, http.StatusOK, body)
	return nil
}
