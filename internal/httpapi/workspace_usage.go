package httpapi

import (
	"net/http"

	"github.com/jackc/pgx/v5/pgtype"

	"daybook/queries"
)

// The usage of a workspace, by UTC days: today and as many before it as make up the days that are asked for.

const zoneUTC = "UTC"

type workspaceParams = queries.GetWorkspaceUsageDailyParams

// readWorkspaceParams reads the parameters of a question about a workspace.
func readWorkspaceParams(r *http.Request) (workspaceParams, error) {
	query, err := paramsOf(r)
	if err != nil {
		return workspaceParams{}, err
	}
	return workspaceParamsOf(r, query)
}

// readDashboardParams also reads the project.
func readDashboardParams(r *http.Request) (workspaceParams, error) {
	query, err := paramsOf(r)
	if err != nil {
		return workspaceParams{}, err
	}
	p, err := workspaceParamsOf(r, query)
	if err != nil {
		return p, err
	}
	p.ProjectID, err = query.project()
	return p, err
}

func workspaceParamsOf(r *http.Request, query params) (workspaceParams, error) {
	name, err := query.workspace(r)
	if err != nil {
		return workspaceParams{}, err
	}
	days, err := query.days(defaultDays)
	c := callerOf(r)
	return workspaceParams{Days: days, UserID: c.user, TokenHash: c.tokenHash, Slug: name.slug, WorkspaceID: name.id}, err
}

func aboutWorkspace(workspace, user pgtype.UUID, found bool) about {
	return about{workspace: workspace, user: user, zone: zoneUTC, built: true, found: found}
}

var dashboardUsageDaily = endpoint[workspaceParams, queries.GetWorkspaceUsageDailyRow]{
	params: readDashboardParams,
	rollup: (*queries.Queries).GetWorkspaceUsageDaily,
	source: as((*queries.Queries).GetWorkspaceUsageDailyFromSource,
		func(p workspaceParams) queries.GetWorkspaceUsageDailyFromSourceParams {
			return queries.GetWorkspaceUsageDailyFromSourceParams(p)
		},
		func(r queries.GetWorkspaceUsageDailyFromSourceRow) queries.GetWorkspaceUsageDailyRow {
			return queries.GetWorkspaceUsageDailyRow(r)
		}),
	about: func(r *queries.GetWorkspaceUsageDailyRow) about {
		return aboutWorkspace(r.WorkspaceID, r.UserID, r.Found)
	},
	write:    writeUsageDaily(&tokenNames),
	notFound: errWorkspaceNotFound,
}

// workspaceUsageDaily has the rows of dashboardUsageDaily for all projects, under other names.
var workspaceUsageDaily = func() endpoint[workspaceParams, queries.GetWorkspaceUsageDailyRow] {
	e := dashboardUsageDaily
	e.params = readWorkspaceParams
	e.write = writeUsageDaily(&totalNames)
	return e
}()

// writeUsageDaily returns a function that writes a row with the four counts under names.
func writeUsageDaily(names *[4]string) func(rowWriter, *workspaceParams, *queries.GetWorkspaceUsageDailyRow) {
	return func(w rowWriter, _ *workspaceParams, r *queries.GetWorkspaceUsageDailyRow) {
		w.date("date", r.BucketDate)
		w.text("model", r.Model)
		tokens(w, names, r.InputTokens, r.OutputTokens, r.CacheReadTokens, r.CacheWriteTokens)
		w.number("task_count", r.TaskCount)
	}
}

var workspaceUsageSummary = endpoint[workspaceParams, queries.GetWorkspaceUsageSummaryRow]{
	params: readWorkspaceParams,
	rollup: with((*queries.Queries).GetWorkspaceUsageSummary, summaryParams),
	source: as((*queries.Queries).GetWorkspaceUsageSummaryFromSource,
		func(p workspaceParams) queries.GetWorkspaceUsageSummaryFromSourceParams {
			return queries.GetWorkspaceUsageSummaryFromSourceParams(summaryParams(p))
		},
		func(r queries.GetWorkspaceUsageSummaryFromSourceRow) queries.GetWorkspaceUsageSummaryRow {
			return queries.GetWorkspaceUsageSummaryRow(r)
		}),
	about: func(r *queries.GetWorkspaceUsageSummaryRow) about {
		return aboutWorkspace(r.WorkspaceID, r.UserID, r.Found)
	},
	write: func(w rowWriter, _ *workspaceParams, r *queries.GetWorkspaceUsageSummaryRow) {
		w.text("model", r.Model)
		tokens(w, &totalNames, r.InputTokens, r.OutputTokens, r.CacheReadTokens, r.CacheWriteTokens)
		w.number("task_count", r.TaskCount)
	},
	notFound: errWorkspaceNotFound,
}

func summaryParams(p workspaceParams) queries.GetWorkspaceUsageSummaryParams {
	return queries.GetWorkspaceUsageSummaryParams{
		Days: p.Days, UserID: p.UserID, TokenHash: p.TokenHash, Slug: p.Slug, WorkspaceID: p.WorkspaceID,
	}
}

var dashboardUsageByAgent = endpoint[workspaceParams, queries.GetWorkspaceUsageByAgentRow]{
	params: readDashboardParams,
	rollup: with((*queries.Queries).GetWorkspaceUsageByAgent,
		func(p workspaceParams) queries.GetWorkspaceUsageByAgentParams {
			return queries.GetWorkspaceUsageByAgentParams(p)
		}),
	source: as((*queries.Queries).GetWorkspaceUsageByAgentFromSource,
		func(p workspaceParams) queries.GetWorkspaceUsageByAgentFromSourceParams {
			return queries.GetWorkspaceUsageByAgentFromSourceParams(p)
		},
		func(r queries.GetWorkspaceUsageByAgentFromSourceRow) queries.GetWorkspaceUsageByAgentRow {
			return queries.GetWorkspaceUsageByAgentRow(r)
		}),
	about: func(r *queries.GetWorkspaceUsageByAgentRow) about {
		return aboutWorkspace(r.WorkspaceID, r.UserID, r.Found)
	},
	write: func(w rowWriter, _ *workspaceParams, r *queries.GetWorkspaceUsageByAgentRow) {
		w.id("agent_id", r.AgentID)
		w.text("model", r.Model)
		tokens(w, &tokenNames, r.InputTokens, r.OutputTokens, r.CacheReadTokens, r.CacheWriteTokens)
		w.number("task_count", r.TaskCount)
	},
	notFound: errWorkspaceNotFound,
}

var dashboardAgentRunTime = endpoint[workspaceParams, queries.GetWorkspaceRunTimeByAgentRow]{
	params: readDashboardParams,
	rollup: with((*queries.Queries).GetWorkspaceRunTimeByAgent,
		func(p workspaceParams) queries.GetWorkspaceRunTimeByAgentParams {
			return queries.GetWorkspaceRunTimeByAgentParams(p)
		}),
	source: as((*queries.Queries).GetWorkspaceRunTimeByAgentFromSource,
		func(p workspaceParams) queries.GetWorkspaceRunTimeByAgentFromSourceParams {
			return queries.GetWorkspaceRunTimeByAgentFromSourceParams(p)
		},
		func(r queries.GetWorkspaceRunTimeByAgentFromSourceRow) queries.GetWorkspaceRunTimeByAgentRow {
			return queries.GetWorkspaceRunTimeByAgentRow(r)
		}),
	about: func(r *queries.GetWorkspaceRunTimeByAgentRow) about {
		return aboutWorkspace(r.WorkspaceID, r.UserID, r.Found)
	},
	write: func(w rowWriter, _ *workspaceParams, r *queries.GetWorkspaceRunTimeByAgentRow) {
		w.id("agent_id", r.AgentID)
		runTime(w, r.TotalSeconds, r.TaskCount, r.FailedCount)
	},
	notFound: errWorkspaceNotFound,
}

var dashboardRunTimeDaily = endpoint[workspaceParams, queries.GetWorkspaceRunTimeDailyRow]{
	params: readDashboardParams,
	rollup: with((*queries.Queries).GetWorkspaceRunTimeDaily,
		func(p workspaceParams) queries.GetWorkspaceRunTimeDailyParams {
			return queries.GetWorkspaceRunTimeDailyParams(p)
		}),
	source: as((*queries.Queries).GetWorkspaceRunTimeDailyFromSource,
		func(p workspaceParams) queries.GetWorkspaceRunTimeDailyFromSourceParams {
			return queries.GetWorkspaceRunTimeDailyFromSourceParams(p)
		},
		func(r queries.GetWorkspaceRunTimeDailyFromSourceRow) queries.GetWorkspaceRunTimeDailyRow {
			return queries.GetWorkspaceRunTimeDailyRow(r)
		}),
	about: func(r *queries.GetWorkspaceRunTimeDailyRow) about {
		return aboutWorkspace(r.WorkspaceID, r.UserID, r.Found)
	},
	write: func(w rowWriter, _ *workspaceParams, r *queries.GetWorkspaceRunTimeDailyRow) {
		w.date("date", r.BucketDate)
		runTime(w, r.TotalSeconds, r.TaskCount, r.FailedCount)
	},
	notFound: errWorkspaceNotFound,
}

func runTime(w rowWriter, seconds, tasks, failed int64) {
	w.number("total_seconds", seconds)
	w.number("task_count", tasks)
	w.number("failed_count", failed)
}
