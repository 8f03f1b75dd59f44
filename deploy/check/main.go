// Command check parses the files of deploy/ with the code that will read them, as strictly as that can: what Kubernetes, Compose or BuildKit
// would not take, or would silently ignore, is an error. It has a module of its own, so that none of that code is near Daybook's.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

func main() {
	deploy := ".."
	if len(os.Args) > 1 {
		deploy = os.Args[1]
	}
	failed := false
	for _, check := range []struct {
		what string
		run  func(deploy string) error
	}{
		{"kustomize and the types of Kubernetes: kubernetes/", checkKubernetes},
		{"the types of Prometheus's operator: rules as the documentation makes them", checkRules},
		{"compose-go: compose/compose.yaml", checkCompose},
		{"BuildKit's parser and linter: docker/Dockerfile", checkDockerfile},
	} {
		if err := check.run(deploy); err != nil {
			failed = true
			fmt.Fprintf(os.Stdout, "FAILED  %s\n%v\n", check.what, err)
			continue
		}
		fmt.Fprintf(os.Stdout, "ok      %s\n", check.what)
	}
	if failed {
		os.Exit(1)
	}
}

// checkCompose loads the project with all profiles, as `docker compose config` does, and looks whether the files that it mounts are there.
func checkCompose(deploy string) error {
	options, err := cli.NewProjectOptions([]string{filepath.Join(deploy, "compose", "compose.yaml")}, cli.WithProfiles([]string{"*"}))
	if err != nil {
		return err
	}
	project, err := options.LoadProject(context.Background())
	if err != nil {
		return err
	}
	var errs []error
	for _, service := range project.Services {
		for _, volume := range service.Volumes {
			if volume.Type != "bind" {
				continue
			}
			if _, err := os.Stat(volume.Source); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", service.Name, err))
			}
		}
		if service.Name == "migrate" && strings.Join(service.Command, " ") != "/worker migrate up --roles" {
			errs = append(errs, fmt.Errorf("migrate runs %q", service.Command))
		}
	}
	return errors.Join(errs...)
}

func checkDockerfile(deploy string) error {
	content, err := os.ReadFile(filepath.Join(deploy, "docker", "Dockerfile"))
	if err != nil {
		return err
	}
	parsed, err := parser.Parse(bytes.NewReader(content))
	if err != nil {
		return err
	}
	var errs []error
	for _, warning := range parsed.Warnings {
		errs = append(errs, errors.New(warning.Short))
	}
	lint := linter.New(&linter.Config{Warn: func(rule, _, _, message string, location []parser.Range) {
		errs = append(errs, fmt.Errorf("%s: %s %v", rule, message, location))
	}})
	stages, _, err := instructions.Parse(parsed.AST, lint)
	if err != nil {
		return err
	}
	if len(stages) == 0 {
		errs = append(errs, errors.New("there is no stage"))
	}
	return errors.Join(errs...)
}
