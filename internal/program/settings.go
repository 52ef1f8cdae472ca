// SPDX-License-Identifier: Apache-2.0

package program

import (
	"slices"
	"strconv"
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
)

// maxSettings bounds the settings of one program: no program has more that are known.
const maxSettings = 16

// given collects settings. One that is given again replaces the one before, so sources are
// read in the order in which the program does.
type given struct {
	list []events.Setting
	// partly is true if a source could not be read.
	partly bool
}

func (g *given) add(s events.Setting) {
	at := slices.IndexFunc(g.list, func(old events.Setting) bool { return old.Name == s.Name })

	switch {
	case at >= 0:
		g.list[at] = s
	case len(g.list) < maxSettings:
		g.list = append(g.list, s)
	}
}

// size adds a setting that is a size.
func (g *given) size(name, value, source string, units []unit) {
	if bytes, ok := size(value, units); ok {
		g.add(events.Setting{Name: name, Value: value, Bytes: &bytes, Source: source})
	}
}

// number adds a setting that is a number or a percentage.
func (g *given) number(name, value, source string) {
	if number(value) {
		g.add(events.Setting{Name: name, Value: value, Source: source})
	}
}

// word adds a setting with one of a few values.
func (g *given) word(name, value, source string, words ...string) {
	if slices.Contains(words, value) {
		g.add(events.Setting{Name: name, Value: value, Source: source})
	}
}

// readers read the settings of each kind of program that has some.
var readers = map[events.ProgramKind]func(*given, *events.Program, *Traits){
	events.ProgramJVM:        jvmSettings,
	events.ProgramGo:         goSettings,
	events.ProgramPython:     mallocSettings,
	events.ProgramNode:       nodeSettings,
	events.ProgramDotNet:     dotnetSettings,
	events.ProgramRuby:       mallocSettings,
	events.ProgramPHP:        phpSettings,
	events.ProgramPostgreSQL: postgresSettings,
	events.ProgramMySQL:      mysqlSettings,
	events.ProgramVM:         vmSettings,
}

// settings returns nil if the kind has no settings, or none were found where not all could
// be read.
func settings(p *events.Program, t *Traits) []events.Setting {
	read := readers[p.Kind]
	if read == nil {
		return nil
	}

	g := given{list: []events.Setting{}, partly: t.Partly}
	read(&g, p, t)

	if len(g.list) == 0 && g.partly {
		return nil
	}

	return g.list
}

// variables are the names of the variables that hold memory settings. No other is kept.
var variables = []string{
	"JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS",
	"GOMEMLIMIT", "GOGC",
	"NODE_OPTIONS",
	"DOTNET_GCHeapHardLimit", "DOTNET_GCHeapHardLimitPercent", "COMPlus_GCHeapHardLimit", "COMPlus_GCHeapHardLimitPercent",
	"MALLOC_ARENA_MAX",
}

// env returns a variable, empty if it is not set.
func (g *given) env(t *Traits, name string) string {
	if t.Env == nil {
		g.partly = true
	}

	return t.Env[name]
}

// args returns the arguments without the program itself.
func (g *given) args(t *Traits) []string {
	if len(t.Args) == 0 {
		g.partly = true
		return nil
	}

	return t.Args[1:]
}

// optionWords splits a variable that holds options at blanks. Quotes hold a word together,
// as the Java launcher and Node.js read them.
func optionWords(text string) []string {
	var words []string
	var word strings.Builder
	quote, inside := byte(0), false

	for i := range len(text) {
		switch c := text[i]; {
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '"' || c == '\''):
			quote, inside = c, true
		case quote == 0 && strings.IndexByte(" \t\n\r\v\f", c) >= 0:
			if inside {
				words = append(words, word.String())
			}

			word.Reset()
			inside = false
		default:
			word.WriteByte(c)
			inside = true
		}
	}

	if inside {
		words = append(words, word.String())
	}

	return words
}

// jvmSettings reads options in the order in which the JVM does: those of JDK_JAVA_OPTIONS
// are put before the command line by the launcher, the other variables are read by the JVM
// itself (src/hotspot/share/runtime/arguments.cpp).
func jvmSettings(g *given, p *events.Program, t *Traits) {
	g.jvmVariable(t, "JAVA_TOOL_OPTIONS")

	if p.By == events.ProgramByExecutable { // the arguments of another program are its own
		g.jvmVariable(t, "JDK_JAVA_OPTIONS")
		g.jvmOptions(g.args(t))
	}

	g.jvmVariable(t, "_JAVA_OPTIONS")
}

func (g *given) jvmVariable(t *Traits, name string) {
	for _, word := range optionWords(g.env(t, name)) {
		g.jvmOption(word, name)
	}
}

// leading returns the options before the first argument that is none, or is one of last: the
// rest belongs to the script or the class that the options are followed by. Options whose
// value is an argument of its own are left out with it.
func leading(args, withValue, last []string) []string {
	var options []string

	for i := 0; i < len(args); i++ {
		switch a := args[i]; {
		case slices.Contains(withValue, a):
			i++
		case !strings.HasPrefix(a, "-"), slices.Contains(last, a):
			return options
		default:
			options = append(options, a)
		}
	}

	return options
}

// jvmOptions adds the options of a command line. Those in a file (@argfiles) are not known.
func (g *given) jvmOptions(args []string) {
	isFile := func(a string) bool { return strings.HasPrefix(a, "@") }
	options := slices.DeleteFunc(slices.Clone(args), isFile)
	g.partly = g.partly || len(options) < len(args)

	options = leading(options, []string{
		"-cp", "-classpath", "--class-path", "-p", "--module-path", "--upgrade-module-path", "--add-modules", "--add-exports",
		"--add-opens", "--add-reads", "--limit-modules", "--patch-module", "--enable-native-access", "--source",
	}, []string{"-jar", "-m", "--module"})

	for _, o := range options {
		g.jvmOption(o, events.SettingFromCommand)
	}
}

// jvmOption adds an option of the JVM. -Xmx and -XX:MaxHeapSize are one setting.
func (g *given) jvmOption(word, source string) {
	for _, o := range []struct{ prefix, name string }{
		{"-Xmx", "-Xmx"}, {"-XX:MaxHeapSize=", "-Xmx"}, {"-Xms", "-Xms"}, {"-XX:MaxRAM=", "-XX:MaxRAM"},
		{"-XX:MaxDirectMemorySize=", "-XX:MaxDirectMemorySize"}, {"-XX:MaxMetaspaceSize=", "-XX:MaxMetaspaceSize"},
		{"-XX:ReservedCodeCacheSize=", "-XX:ReservedCodeCacheSize"},
	} {
		if value, ok := strings.CutPrefix(word, o.prefix); ok {
			g.size(o.name, value, source, jvmUnits)
			return
		}
	}

	for _, name := range []string{"-XX:MaxRAMPercentage", "-XX:MinRAMPercentage"} {
		if value, ok := strings.CutPrefix(word, name+"="); ok {
			g.number(name, value, source)
		}
	}

	if word == "-XX:-UseContainerSupport" {
		g.add(events.Setting{Name: "-XX:UseContainerSupport", Value: "false", Source: source})
	}
}

func goSettings(g *given, _ *events.Program, t *Traits) {
	limit, gogc := g.env(t, "GOMEMLIMIT"), g.env(t, "GOGC")

	g.size("GOMEMLIMIT", limit, events.SettingFromEnvironment, goUnits)
	g.word("GOMEMLIMIT", limit, events.SettingFromEnvironment, "off")
	g.number("GOGC", gogc, events.SettingFromEnvironment)
	g.word("GOGC", gogc, events.SettingFromEnvironment, "off")
}

// mallocSettings reads what bounds the arenas of glibc's malloc.
func mallocSettings(g *given, _ *events.Program, t *Traits) {
	g.number("MALLOC_ARENA_MAX", g.env(t, "MALLOC_ARENA_MAX"), events.SettingFromEnvironment)
}

func nodeSettings(g *given, _ *events.Program, t *Traits) {
	g.nodeOptions(optionWords(g.env(t, "NODE_OPTIONS")), "NODE_OPTIONS")

	g.nodeOptions(leading(g.args(t), []string{
		"-r", "--require", "--import", "--loader", "--experimental-loader", "-C", "--conditions", "-e", "--eval", "-p", "--print", "-pe",
		"--title", "--icu-data-dir", "--env-file", "--input-type",
	}, []string{"-", "--"}), events.SettingFromCommand)
}

// nodeOptions adds options of V8, which accepts _ for - in their names.
func (g *given) nodeOptions(words []string, source string) {
	for _, word := range words {
		name, value, _ := strings.Cut(word, "=")

		switch name = strings.ReplaceAll(name, "_", "-"); name {
		case "--max-old-space-size", "--max-semi-space-size", "--max-heap-size":
			g.size(name, value, source, mibUnits)
		case "--max-old-space-size-percentage":
			g.number(name, value, source)
		}
	}
}

// dotnetSettings reads variables whose values are hexadecimal (src/coreclr/inc/clrconfig.h).
func dotnetSettings(g *given, _ *events.Program, t *Traits) {
	for _, prefix := range []string{"COMPlus_", "DOTNET_"} {
		limit := g.env(t, prefix+"GCHeapHardLimit")
		if bytes, ok := hexadecimal(limit); ok {
			g.add(events.Setting{Name: "GCHeapHardLimit", Value: limit, Bytes: &bytes, Source: prefix + "GCHeapHardLimit"})
		}

		percent := prefix + "GCHeapHardLimitPercent"
		if n, ok := hexadecimal(g.env(t, percent)); ok && n <= 100 {
			g.add(events.Setting{Name: "GCHeapHardLimitPercent", Value: strconv.FormatUint(n, 10), Source: percent})
		}
	}
}

func hexadecimal(text string) (uint64, bool) {
	text = strings.TrimPrefix(strings.ToLower(text), "0x")
	n, err := strconv.ParseUint(text, 16, 64)

	return n, err == nil && len(text) <= maxDigits && strings.Trim(text, "0123456789abcdef") == ""
}

// phpSettings reads directives of the command line. Those of php.ini and of a pool's
// configuration are not known.
func phpSettings(g *given, p *events.Program, t *Traits) {
	g.partly = true

	if p.By != events.ProgramByExecutable {
		return // the arguments of a web server
	}

	for _, args := range [][]string{t.StarterArgs, t.Args} {
		for _, directive := range phpDirectives(args) {
			if value, ok := strings.CutPrefix(directive, "memory_limit="); ok {
				g.size("memory_limit", value, events.SettingFromCommand, phpUnits)
				g.word("memory_limit", value, events.SettingFromCommand, "-1")
			}
		}
	}
}

// phpDirectives returns what -d sets, glued to it or not, before the script.
func phpDirectives(args []string) []string {
	var glued []string

	for i := 1; i < len(args); i++ {
		if args[i] == "-d" && i+1 < len(args) {
			i++
			glued = append(glued, "-d"+args[i])

			continue
		}

		glued = append(glued, args[i])
	}

	var directives []string

	for _, o := range leading(glued, []string{"-c", "-f", "-r", "-y", "--fpm-config", "-p", "--prefix"}, []string{"--"}) {
		if directive, ok := strings.CutPrefix(o, "-d"); ok {
			directives = append(directives, directive)
		}
	}

	return directives
}

// postgresSettings reads parameters of the command line, which a backend only has of the
// postmaster. Those of postgresql.conf are not known, so the size of the shared memory, which
// shared_buffers is nearly all of, is read from the mapping.
func postgresSettings(g *given, _ *events.Program, t *Traits) {
	for _, args := range [][]string{t.StarterArgs, t.Args} {
		for i := 1; i < len(args); i++ {
			word := args[i]

			switch {
			case (word == "-c" || word == "-B" || word == "-N") && i+1 < len(args):
				i++
				word += args[i]
			case strings.HasPrefix(word, "--"):
				word = "-c" + word[2:]
			}

			g.postgresOption(word)
		}
	}

	if t.SharedBytes > 0 {
		bytes := t.SharedBytes
		g.add(events.Setting{
			Name: "shared memory", Value: strconv.FormatUint(bytes, 10), Bytes: &bytes, Source: events.SettingFromMapping,
		})
	}

	g.partly = true // postgresql.conf
}

func (g *given) postgresOption(word string) {
	const from = events.SettingFromCommand

	if blocks, ok := strings.CutPrefix(word, "-B"); ok {
		g.size("shared_buffers", blocks, from, blockUnits)
		return
	}

	if most, ok := strings.CutPrefix(word, "-N"); ok {
		g.number("max_connections", most, from)
		return
	}

	name, value, ok := strings.Cut(strings.TrimPrefix(word, "-c"), "=")
	if !ok || !strings.HasPrefix(word, "-c") {
		return
	}

	switch value = strings.ReplaceAll(value, " ", ""); strings.ReplaceAll(name, "-", "_") {
	case "shared_buffers":
		g.size("shared_buffers", value, from, blockUnits)
	case "work_mem":
		g.size("work_mem", value, from, kilobyteUnits)
	case "maintenance_work_mem":
		g.size("maintenance_work_mem", value, from, kilobyteUnits)
	case "max_connections":
		g.number("max_connections", value, from)
	}
}

// mysqlSettings reads options of the command line; those of my.cnf are not known.
func mysqlSettings(g *given, _ *events.Program, t *Traits) {
	args := g.args(t)

	for i := range args {
		name, value, ok := strings.Cut(args[i], "=")
		if !ok && i+1 < len(args) {
			value = args[i+1]
		}

		switch strings.ReplaceAll(name, "_", "-") {
		case "--innodb-buffer-pool-size":
			g.size("innodb_buffer_pool_size", value, events.SettingFromCommand, mysqlUnits)
		case "--max-connections":
			g.number("max_connections", value, events.SettingFromCommand)
		}
	}

	g.partly = true // my.cnf
}

// vmSettings reads the size of the guest's memory. A program that gets it over an API
// does not have it on its command line.
func vmSettings(g *given, p *events.Program, t *Traits) {
	args := g.args(t)
	option, units := []string{"-m"}, qemuUnits

	switch p.Name {
	case "cloud-hypervisor":
		option, units = []string{"--memory"}, cloudUnits
	case "crosvm":
		option, units = []string{"-m", "--mem"}, mibUnits
	}

	for i, a := range args {
		name, value, glued := strings.Cut(a, "=")
		if !glued && i+1 < len(args) {
			value = args[i+1]
		}

		if slices.Contains(option, name) {
			g.size(guestMemory, memorySize(value), events.SettingFromCommand, units)
		}
	}

	g.partly = true
}

// guestMemory is the name of the setting that is the memory of a guest.
const guestMemory = "guest memory"

// memorySize is the size in a list of keys and values, in which its own key may be missing:
// "size=2G,slots=4", "2G,maxmem=4G".
func memorySize(list string) string {
	for i, word := range strings.Split(list, ",") {
		if value, ok := strings.CutPrefix(word, "size="); ok {
			return value
		}

		if i == 0 && !strings.Contains(word, "=") {
			return word
		}
	}

	return ""
}
