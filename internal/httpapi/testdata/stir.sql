-- What a demo host lacks: rows of the future, tasks that are used for days, and by two providers with one model.
INSERT INTO public.task_usage (task_id, provider, model, input_tokens, created_at)
SELECT task_id, 'mirror', model, input_tokens / 2, created_at - interval '31 hours' FROM public.task_usage WHERE hashtext(id::text) % 4 = 0;
UPDATE public.task_usage SET created_at = created_at + interval '400 days' WHERE hashtext(id::text) % 50 = 0;
UPDATE public.task_usage SET created_at = created_at - interval '40 hours' WHERE hashtext(id::text) % 5 = 1;
UPDATE public.agent_task_queue SET completed_at = completed_at + interval '400 days' WHERE hashtext(id::text) % 50 = 0;
