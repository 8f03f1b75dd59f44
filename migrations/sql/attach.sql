SELECT daybook.attach();
-- What was counted before the triggers were on is to be counted again, whatever the clock said then.
UPDATE daybook.coverage SET backfill_listed_at = NULL, backfill_finished_at = NULL WHERE attached_at >= now();
