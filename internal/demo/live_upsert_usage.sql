INSERT INTO public.task_usage (task_id, provider, model, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens)
VALUES (@task, @provider, @model, @input, @output, @cache_read, @cache_write)
ON CONFLICT (task_id, provider, model) DO UPDATE
SET input_tokens       = EXCLUDED.input_tokens,
    output_tokens      = EXCLUDED.output_tokens,
    cache_read_tokens  = EXCLUDED.cache_read_tokens,
    cache_write_tokens = EXCLUDED.cache_write_tokens,
    updated_at         = now();
