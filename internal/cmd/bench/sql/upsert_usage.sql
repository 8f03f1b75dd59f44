-- How a host writes usage: one row at a time.
INSERT INTO public.task_usage (task_id, provider, model, input_tokens, output_tokens)
VALUES ($1, 'claude', 'bench', $2, 1)
ON CONFLICT (task_id, provider, model) DO UPDATE SET
    input_tokens = excluded.input_tokens, output_tokens = excluded.output_tokens, updated_at = now()
