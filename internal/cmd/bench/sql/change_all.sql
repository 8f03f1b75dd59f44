UPDATE public.task_usage SET output_tokens = output_tokens + 1, updated_at = now()
