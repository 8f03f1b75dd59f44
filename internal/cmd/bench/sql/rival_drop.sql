DROP SCHEMA IF EXISTS rival CASCADE;
DROP INDEX IF EXISTS public.rival_updated_idx, public.rival_bucket_idx, public.rival_task_idx;
