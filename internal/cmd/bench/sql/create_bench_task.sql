-- Tasks by number: pgbench chooses a number, for it has no list of ids to choose from.
DROP TABLE IF EXISTS public.bench_task;
CREATE TABLE public.bench_task (n integer PRIMARY KEY, id uuid NOT NULL);
