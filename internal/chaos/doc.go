// Package chaos is the fault suite: real workers on real servers while processes are killed and stopped, networks cut, servers
// restarted and promoted, clocks moved and disks filled. After each fault nothing is lost, every rollup equals the source, and the lag
// is small again within a bound that the test states.
//
// The tests have the build tag chaos and are run by make chaos, one after the other: they measure, and would disturb each other.
// They write what they measured into docs/reliability.md when -report names it.
package chaos
