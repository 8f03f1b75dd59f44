// Command archive packs folders for a release: FOLDER becomes FOLDER.tar.gz, whose bytes depend on nothing but the names, the modes and the
// contents of its files and --time. tar does that only with flags that macOS does not have.
package main

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"time"
)

func main() {
	seconds := flag.Int64("time", 0, "when all files were changed, in seconds since 1970")
	flag.Parse()
	if *seconds <= 0 || flag.NArg() == 0 {
		fmt.Fprintln(os.Stderr, "usage: archive --time=SECONDS FOLDER...")
		os.Exit(2)
	}
	for _, folder := range flag.Args() {
		if err := pack(folder, time.Unix(*seconds, 0)); err != nil {
			fmt.Fprintf(os.Stderr, "archive: %v\n", err)
			os.Exit(1)
		}
	}
}

// pack writes the archive beside the folder, whole or not at all.
func pack(folder string, changed time.Time) error {
	name := filepath.Clean(folder) + ".tar.gz"
	file, err := os.Create(name + ".part")
	if err != nil {
		return err
	}
	zipped, err := gzip.NewWriterLevel(file, gzip.BestCompression)
	if err != nil {
		return err
	}
	archive := tar.NewWriter(zipped)
	err = errors.Join(write(archive, folder, changed), archive.Close(), zipped.Close(), file.Close())
	if err != nil {
		return errors.Join(err, os.Remove(file.Name()))
	}
	return os.Rename(file.Name(), name)
}

// write adds what is in the folder, in the order of the names.
func write(archive *tar.Writer, folder string, changed time.Time) error {
	root, err := os.OpenRoot(folder)
	if err != nil {
		return err
	}
	defer root.Close() //nolint:errcheck // It is only read.
	return fs.WalkDir(root.FS(), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		header := &tar.Header{Name: path.Join(filepath.Base(folder), name), ModTime: changed, Format: tar.FormatUSTAR}
		switch {
		case info.IsDir():
			header.Typeflag, header.Name, header.Mode = tar.TypeDir, header.Name+"/", 0o755
			return archive.WriteHeader(header)
		case !info.Mode().IsRegular():
			return fmt.Errorf("%s is not a file", name)
		}
		// Whoever builds has an umask of their own.
		header.Typeflag, header.Size, header.Mode = tar.TypeReg, info.Size(), 0o644
		if info.Mode()&0o100 != 0 {
			header.Mode = 0o755
		}
		if err := archive.WriteHeader(header); err != nil {
			return err
		}
		file, err := root.Open(name)
		if err != nil {
			return err
		}
		defer file.Close() //nolint:errcheck // It is only read.
		_, err = io.Copy(archive, file)
		return err
	})
}
