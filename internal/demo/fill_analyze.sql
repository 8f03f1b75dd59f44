ANALYZE public.workspace, public."user", public.member, public.project, public.agent_runtime, public.agent,
        public.issue, public.agent_task_queue, public.task_usage;
