SELECT count(*) FROM public.agent_runtime
