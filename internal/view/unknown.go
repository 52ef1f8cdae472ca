// SPDX-License-Identifier: Apache-2.0

package view

import (
	"slices"
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
)

// missed is what a reader misses with a key.
type missed struct {
	words  string
	keys   []string
	scopes []events.Scope // where it matters; nil: everywhere
}

// inWordsOfPrograms are those of inWords for a kill that a program logged.
var inWordsOfPrograms = []missed{
	{words: "its date", keys: []string{"time"}},
	{words: "which processes were killed", keys: []string{"victims.pid"}},
	{words: "which resource was short", keys: []string{"killer.resource"}},
}

// inWords are keys of unknown that a kernel log could have had, and what a reader misses with
// them, in the order in which it matters. What no log has is not among them.
var inWords = []missed{
	{words: "its date", keys: []string{"time"}},
	{words: "whether a process was killed", keys: []string{"outcome"}},
	{words: "which process was killed", keys: []string{"victims", "victims.pid"}},
	{words: "what ran out", keys: []string{"scope"}},
	{
		words: "whether that was the whole node or some of its NUMA nodes, or sysrq-f asked for it", keys: []string{"constraint"},
		scopes: []events.Scope{events.ScopeGlobal},
	},
	{words: "whose limit it was", keys: []string{"limiter", "limiter.cgroup"}, scopes: []events.Scope{events.ScopeMemcg}},
	{words: "which of its limits was hit", keys: []string{"limiter.which"}, scopes: []events.Scope{events.ScopeMemcg}},
	{words: "the limit", keys: []string{"limiter.limit_bytes"}, scopes: []events.Scope{events.ScopeMemcg}},
	{words: "the usage", keys: []string{"limiter.usage_bytes"}, scopes: []events.Scope{events.ScopeMemcg}},
	{words: "which process requested memory", keys: []string{"trigger"}},
	{words: "the id of the process that requested memory", keys: []string{"trigger.tid"}},
	{words: "what the memory was for", keys: []string{"allocation.class"}},
	{words: "why the victim was killed and no other", keys: []string{"victims.role"}},
	{words: "the name of the victim", keys: []string{"victims.comm"}},
	{words: "the cgroup of the victim", keys: []string{"victims.cgroup"}},
	{words: "the size of the victim", keys: []string{"victims.anon_rss_bytes"}},
	{words: "the user of the victim", keys: []string{"victims.uid"}},
	{words: "the oom_score_adj of the victim", keys: []string{"victims.oom_score_adj"}},
	{words: "the cgroup of the chosen process", keys: []string{"chosen.cgroup"}},
	{words: "the other processes", keys: []string{"candidates"}},
	{words: "what the limit was used for", keys: []string{"memory"}, scopes: []events.Scope{events.ScopeMemcg}},
	{
		words: "the node's memory", keys: []string{"node_state"},
		scopes: []events.Scope{events.ScopeGlobal, events.ScopeCpuset, events.ScopeMempolicy, events.ScopeSysrq},
	},
}

// unknownWords is what is unknown, in words, and only what matters to a reader. The JSON has all
// keys.
func unknownWords(inc *events.Incident) []string {
	words := inWords
	if inc.Scope == events.ScopeUser {
		words = inWordsOfPrograms
	}

	var items []string

	for _, w := range words {
		matters := w.scopes == nil || slices.Contains(w.scopes, inc.Scope)
		if matters && slices.ContainsFunc(w.keys, func(key string) bool { return slices.Contains(inc.Unknown, key) }) &&
			applies(inc, w.keys[0]) && !isImplied(inc, w.keys[0]) {
			items = append(items, w.words)
		}
	}

	return items
}

// isImplied reports whether another unknown key implies this one.
func isImplied(inc *events.Incident, key string) bool {
	return key == "victims" && slices.Contains(inc.Unknown, "outcome")
}

// applies reports whether the incident has what a key belongs to.
func applies(inc *events.Incident, key string) bool {
	switch top, _, part := strings.Cut(key, "."); {
	case !part:
		return true
	case top == "victims":
		return len(inc.Victims) > 0
	case top == "chosen":
		return inc.Chosen != nil
	}

	return true
}
