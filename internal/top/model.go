// SPDX-License-Identifier: Apache-2.0

package top

import (
	"slices"
	"strings"

	"charm.land/bubbles/v2/textinput"
	"charm.land/bubbles/v2/viewport"
	tea "charm.land/bubbletea/v2"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/usage"
)

// pane is one of the two lists.
type pane int

const (
	cgroupsPane pane = iota
	killsPane
)

// page is what covers the lists.
type page int

const (
	noPage page = iota
	helpPage
	cgroupPage
	killPage
)

// snapshotMsg is a new snapshot of the node.
type snapshotMsg struct{ *usage.Snapshot }

// model is the state of the screen. Update is called with keys, snapshots and lines of the
// trace, in one goroutine; it does no I/O.
type model struct {
	opts          Options
	width, height int
	arrange       arrangement
	snapshot      *usage.Snapshot // nil: none yet
	rows          []row
	hidden        int // rows that the filter left out
	kills         kills
	untraced      string // why kills and stalls are not traced; empty: they are
	tier          events.Tier
	paused        bool
	held          *usage.Snapshot // came while paused

	focus pane
	// cgroup is the selected one: it stays selected when rows change their order. 0 is the
	// first row, whatever it is. kill is the same.
	cgroup uint64
	kill   string
	// The row of each selection, and the first row on the screen.
	cgroupAt, cgroupTop int
	killAt, killTop     int

	page         page
	cgroupOfPage uint64
	killOfPage   string
	body         viewport.Model // of the page

	filter       textinput.Model
	filtering    bool
	filterBefore string // what Esc brings back

	warnings []string
	unkept   int // warnings beyond those
	dropped  uint64
	style    styles
}

func newModel(opts Options) *model {
	m := &model{
		opts: opts, arrange: arrangement{order: opts.Order, by: opts.By, tree: opts.Tree, filter: opts.Filter}, untraced: opts.Untraced,
		body: viewport.New(), filter: textinput.New(), style: newStyles(), width: 80, height: 24,
	}
	m.filter.Prompt = "/"
	m.filter.CharLimit = 100
	m.body.FillHeight = true

	return m
}

// Init implements tea.Model.
func (m *model) Init() tea.Cmd { return nil }

// Update implements tea.Model.
func (m *model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	var cmd tea.Cmd

	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
	case snapshotMsg:
		m.take(msg.Snapshot)
	case linesMsg:
		for _, l := range msg {
			m.line(l)
		}
	case tea.KeyPressMsg:
		cmd = m.key(msg)
	default:
		m.filter, cmd = m.filter.Update(msg) // its cursor blinks
	}

	m.arrangeRows()
	m.fillPage()

	return m, cmd
}

func (m *model) take(s *usage.Snapshot) {
	m.warnings, m.unkept = m.opts.Feed.Warnings()
	m.dropped = m.opts.Feed.dropped.Load()

	if m.paused {
		m.held = s
		return
	}
	m.snapshot = s
}

func (m *model) line(l events.Line) {
	if st, ok := l.(*events.Status); ok && st.Phase == events.PhaseStart {
		m.tier = st.Tier
	}

	m.kills.add(l)
}

// arrangeRows puts the rows in order, and finds the selected ones again.
func (m *model) arrangeRows() {
	if m.snapshot != nil {
		m.rows, m.hidden = m.arrange.rows(m.snapshot)
	}

	at := slices.IndexFunc(m.rows, func(r row) bool { return m.snapshot.Cgroups[r.index].ID == m.cgroup })
	m.cgroupAt = keep(at, m.cgroupAt, len(m.rows), m.cgroup == 0)

	at = slices.IndexFunc(m.kills.list, func(k kill) bool { return k.id == m.kill })
	m.killAt = keep(at, m.killAt, len(m.kills.list), m.kill == "")

	cgroupRows, killRows := m.layout()
	m.cgroupTop = scrolled(m.cgroupTop, m.cgroupAt, len(m.rows), cgroupRows)
	m.killTop = scrolled(m.killTop, m.killAt, len(m.kills.list), killRows)

	if m.opts.shown != nil {
		m.opts.shown(m.visible(cgroupRows))
	}
}

// keep returns the row of the selection: where it was found, else where it was.
func keep(found, before, rows int, first bool) int {
	switch {
	case first:
		return 0
	case found >= 0:
		return found
	}

	return max(min(before, rows-1), 0)
}

// scrolled returns the first row on the screen, so that the selected one is on it.
func scrolled(top, selected, rows, height int) int {
	top = max(min(top, selected), selected-height+1, 0)
	return min(top, max(rows-height, 0))
}

// visible returns the cgroups on the screen.
func (m *model) visible(height int) []uint64 {
	var ids []uint64

	for _, r := range m.rows[m.cgroupTop:min(m.cgroupTop+height, len(m.rows))] {
		ids = append(ids, m.snapshot.Cgroups[r.index].ID)
	}

	if m.page == cgroupPage {
		ids = append(ids, m.cgroupOfPage)
	}

	return ids
}

// layout returns how many rows each list has on the screen.
func (m *model) layout() (cgroups, killed int) {
	const fixed = 5 // two lines of head, titles of both lists, the foot

	free := max(m.height-fixed, 1)
	killed = min(max(free/4, 1), 8)

	if m.height < 12 {
		return free, 0
	}

	return free - killed, killed
}

func (m *model) key(msg tea.KeyPressMsg) tea.Cmd {
	key := msg.String()

	switch {
	case key == "ctrl+c":
		return tea.Quit
	case key == "ctrl+z":
		return tea.Suspend
	case m.filtering:
		return m.filterKey(msg, key)
	case m.page != noPage:
		return m.pageKey(msg, key)
	}

	return m.listKey(key)
}

func (m *model) filterKey(msg tea.KeyPressMsg, key string) tea.Cmd {
	var cmd tea.Cmd

	switch key {
	case "enter":
		m.filtering = false
	case "esc":
		m.filtering = false
		m.arrange.filter = m.filterBefore
	default:
		m.filter, cmd = m.filter.Update(msg)
		m.arrange.filter = strings.TrimSpace(m.filter.Value())
	}

	if !m.filtering {
		m.filter.Blur()
	}

	return cmd
}

func (m *model) pageKey(msg tea.KeyPressMsg, key string) tea.Cmd {
	var cmd tea.Cmd

	switch key {
	case "esc", "enter", "backspace":
		m.page = noPage
	case "q":
		if m.page == noPage {
			return tea.Quit
		}
		m.page = noPage
	case "?":
		m.open(helpPage)
	case "g", "home":
		m.body.GotoTop()
	case "G", "end":
		m.body.GotoBottom()
	default:
		m.body, cmd = m.body.Update(msg)
	}

	return cmd
}

func (m *model) listKey(key string) tea.Cmd {
	cgroupRows, killRows := m.layout()
	height := cgroupRows

	if m.focus == killsPane {
		height = killRows
	}

	switch key {
	case "q":
		return tea.Quit
	case "?", "h":
		m.open(helpPage)
	case "up", "k":
		m.move(-1)
	case "down", "j":
		m.move(1)
	case "pgup", "ctrl+b":
		m.move(-max(height-1, 1))
	case "pgdown", "ctrl+f":
		m.move(max(height-1, 1))
	case "home", "g":
		m.move(-len(m.rows) - len(m.kills.list))
	case "end", "G":
		m.move(len(m.rows) + len(m.kills.list))
	case "tab", "shift+tab":
		m.focus = 1 - m.focus
	case "enter":
		m.enter()
	case "s":
		m.arrange.order = next(Orders, m.arrange.order, 1)
	case "S":
		m.arrange.order = next(Orders, m.arrange.order, -1)
	case "t":
		m.arrange.tree = !m.arrange.tree
	case "p":
		m.arrange.by = next(Groupings, m.arrange.by, 1)
	case "space":
		m.pause()
	case "/":
		m.filtering, m.filterBefore = true, m.arrange.filter
		m.filter.SetValue(m.arrange.filter)
		m.filter.CursorEnd()

		return m.filter.Focus()
	case "esc":
		m.arrange.filter = ""
	}

	return nil
}

// next returns the value after one, the first after the last.
func next(of []string, value string, step int) string {
	return of[(slices.Index(of, value)+step+len(of))%len(of)]
}

func (m *model) pause() {
	m.paused = !m.paused
	if !m.paused && m.held != nil {
		m.snapshot, m.held = m.held, nil
	}
}

// move moves the selection of the list that has the focus. The first row is selected
// whatever it is, so that the top of the list can be watched.
func (m *model) move(by int) {
	if m.focus == killsPane {
		if len(m.kills.list) == 0 {
			return
		}

		m.kill = ""
		if at := max(min(m.killAt+by, len(m.kills.list)-1), 0); at > 0 {
			m.kill = m.kills.list[at].id
		}

		return
	}

	if len(m.rows) == 0 {
		return
	}

	m.cgroup = 0
	if at := max(min(m.cgroupAt+by, len(m.rows)-1), 0); at > 0 {
		m.cgroup = m.snapshot.Cgroups[m.rows[at].index].ID
	}
}

// enter opens what is selected.
func (m *model) enter() {
	switch {
	case m.focus == killsPane && m.killAt < len(m.kills.list):
		m.killOfPage = m.kills.list[m.killAt].id
		m.open(killPage)
	case m.focus == cgroupsPane && m.cgroupAt < len(m.rows):
		m.cgroupOfPage = m.snapshot.Cgroups[m.rows[m.cgroupAt].index].ID
		m.open(cgroupPage)
	}
}

func (m *model) open(p page) {
	m.page = p
	m.body.GotoTop()
}

// fillPage writes the page that covers the lists. What it is about may have changed.
func (m *model) fillPage() {
	const fixed = 4 // two lines of head, the title, the foot

	m.filter.SetWidth(max(m.width-28, 10))
	m.body.SetWidth(m.width)
	m.body.SetHeight(max(m.height-fixed, 1))

	switch m.page {
	case helpPage:
		m.body.SetContent(m.helpText())
	case cgroupPage:
		m.body.SetContent(m.cgroupText())
	case killPage:
		m.body.SetContent(m.killText())
	}
}

// killText is the block of the incident that was opened.
func (m *model) killText() string {
	i := slices.IndexFunc(m.kills.list, func(k kill) bool { return k.id == m.killOfPage })

	switch {
	case i < 0:
		return "This incident is no longer kept: newer ones took its place."
	case m.kills.list[i].incident == nil:
		return "The kernel is still killing: the incident follows."
	}

	return strings.TrimRight(m.opts.Block(m.kills.list[i].incident, m.width), "\n")
}
