SELECT (SELECT count(*) FROM ((TABLE rival.daily EXCEPT TABLE rival.view_daily) UNION ALL (TABLE rival.view_daily EXCEPT TABLE rival.daily)) x)
    + (SELECT count(*) FROM ((TABLE rival.by_agent EXCEPT TABLE rival.view_by_agent) UNION ALL (TABLE rival.view_by_agent EXCEPT TABLE rival.by_agent)) x)
    + (SELECT count(*) FROM ((TABLE rival.by_hour EXCEPT TABLE rival.view_by_hour) UNION ALL (TABLE rival.view_by_hour EXCEPT TABLE rival.by_hour)) x)
    + (SELECT count(*) FROM ((TABLE rival.workspace EXCEPT TABLE rival.view_workspace) UNION ALL (TABLE rival.view_workspace EXCEPT TABLE rival.workspace)) x)
