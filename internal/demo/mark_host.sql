-- The mark by which CreateHost knows its own host again.
COMMENT ON TABLE public.workspace IS 'daybook demo host';
