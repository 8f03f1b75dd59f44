INSERT INTO public.bench_task (n, id) SELECT n, id FROM unnest($1::uuid[]) WITH ORDINALITY AS task (id, n)
