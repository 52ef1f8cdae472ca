// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
)

func golden(t *testing.T, name string) *events.Incident {
	t.Helper()

	file, err := os.Open("../../internal/kernellog/testdata/golden/" + name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()

	var inc events.Incident
	if err := json.NewDecoder(file).Decode(&inc); err != nil {
		t.Fatal(err)
	}

	return &inc
}

func problemsOf(live, log *events.Incident) []string {
	v := &verdict{}
	p := pair{cc: &caseCheck{v: v, tier: "fentry"}, live: live, log: log}
	p.compare()

	return v.problems
}

// TestAgreeFinds changes every value of an incident, one by one, and takes every
// one away: each must be told, but for those that a rule leaves out.
func TestAgreeFinds(t *testing.T) {
	for _, name := range []string{"5.10.0-32-memcg-oom-group", "6.1.0-56-memcg-v1-parent-limit", "6.12.117-mempolicy", "6.18.15-global"} {
		t.Run(name, func(t *testing.T) {
			log := golden(t, name)
			if problems := problemsOf(log, log); len(problems) > 0 {
				t.Fatalf("it differs from itself: %q", problems)
			}
			found := 0
			live := golden(t, name)
			leaves(reflect.ValueOf(live).Elem(), "", func(key string, value reflect.Value) {
				r, ok := ruleOf(key)
				if !ok {
					t.Errorf("no rule is about %s", key)
				}

				if r.compare == nil || strings.HasSuffix(key, "cgroup.id") || strings.HasSuffix(key, "cgroup.hierarchy") || key == "trigger.pid" {
					return
				}
				was := reflect.New(value.Type()).Elem()
				was.Set(value)
				change(value)

				if len(problemsOf(live, log)) == 0 {
					t.Errorf("%s is %v and %v, and nothing is said", key, value, was)
				}

				value.SetZero()

				if !was.IsZero() && len(problemsOf(live, log)) == 0 && !lacks(live, key) {
					t.Errorf("%s is missing, and nothing is said", key)
				}

				value.Set(was)

				found++
			})

			if found < 20 {
				t.Errorf("%d values were changed only", found)
			}
		})
	}
}

// leaves calls do for each value below v that is there.
func leaves(v reflect.Value, key string, do func(string, reflect.Value)) {
	switch {
	case v.Kind() == reflect.Pointer && v.Type().Elem().Kind() == reflect.Struct:
		if !v.IsNil() {
			leaves(v.Elem(), key, do)
		}
	case v.Kind() == reflect.Struct && v.Type() != reflect.TypeFor[time.Time]():
		for i := range v.NumField() {
			name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
			leaves(v.Field(i), strings.Trim(key+"."+name, "."), do)
		}
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Struct:
		for i := range v.Len() {
			leaves(v.Index(i), key, do)
		}
	case !v.IsZero():
		do(key, v)
	}
}

// change makes a value another one, beyond any slack.
func change(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		other := reflect.New(v.Type().Elem())
		other.Elem().Set(v.Elem())
		change(other.Elem())
		v.Set(other)
	case reflect.String:
		v.SetString(v.String() + "x")
	case reflect.Bool:
		v.SetBool(!v.Bool())
	case reflect.Int, reflect.Int64:
		v.SetInt(v.Int() + 1)
	case reflect.Uint32:
		v.SetUint(v.Uint() + 1)
	case reflect.Uint64:
		v.SetUint(v.Uint() + 64<<20)
	case reflect.Slice:
		v.Set(v.Slice(0, v.Len()-1))
	default:
		panic("a " + v.Type().String())
	}
}

// TestRules looks for keys of the contract that no rule is about.
func TestRules(t *testing.T) {
	for i := range reflect.TypeFor[events.Incident]().NumField() {
		field := reflect.TypeFor[events.Incident]().Field(i)

		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if _, ok := ruleOf(name); name != "" && !ok {
			t.Errorf("no rule is about %s", name)
		}
	}
}
