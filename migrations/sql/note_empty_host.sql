-- A host without tasks has nothing to backfill: whatever it writes from now on the triggers see. Attaching has waited for every
-- write that they did not.
UPDATE daybook.coverage
SET backfill_listed_at = clock_timestamp(), backfill_finished_at = clock_timestamp(), backfill_tasks = 0
WHERE daybook.attached()
  AND NOT coalesce(backfill_listed_at > attached_at, false)
  AND NOT EXISTS (SELECT FROM public.agent_task_queue)
  AND NOT EXISTS (SELECT FROM daybook.ledger_task)
  AND NOT EXISTS (SELECT FROM daybook.ledger_usage)
