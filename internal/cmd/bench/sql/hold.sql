-- It writes what no trigger looks at, so that it has a transaction id besides its snapshot.
BEGIN ISOLATION LEVEL REPEATABLE READ;
UPDATE public.workspace SET name = name WHERE id = (SELECT id FROM public.workspace LIMIT 1);
