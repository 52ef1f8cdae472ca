// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
)

func logGolden(t *testing.T, name string) *events.Incident {
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
	c := &Check{Tier: tierFentry, spec: &Case{}}
	p := pair{check: c, live: live, log: log}
	p.compare()

	return c.problems
}

// TestCompareFindsEachDifference changes every value of an incident, one by one, and
// removes it: each difference must be found, but for those that a rule leaves out.
func TestCompareFindsEachDifference(t *testing.T) {
	for _, name := range []string{"5.10.0-32-memcg-oom-group", "6.1.0-56-memcg-v1-parent-limit", "6.12.117-mempolicy", "6.18.15-global"} {
		t.Run(name, func(t *testing.T) {
			log := logGolden(t, name)
			if problems := problemsOf(log, log); len(problems) > 0 {
				t.Fatalf("an incident and itself: got problems %q, want none", problems)
			}
			found := 0
			live := logGolden(t, name)
			leaves(reflect.ValueOf(live).Elem(), "", func(key string, value reflect.Value) {
				r, ok := ruleOf(key)
				if !ok {
					t.Errorf("%s: no rule compares it", key)
				}

				if r.compare == nil || strings.HasSuffix(key, "cgroup.id") || strings.HasSuffix(key, "cgroup.hierarchy") || key == "trigger.pid" {
					return
				}
				was := reflect.New(value.Type()).Elem()
				was.Set(value)
				change(value)

				if len(problemsOf(live, log)) == 0 {
					t.Errorf("%s: %v and %v: got no problem, want one", key, value, was)
				}

				value.SetZero()

				if !was.IsZero() && len(problemsOf(live, log)) == 0 && !lacks(live, key) {
					t.Errorf("%s is missing: got no problem, want one", key)
				}

				value.Set(was)

				found++
			})

			if found < 20 {
				t.Errorf("got %d values that were changed, want at least 20", found)
			}
		})
	}
}

// leaves calls do for each value below v that is not zero.
func leaves(v reflect.Value, key string, do func(string, reflect.Value)) {
	switch {
	case v.Kind() == reflect.Pointer && v.Type().Elem().Kind() == reflect.Struct:
		if !v.IsNil() {
			leaves(v.Elem(), key, do)
		}
	case v.Kind() == reflect.Struct && v.Type() != reflect.TypeFor[time.Time]():
		for i := range v.NumField() {
			name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
			if name == "-" {
				continue // no key
			}

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

// change changes a value, beyond any slack.
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
		panic("cannot change a " + v.Type().String())
	}
}

func TestEachKeyOfTheContractHasARule(t *testing.T) {
	for i := range reflect.TypeFor[events.Incident]().NumField() {
		field := reflect.TypeFor[events.Incident]().Field(i)

		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if _, ok := ruleOf(name); name != "" && !ok {
			t.Errorf("%s: no rule compares it", name)
		}
	}
}
