package httpapi_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

// document is openapi.yaml. Nothing in it changes after it was read, but for the schemas that were compiled, so goroutines may share it.
type document struct {
	root node

	mu       sync.Mutex
	compiler *jsonschema.Compiler
	schemas  map[string]*jsonschema.Schema // by pointer
}

// node is a place in the document. The zero value is a place that is not there.
type node struct {
	document *document
	pointer  string // as in a JSON pointer (RFC 6901)
	yaml     *yaml.Node
}

// readDocument reads a description in YAML.
func readDocument(text []byte) (*document, error) {
	var root yaml.Node
	if err := yaml.Unmarshal(text, &root); err != nil {
		return nil, err
	}
	d := &document{compiler: jsonschema.NewCompiler(), schemas: make(map[string]*jsonschema.Schema)}
	d.root = node{d, "", root.Content[0]}
	d.compiler.AssertFormat()
	d.compiler.RegisterFormat(&jsonschema.Format{Name: "int64", Validate: func(v any) error {
		if number, ok := v.(json.Number); ok {
			_, err := strconv.ParseInt(string(number), 10, 64)
			return err
		}
		return nil
	}})
	return d, d.compiler.AddResource("openapi.yaml", d.root.value())
}

// followed is where a reference leads, and any other node itself.
func (n node) followed() node {
	for n.yaml != nil && n.yaml.Kind == yaml.MappingNode && len(n.yaml.Content) > 0 && n.yaml.Content[0].Value == "$ref" {
		pointer := strings.TrimPrefix(n.yaml.Content[1].Value, "#/")
		n = n.document.root
		for key := range strings.SplitSeq(pointer, "/") {
			n = n.child(strings.NewReplacer("~1", "/", "~0", "~").Replace(key))
		}
	}
	return n
}

func (n node) child(key string) node {
	if n.yaml == nil || n.yaml.Kind != yaml.MappingNode {
		return node{}
	}
	for i := 0; i < len(n.yaml.Content); i += 2 {
		if n.yaml.Content[i].Value == key {
			return node{n.document, n.pointer + "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(key), n.yaml.Content[i+1]}
		}
	}
	return node{}
}

// get returns what the keys lead to, references followed.
func (n node) get(keys ...string) node {
	for _, key := range keys {
		n = n.followed().child(key)
	}
	return n.followed()
}

// exists tells whether there is such a place.
func (n node) exists() bool { return n.yaml != nil }

// keys are those of an object, in the order of the text.
func (n node) keys() (keys []string) {
	if n.yaml != nil && n.yaml.Kind == yaml.MappingNode {
		for i := 0; i < len(n.yaml.Content); i += 2 {
			keys = append(keys, n.yaml.Content[i].Value)
		}
	}
	return keys
}

// list is the items of an array, references followed.
func (n node) list() (items []node) {
	if n.yaml != nil && n.yaml.Kind == yaml.SequenceNode {
		for i, item := range n.yaml.Content {
			items = append(items, node{n.document, n.pointer + "/" + strconv.Itoa(i), item}.followed())
		}
	}
	return items
}

// text is a scalar as it is written; empty if there is none.
func (n node) text() string {
	if n.yaml == nil {
		return ""
	}
	return n.yaml.Value
}

// texts is an array of scalars, or the one scalar that stands for it.
func (n node) texts() (texts []string) {
	for _, item := range n.list() {
		texts = append(texts, item.text())
	}
	if n.yaml != nil && n.yaml.Kind == yaml.ScalarNode {
		texts = []string{n.text()}
	}
	return texts
}

// value is what encoding/json would make of the node, with json.Number.
func (n node) value() any {
	switch n.yaml.Kind {
	case yaml.MappingNode:
		object := make(map[string]any)
		for _, key := range n.keys() {
			object[key] = n.child(key).value()
		}
		return object
	case yaml.SequenceNode:
		array := make([]any, len(n.yaml.Content))
		for i, item := range n.yaml.Content {
			array[i] = node{n.document, "", item}.value()
		}
		return array
	default:
		switch n.yaml.Tag {
		case "!!int", "!!float":
			return json.Number(n.yaml.Value)
		case "!!bool":
			return n.yaml.Value == "true"
		case "!!null":
			return nil
		default: // A date stays text.
			return n.yaml.Value
		}
	}
}

// validate checks a value, as encoding/json makes it with json.Number, against the schema that the node is.
func (n node) validate(value any) error {
	schema, err := n.document.compile(n.pointer)
	if err != nil {
		return err
	}
	err = schema.Validate(value)
	if invalid, ok := errors.AsType[*jsonschema.ValidationError](err); ok {
		return fmt.Errorf("%.500s", strings.ReplaceAll(invalid.Error(), "\n", " "))
	}
	return err
}

func (d *document) compile(pointer string) (*jsonschema.Schema, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if schema := d.schemas[pointer]; schema != nil {
		return schema, nil
	}
	schema, err := d.compiler.Compile("openapi.yaml#" + strings.ReplaceAll(strings.ReplaceAll(pointer, "{", "%7B"), "}", "%7D"))
	if err != nil {
		return nil, err
	}
	d.schemas[pointer] = schema
	return schema, nil
}
