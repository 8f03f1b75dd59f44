-- The rows that upsert_usage writes, so that each of its writes is an update.
INSERT INTO public.task_usage (task_id, provider, model, input_tokens, output_tokens)
SELECT id, 'claude', 'bench', 0, 1 FROM unnest($1::uuid[]) AS id
ON CONFLICT (task_id, provider, model) DO NOTHING
