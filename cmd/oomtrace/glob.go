// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/oomtrace/oomtrace/internal/events"
)

// glob is a flag that takes a name or a pattern of names, as [path.Match] has them. It must not be
// empty if it is given: see textValue.
type glob string

func (g *glob) String() string { return string(*g) }
func (*glob) Type() string     { return "glob" }

func (g *glob) Set(text string) error { return setGlob(g, text, text) }

// setGlob sets a flag to a text that has these patterns.
func setGlob[T ~string](value *T, text string, patterns ...string) error {
	if text == "" {
		return errors.New("must not be empty")
	}

	for _, pattern := range patterns {
		if pattern == "" {
			return errors.New("must not be empty before or after the /")
		}

		if _, err := path.Match(pattern, ""); err != nil {
			return fmt.Errorf(`%w: write \[ for a [ that starts no set of characters`, err)
		}
	}
	*value = T(text)

	return nil
}

// match matches a whole name; an empty one, which is not known, never matches. A slash is a
// character as any other. A name also matches itself: units have backslashes.
func (g glob) match(name string) bool {
	plain := func(s string) string { return strings.ReplaceAll(s, "/", "\x00") }
	ok, _ := path.Match(plain(string(g)), plain(name)) // Set has checked the pattern

	return name != "" && (ok || string(g) == name)
}

// isHex reports whether it can be the prefix of a container's id.
func (g glob) isHex() bool { return strings.Trim(strings.ToLower(string(g)), "0123456789abcdef") == "" }

// podGlob is a flag that takes the glob of a pod's name, with or without that of a namespace.
type podGlob string

func (g *podGlob) String() string        { return string(*g) }
func (*podGlob) Type() string            { return "[namespace/]glob" }
func (g *podGlob) Set(text string) error { return setGlob(g, text, strings.SplitN(text, "/", 2)...) }

func (g podGlob) match(w *events.Workload) bool {
	namespace, pod, both := strings.Cut(string(g), "/")
	if !both {
		return glob(g).match(w.Pod)
	}

	return glob(pod).match(w.Pod) && glob(namespace).match(w.Namespace)
}

// cgroupGlob is a flag that takes the path of a cgroup, in which each element may be a glob. A path
// that does not start with a slash matches the end of one: web.service is that of
// /system.slice/web.service.
type cgroupGlob string

func (g *cgroupGlob) String() string { return string(*g) }
func (*cgroupGlob) Type() string     { return "path" }

func (g *cgroupGlob) Set(text string) error { return setGlob(g, text, elements(text)...) }

// contains reports whether path is that of the cgroup or of one below it.
func (g cgroupGlob) contains(path string) bool {
	if path == "" {
		return false // not known
	}
	elements, want := elements(path), elements(string(g))

	if strings.HasPrefix(string(g), "/") {
		return hasElements(elements, want)
	}

	for i := range elements {
		if hasElements(elements[i:], want) {
			return true
		}
	}

	return false
}

// hasElements reports whether the first elements match.
func hasElements(elements, want []string) bool {
	if len(elements) < len(want) {
		return false
	}

	for i, pattern := range want {
		if !glob(pattern).match(elements[i]) {
			return false
		}
	}

	return true
}

func elements(path string) []string {
	return strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
}

// selector is a flag that takes a label selector of Kubernetes. Given several times, all must match.
type selector struct {
	of labels.Selector // nil: not set
	// exact are labels that Kubernetes has no selector for, since it allows no such values: those of
	// Docker may have any.
	exact []label
	text  []string
}

type label struct{ key, value string }

func (s *selector) String() string { return strings.Join(s.text, ",") }
func (*selector) Type() string     { return "selector" }
func (s *selector) set() bool      { return len(s.text) > 0 }

func (s *selector) Set(text string) error {
	if strings.TrimSpace(text) == "" {
		return errors.New("must not be empty")
	}

	parsed, err := labels.Parse(text)
	exact, isExact := exactLabels(text)

	switch {
	case err == nil && s.of == nil:
		s.of = parsed
	case err == nil:
		requirements, _ := parsed.Requirements()
		s.of = s.of.Add(requirements...)
	case isExact:
		s.exact = append(s.exact, exact...)
	default:
		return fmt.Errorf("%w: write key=value, key!=value, key in (a,b), key notin (a,b), key or !key, "+
			"or several of them separated by commas", err)
	}

	s.text = append(s.text, text)

	return nil
}

// exactLabels parses key=value, or several of them separated by commas.
func exactLabels(text string) (all []label, ok bool) {
	for term := range strings.SplitSeq(text, ",") {
		key, value, ok := strings.Cut(term, "=")
		if !ok || key == "" || strings.ContainsAny(key, "! ()") {
			return nil, false
		}
		all = append(all, label{key, value})
	}

	return all, true
}

// match matches the labels of a pod or of a container. A workload whose names are not known matches
// nothing, not even !key.
func (s *selector) match(w *events.Workload) bool {
	if w.Pod == "" && w.Labels == nil {
		return false
	}

	for _, l := range s.exact {
		if got, ok := w.Labels[l.key]; !ok || got != l.value {
			return false
		}
	}

	return s.of == nil || s.of.Matches(labels.Set(w.Labels))
}
