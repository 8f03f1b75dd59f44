package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	apps "k8s.io/api/apps/v1"
	batch "k8s.io/api/batch/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// steps are the values of the label daybook-step, by which docs/deployment.md applies the objects in order.
var steps = []string{"setup", "migrate", "run"}

// decode reads all objects of a file or of a rendering. A field that is not known, or is there twice, is an error.
func decode(name string, content []byte) ([]runtime.Object, error) {
	if err := monitoring.AddToScheme(scheme.Scheme); err != nil {
		return nil, err
	}
	decoder := serializer.NewCodecFactory(scheme.Scheme, serializer.EnableStrict).UniversalDeserializer()
	var objects []runtime.Object
	var errs []error
	documents := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(content)))
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return objects, errors.Join(errs...)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if len(bytes.TrimSpace(document)) == 0 {
			continue
		}
		object, _, err := decoder.Decode(document, nil, nil)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
			continue
		}
		objects = append(objects, object)
	}
}

// checkKubernetes renders the manifests, reads them and the optional ones, and looks whether they name each other rightly.
func checkKubernetes(deploy string) error {
	dir := filepath.Join(deploy, "kubernetes")
	rendering, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		return err
	}
	content, err := rendering.AsYaml()
	if err != nil {
		return err
	}
	rendered, err := decode("rendering", content)
	errs := []error{err}
	for _, object := range rendered {
		if is := object.(meta.Object); !slices.Contains(steps, is.GetLabels()["daybook-step"]) {
			errs = append(errs, fmt.Errorf("%s has no step", is.GetName()))
		}
	}
	all := rendered
	files, err := filepath.Glob(filepath.Join(dir, "optional", "*.yaml"))
	if err != nil {
		return err
	}
	for _, file := range append(files, filepath.Join(dir, "secret.example.yaml")) {
		content, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		objects, err := decode(file, content)
		errs = append(errs, err)
		all = append(all, objects...)
	}
	return errors.Join(append(errs, checkNames(all))...)
}

// pod is what there is to name of a pod.
type pod struct {
	name   string
	labels labels.Set
	spec   core.PodSpec
}

// checkNames looks whether selectors select pods, services lead to ports, and pods name accounts and secrets that are there.
func checkNames(objects []runtime.Object) error {
	var errs []error
	var pods []pod
	have := make(map[string]bool)
	for _, object := range objects {
		switch o := object.(type) {
		case *apps.Deployment:
			pods = append(pods, pod{o.Name, o.Spec.Template.Labels, o.Spec.Template.Spec})
		case *batch.Job:
			pods = append(pods, pod{o.Name, o.Spec.Template.Labels, o.Spec.Template.Spec})
		case *core.Pod:
			pods = append(pods, pod{o.Name, o.Labels, o.Spec})
		case *core.ServiceAccount:
			have["account "+o.Name] = true
		case *core.Secret:
			have["secret "+o.Name] = true
		}
	}
	for _, p := range pods {
		if account := p.spec.ServiceAccountName; account != "" && !have["account "+account] {
			errs = append(errs, fmt.Errorf("%s: there is no account %s", p.name, account))
		}
		for _, volume := range p.spec.Volumes {
			if volume.Secret != nil && !have["secret "+volume.Secret.SecretName] {
				errs = append(errs, fmt.Errorf("%s: there is no secret %s", p.name, volume.Secret.SecretName))
			}
		}
	}
	selects := func(what string, selector *meta.LabelSelector, ports ...string) {
		s, err := meta.LabelSelectorAsSelector(selector)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", what, err))
			return
		}
		selected := slices.DeleteFunc(slices.Clone(pods), func(p pod) bool { return !s.Matches(p.labels) })
		if len(selected) == 0 {
			errs = append(errs, fmt.Errorf("%s selects no pod", what))
		}
		for _, p := range selected {
			for _, port := range ports {
				if !slices.ContainsFunc(p.spec.Containers[0].Ports, func(have core.ContainerPort) bool { return have.Name == port }) {
					errs = append(errs, fmt.Errorf("%s: %s has no port %s", what, p.name, port))
				}
			}
		}
	}
	for _, object := range objects {
		switch o := object.(type) {
		case *apps.Deployment:
			selects("deployment "+o.Name, o.Spec.Selector)
		case *policy.PodDisruptionBudget:
			selects("budget "+o.Name, o.Spec.Selector)
		case *core.Service:
			var ports []string
			for _, port := range o.Spec.Ports {
				ports = append(ports, port.TargetPort.StrVal)
			}
			selects("service "+o.Name, &meta.LabelSelector{MatchLabels: o.Spec.Selector}, ports...)
		case *networking.NetworkPolicy:
			var ports []string
			for _, rule := range o.Spec.Ingress {
				for _, port := range rule.Ports {
					ports = append(ports, port.Port.StrVal)
				}
			}
			selects("network policy "+o.Name, &o.Spec.PodSelector, ports...)
		case *monitoring.PodMonitor:
			selects("pod monitor "+o.Name, &o.Spec.Selector, *o.Spec.PodMetricsEndpoints[0].Port)
		}
	}
	return errors.Join(errs...)
}

// checkRules makes the objects for Prometheus's operator as docs/deployment.md does.
func checkRules(deploy string) error {
	var errs []error
	for _, name := range []string{"rules", "runbook"} {
		content, err := os.ReadFile(filepath.Join(deploy, "prometheus", name+".yml"))
		if err != nil {
			return err
		}
		object := "apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n  name: daybook\n  namespace: daybook\nspec:\n  " +
			string(bytes.ReplaceAll(content, []byte("\n"), []byte("\n  ")))
		_, err = decode(name+".yml", []byte(object))
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
