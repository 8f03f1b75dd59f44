UPDATE public.agent_runtime SET timezone = $2 WHERE id = $1
