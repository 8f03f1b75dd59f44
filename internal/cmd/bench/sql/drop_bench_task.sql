DROP TABLE IF EXISTS public.bench_task
