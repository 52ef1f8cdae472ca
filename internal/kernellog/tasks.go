// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/oom"
)

// taskRow is a row of the task table (mm/oom_kill.c: dump_task): a process that could be
// chosen. Sizes are pages, except for pgtableLen.
type taskRow struct {
	pid, tgid, adj           int
	uid                      uint32
	totalVM, rss, swap       uint64
	anon, file, shmem        *uint64 // from 6.7 on
	pgtablePages, pgtableLen *uint64 // the first before 4.15, in pages; the second in bytes
	comm                     string
}

// tasksLine reads the head of the table, "[ pid ]   uid  tgid total_vm ...", and its rows.
// The head names the columns. Rows whose end is missing are counted, and not used.
func (p *parser) tasksLine(s *stream, rec record, text string) bool {
	r := s.open
	if strings.HasPrefix(text, "Tasks state (memory values in pages):") {
		return r.tasksHead(rec)
	}

	if !strings.HasPrefix(text, "[") {
		return false
	}
	inner, rest, found := strings.Cut(text[1:], "]")

	inner = strings.TrimSpace(inner)
	switch {
	case !found || r.at > inTasks:
		return false
	case inner == "pid":
		return r.columnsLine(rec, strings.Fields(rest))
	case !r.tabled || !isDigits(inner):
		return false
	}

	pid, err := strconv.Atoi(inner)
	if err != nil {
		return false
	}

	row, ok := r.row(rest)
	row.pid = pid

	cut := r.columns == nil || rec.torn || !ok && r.startsRow(rest)
	if !ok && !cut {
		return false
	}

	r.advance(rec, inTasks)

	if cut || len(r.tasks) >= maxTasks {
		r.tasksCut++
		return true
	}

	r.tasks = append(r.tasks, row)
	r.pids[row.tgid] = len(r.tasks) - 1
	r.pids[row.pid] = len(r.tasks) - 1
	r.edge(rec, func() { r.dropRow(pid) })

	return true
}

// columnsLine reads the names of the columns.
func (r *report) columnsLine(rec record, columns []string) bool {
	if len(columns) < 2 || len(columns) > 32 || columns[0] != "uid" || r.tabled || !r.tasksHead(rec) {
		return false
	}

	r.tabled = true
	if len(columns) >= 6 && columns[len(columns)-1] == "name" && !rec.torn {
		r.columns = columns
	}

	return true
}

// tasksHead starts the table.
func (r *report) tasksHead(rec record) bool {
	if r.at > inTasks {
		return false
	}

	r.advance(rec, inTasks)

	return true
}

// startsRow reports whether a text has the first columns of a row, and nothing else: the rest
// was cut off.
func (r *report) startsRow(text string) bool {
	words := strings.Fields(text)

	return len(words) < len(r.columns) && !slices.ContainsFunc(words, func(word string) bool {
		return !isDigits(strings.TrimPrefix(word, "-"))
	})
}

// dropRow removes a row of the table.
func (r *report) dropRow(pid int) {
	r.tasks = slices.DeleteFunc(r.tasks, func(t taskRow) bool { return t.pid == pid })
	r.tasksCut++

	clear(r.pids)

	for i, t := range r.tasks {
		r.pids[t.tgid], r.pids[t.pid] = i, i
	}
}

// row reads the columns after the pid. The name is the last and takes the rest of the line:
// it may contain anything.
func (r *report) row(text string) (row taskRow, ok bool) {
	for _, column := range r.columns {
		if column == "name" {
			row.comm = strings.TrimPrefix(text, " ")
			return row, row.tgid > 0 && len(row.comm) <= maxComm
		}
		text = strings.TrimLeft(text, " ")

		word, rest, found := strings.Cut(text, " ")
		if !found {
			return row, false
		}
		text = rest

		n, err := strconv.ParseInt(word, 10, 64)
		if err != nil {
			return row, false
		}
		pages := uint64(max(n, 0))

		switch column {
		case "uid":
			row.uid = uint32(n)
		case "tgid":
			row.tgid = int(n)
		case "total_vm":
			row.totalVM = pages
		case "rss":
			row.rss = pages
		case "rss_anon":
			row.anon = &pages
		case "rss_file":
			row.file = &pages
		case "rss_shmem":
			row.shmem = &pages
		case "nr_ptes", "nr_pmds", "nr_puds":
			if row.pgtablePages != nil {
				pages += *row.pgtablePages
			}
			row.pgtablePages = &pages
		case "pgtables_bytes":
			row.pgtableLen = &pages
		case "swapents":
			row.swap = pages
		case "oom_score_adj":
			row.adj = int(n)
		}
	}

	return row, false
}

// usedPages is what oom_badness counts before oom_score_adj: RSS, swap and page tables.
func (t *taskRow) usedPages(pageBytes uint64) uint64 {
	n := t.rss + t.swap
	if t.pgtablePages != nil {
		n += *t.pgtablePages
	}

	if t.pgtableLen != nil {
		n += *t.pgtableLen / pageBytes
	}

	return min(n, 1<<50)
}

// maxCandidates bounds the candidates of an incident.
const maxCandidates = 100

// candidates returns the rows of the table, the most likely victims first. totalPages is
// what oom_score_adj is a share of, nil if unknown; likely is its stand-in for sorting only.
func (r *report) candidates(pageBytes uint64, totalPages *uint64, likely uint64) []events.Candidate {
	type ranked struct {
		events.Candidate
		rank int64
	}

	list := make([]ranked, 0, len(r.tasks))
	for i := range r.tasks {
		t := &r.tasks[i]
		c := events.Candidate{Process: events.Process{PID: t.tgid, TID: t.pid, Comm: t.comm}}
		bytes := func(pages *uint64) *uint64 {
			if pages == nil || *pages > 1<<44 {
				return nil
			}

			return new(*pages * pageBytes)
		}
		c.AnonRSSBytes, c.FileRSSBytes, c.ShmemRSSBytes = bytes(t.anon), bytes(t.file), bytes(t.shmem)
		c.RSSBytes, c.SwapBytes = bytes(&t.rss), bytes(&t.swap)

		c.PgtablesBytes = t.pgtableLen
		if t.pgtableLen == nil {
			c.PgtablesBytes = bytes(t.pgtablePages)
		}
		c.OOMScoreAdj, c.Unkillable = new(t.adj), t.adj == oom.ScoreAdjMin

		used := t.usedPages(pageBytes)
		if !c.Unkillable {
			c.Points = r.points(t, used, totalPages)
		}
		c.Victim = slices.ContainsFunc(r.kills, func(k kill) bool { return k.pid == t.pid || k.pid == t.tgid })

		rank := oom.Badness(used, t.adj, likely)
		if c.Unkillable {
			rank = -1 << 62
		}
		list = append(list, ranked{c, rank})
	}

	slices.SortStableFunc(list, func(a, b ranked) int { return cmp.Compare(b.rank, a.rank) })

	out := make([]events.Candidate, min(len(list), maxCandidates))
	for i := range out {
		out[i] = list[i].Candidate
	}

	return out
}

// points returns the badness as the kernel computed it, nil if the log does not have enough
// for it. Before 4.17 processes with CAP_SYS_ADMIN, which the log does not show, had a
// discount; before 5.9 the result was at least 1.
func (r *report) points(t *taskRow, usedPages uint64, totalPages *uint64) *int64 {
	old := t.pgtablePages != nil || r.release == "" || versionBefore(r.release, 4, 17)
	if old && t.uid == 0 {
		return nil
	}

	points := oom.Badness(usedPages, 0, 0)

	if t.adj != 0 {
		if totalPages == nil {
			return nil
		}

		points = oom.Badness(usedPages, t.adj, *totalPages)
	}

	if points < 1 && (r.release == "" || versionBefore(r.release, 5, 9)) {
		return nil
	}

	return &points
}

// versionBefore reports whether a release such as 5.4.0-42-generic is before a version. An
// unknown release is not before any.
func versionBefore(release string, major, minor int) bool {
	a, rest, _ := strings.Cut(release, ".")

	b := rest
	if i := strings.IndexFunc(rest, func(c rune) bool { return c < '0' || c > '9' }); i >= 0 {
		b = rest[:i]
	}
	x, err1 := strconv.Atoi(a)

	y, err2 := strconv.Atoi(b)
	if err1 != nil || err2 != nil {
		return false
	}

	return x < major || x == major && y < minor
}
