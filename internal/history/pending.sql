SELECT EXISTS (SELECT FROM daybook.task_usage_daily_dirty)
    OR EXISTS (SELECT FROM daybook.dirty_scope)
    OR EXISTS (SELECT FROM daybook.runtime_rebuild)
