package rollup

// SetMaxRuntimes sets how many runtimes a transaction locks one by one. It must be called before anything else.
func SetMaxRuntimes(n int) { maxRuntimes = n }
