package httpapi

import (
	"cmp"
	"net/http"

	"daybook/queries"
)

// The usage of a runtime, by days of its zone: today and the days before it.

type runtimeParams = queries.GetRuntimeUsageParams

// readRuntimeParams returns a function that reads the parameters of a question about a runtime.
func readRuntimeParams(defaultDays int32) func(*http.Request) (runtimeParams, error) {
	return func(r *http.Request) (p runtimeParams, err error) {
		if p.RuntimeID, err = runtimeIDParam(r); err != nil {
			return p, err
		}
		query, err := paramsOf(r)
		if err != nil {
			return p, err
		}
		c := callerOf(r)
		p.UserID, p.TokenHash = c.user, c.tokenHash
		p.Days, err = query.days(defaultDays)
		return p, err
	}
}

var runtimeUsage = endpoint[runtimeParams, queries.GetRuntimeUsageRow]{
	params: readRuntimeParams(defaultRuntimeDays),
	rollup: (*queries.Queries).GetRuntimeUsage,
	source: as((*queries.Queries).GetRuntimeUsageFromSource,
		func(p runtimeParams) queries.GetRuntimeUsageFromSourceParams {
			return queries.GetRuntimeUsageFromSourceParams(p)
		},
		func(r queries.GetRuntimeUsageFromSourceRow) queries.GetRuntimeUsageRow {
			return queries.GetRuntimeUsageRow(r)
		}),
	about: func(r *queries.GetRuntimeUsageRow) about {
		return about{r.WorkspaceID, r.UserID, r.Timezone, r.Built, r.Found}
	},
	write: func(w rowWriter, p *runtimeParams, r *queries.GetRuntimeUsageRow) {
		w.id("runtime_id", p.RuntimeID)
		w.date("date", r.BucketDate)
		w.text("provider", r.Provider)
		w.text("model", r.Model)
		tokens(w, &tokenNames, r.InputTokens, r.OutputTokens, r.CacheReadTokens, r.CacheWriteTokens)
	},
	notFound: errRuntimeNotFound,
}

var runtimeUsageByAgent = endpoint[runtimeParams, queries.GetRuntimeUsageByAgentRow]{
	params: readRuntimeParams(defaultDays),
	rollup: with((*queries.Queries).GetRuntimeUsageByAgent,
		func(p runtimeParams) queries.GetRuntimeUsageByAgentParams {
			return queries.GetRuntimeUsageByAgentParams(p)
		}),
	source: as((*queries.Queries).GetRuntimeUsageByAgentFromSource,
		func(p runtimeParams) queries.GetRuntimeUsageByAgentFromSourceParams {
			return queries.GetRuntimeUsageByAgentFromSourceParams(p)
		},
		func(r queries.GetRuntimeUsageByAgentFromSourceRow) queries.GetRuntimeUsageByAgentRow {
			return queries.GetRuntimeUsageByAgentRow(r)
		}),
	about: func(r *queries.GetRuntimeUsageByAgentRow) about {
		return about{r.WorkspaceID, r.UserID, r.Timezone, r.Built, r.Found}
	},
	write: func(w rowWriter, _ *runtimeParams, r *queries.GetRuntimeUsageByAgentRow) {
		w.id("agent_id", r.AgentID)
		w.text("model", r.Model)
		tokens(w, &tokenNames, r.InputTokens, r.OutputTokens, r.CacheReadTokens, r.CacheWriteTokens)
		w.number("task_count", r.TaskCount)
	},
	notFound: errRuntimeNotFound,
}

var runtimeUsageByHour = endpoint[runtimeParams, queries.GetRuntimeUsageByHourRow]{
	params: readRuntimeParams(defaultDays),
	rollup: with((*queries.Queries).GetRuntimeUsageByHour,
		func(p runtimeParams) queries.GetRuntimeUsageByHourParams {
			return queries.GetRuntimeUsageByHourParams(p)
		}),
	source: as((*queries.Queries).GetRuntimeUsageByHourFromSource,
		func(p runtimeParams) queries.GetRuntimeUsageByHourFromSourceParams {
			return queries.GetRuntimeUsageByHourFromSourceParams(p)
		},
		func(r queries.GetRuntimeUsageByHourFromSourceRow) queries.GetRuntimeUsageByHourRow {
			return queries.GetRuntimeUsageByHourRow(r)
		}),
	about: func(r *queries.GetRuntimeUsageByHourRow) about {
		return about{r.WorkspaceID, r.UserID, r.Timezone, r.Built, r.Found}
	},
	write: func(w rowWriter, _ *runtimeParams, r *queries.GetRuntimeUsageByHourRow) {
		w.number("hour", int64(r.Hour))
		w.text("model", r.Model)
		tokens(w, &tokenNames, r.InputTokens, r.OutputTokens, r.CacheReadTokens, r.CacheWriteTokens)
		w.number("task_count", r.TaskCount)
	},
	notFound: errRuntimeNotFound,
}

// runtimeActivity is of all time.
var runtimeActivity = endpoint[queries.GetRuntimeActivityParams, queries.GetRuntimeActivityRow]{
	params: func(r *http.Request) (queries.GetRuntimeActivityParams, error) {
		id, err := runtimeIDParam(r)
		c := callerOf(r)
		return queries.GetRuntimeActivityParams{UserID: c.user, TokenHash: c.tokenHash, RuntimeID: id}, err
	},
	rollup: sorted((*queries.Queries).GetRuntimeActivity, func(a, b queries.GetRuntimeActivityRow) int { return cmp.Compare(a.Hour, b.Hour) }),
	source: as((*queries.Queries).GetRuntimeActivityFromSource,
		func(p queries.GetRuntimeActivityParams) queries.GetRuntimeActivityFromSourceParams {
			return queries.GetRuntimeActivityFromSourceParams(p)
		},
		func(r queries.GetRuntimeActivityFromSourceRow) queries.GetRuntimeActivityRow {
			return queries.GetRuntimeActivityRow(r)
		}),
	about: func(r *queries.GetRuntimeActivityRow) about {
		return about{r.WorkspaceID, r.UserID, r.Timezone, r.Built, r.Found}
	},
	write: func(w rowWriter, _ *queries.GetRuntimeActivityParams, r *queries.GetRuntimeActivityRow) {
		w.number("hour", int64(r.Hour))
		w.number("count", r.TaskCount)
	},
	notFound: errRuntimeNotFound,
}
