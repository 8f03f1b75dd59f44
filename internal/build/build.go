// Package build says which build of Daybook a program is.
package build

import (
	"cmp"
	"runtime/debug"

	"github.com/prometheus/client_golang/prometheus"
)

// They are set by make and by the build of the image. Where there is no repository, revision is the only way to know the commit.
var version, revision string

// Info is what is known of a build. What is not known is "unknown".
type Info struct {
	// Version is what `git describe` says of the commit, "devel" for a build without make.
	Version string
	// Revision is the commit that it was built from, with "-dirty" if there were changes.
	Revision string
	// Go is the version of Go that it was built with.
	Go string
}

// Get returns the info of this program.
func Get() Info {
	info := Info{Version: cmp.Or(version, "devel"), Revision: cmp.Or(revision, "unknown"), Go: "unknown"}
	b, ok := debug.ReadBuildInfo()
	if !ok {
		return info
	}
	info.Go = b.GoVersion
	if revision != "" {
		return info
	}
	dirty := false
	for _, s := range b.Settings {
		switch s.Key {
		case "vcs.revision":
			info.Revision = s.Value
		case "vcs.modified":
			dirty = s.Value == "true"
		}
	}
	if dirty && info.Revision != "unknown" {
		info.Revision += "-dirty"
	}
	return info
}

// String is what --version prints.
func (i Info) String() string { return i.Version + " (" + i.Revision + ", " + i.Go + ")" }

// Collector returns the metric daybook_build_info.
func Collector() prometheus.Collector {
	info := Get()
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "daybook_build_info", Help: "Always 1; the labels say which build this is.",
		ConstLabels: prometheus.Labels{"version": info.Version, "revision": info.Revision, "goversion": info.Go},
	}, func() float64 { return 1 })
}
