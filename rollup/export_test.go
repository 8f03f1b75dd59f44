package rollup

// Tests have few runtimes. Of those with more than three, some drains hold one lock for all, and others one for each.
func init() { maxRuntimes = 3 }
