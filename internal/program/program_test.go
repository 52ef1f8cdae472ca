// SPDX-License-Identifier: Apache-2.0

package program

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/testenv"
)

// process is a process of a made /proc.
type process struct {
	comm, exe, args, env, maps string
	parent                     *process
}

// files are the files of a process in /proc; words of its command line and its environment
// are separated by blanks here.
func (p process) files(pid string) map[string]string {
	entries := func(words string) string {
		if words == "" {
			return ""
		}

		return strings.ReplaceAll(words, " ", "\x00") + "\x00"
	}

	dir := "proc/" + pid + "/"

	files := map[string]string{
		dir + "stat":    pid + " (" + p.comm + ") S 1 1 1 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 4711 0 0",
		dir + "exe/":    p.exe,
		dir + "cmdline": entries(p.args),
		dir + "environ": entries(p.env),
		dir + "maps":    p.maps + stack,
	}

	if file, ok := strings.CutPrefix(p.exe, "../../"); ok { // one of the tree
		files[file] = "#!"
	}

	return files
}

const (
	stack     = "7ffc10-7ffc20 rw-p 00000000 00:00 0   [stack]\n"
	libjvm    = "7f10-7f20 r-xp 00000000 08:01 12   /usr/lib/jvm/java-17-openjdk-amd64/lib/server/libjvm.so\n"
	libpython = "7f10-7f20 r-xp 00000000 08:01 12   /usr/lib/x86_64-linux-gnu/libpython3.11.so.1.0\n"
	libcore   = "7f10-7f20 r-xp 00000000 08:01 12   /usr/share/dotnet/shared/Microsoft.NETCore.App/8.0.1/libcoreclr.so\n"
	libphp    = "7f10-7f20 r-xp 00000000 08:01 12   /usr/lib/apache2/modules/libphp8.2.so\n"
	buffers   = "7f0000000000-7f0028000000 rw-s 00000000 00:01 4711   /dev/zero (deleted)\n" +
		"7f1000000000-7f1000001000 rw-s 00000000 00:1a 5   /dev/shm/PostgreSQL.12\n"
)

func TestProgramsAreRecognized(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}

	postmaster := &process{comm: "postgres", exe: "/usr/lib/postgresql/15/bin/postgres", args: "postgres -c shared_buffers=640MB -c work_mem=8MB -N 200"}

	for name, test := range map[string]struct {
		process

		want string
	}{
		"java": {
			process{comm: "java", exe: "/usr/lib/jvm/bin/java", args: "java -Xmx512m -jar app.jar -Xmx9g"},
			`{"kind":"jvm","name":"java","by":"executable","settings":[{"name":"-Xmx","value":"512m","bytes":536870912,"source":"command line"}]}`,
		},
		"java with the options in variables": {
			process{comm: "java", exe: "/opt/java/bin/java", args: "java Main", env: "JAVA_TOOL_OPTIONS=-XX:MaxRAMPercentage=75.0"},
			`{"kind":"jvm","name":"java","by":"executable","settings":[{"name":"-XX:MaxRAMPercentage","value":"75.0","source":"JAVA_TOOL_OPTIONS"}]}`,
		},
		"java without options": {
			process{comm: "java", exe: "/opt/java/bin/java", args: "java Main"},
			`{"kind":"jvm","name":"java","by":"executable","settings":[]}`,
		},
		"java whose memory is gone": {
			process{comm: "java", exe: "/opt/java/bin/java"},
			`{"kind":"jvm","name":"java","by":"executable"}`,
		},
		"java with options in a file": {
			process{comm: "java", exe: "/opt/java/bin/java", args: "java @options Main"},
			`{"kind":"jvm","name":"java","by":"executable"}`,
		},
		"a launcher of its own": {
			process{comm: "idea", exe: "/opt/idea/bin/idea", args: "idea -Xmx1g", maps: libjvm},
			`{"kind":"jvm","name":"idea","by":"library","settings":[]}`,
		},
		"an office with a JVM for its database": {
			process{comm: "soffice.bin", exe: "/usr/lib/libreoffice/program/soffice.bin", args: "soffice.bin", maps: libjvm},
			`{"kind":"other","name":"soffice.bin","by":"executable"}`,
		},
		"a shell script named java": {
			process{comm: "java", exe: "../../bin/bash", args: "bash /usr/bin/java -Xmx1g"},
			`{"kind":"other","name":"bash","by":"executable"}`,
		},
		"Go": {
			process{comm: "server", exe: self, args: "server", env: "GOMEMLIMIT=400MiB GOGC=off SECRET=GOMEMLIMIT=1"},
			`{"kind":"go","name":"program.test","by":"build_info","settings":[` +
				`{"name":"GOMEMLIMIT","value":"400MiB","bytes":419430400,"source":"environment"},` +
				`{"name":"GOGC","value":"off","source":"environment"}]}`,
		},
		"C": {
			process{comm: "sh", exe: "/bin/sh", args: "sh -c go"},
			`{"kind":"other","name":"sh","by":"executable"}`,
		},
		"a script named go": {
			process{comm: "go", exe: "../../bin/go", args: "go build", env: "GOMEMLIMIT=1"},
			`{"kind":"other","name":"go","by":"executable"}`,
		},
		"Python": {
			process{comm: "gunicorn", exe: "/usr/bin/python3.11", args: "python3 /usr/bin/gunicorn -w 4"},
			`{"kind":"python","name":"python3.11","by":"executable","settings":[]}`,
		},
		"Python in a debugger": {
			process{comm: "gdb", exe: "../../bin/gdb", args: "gdb", maps: libpython},
			`{"kind":"other","name":"gdb","by":"executable"}`,
		},
		"PostgreSQL with Python in it": {
			process{comm: "postgres", exe: "/usr/lib/postgresql/15/bin/postgres", args: "postgres: ann shop [local] SELECT", maps: libpython + buffers},
			`{"kind":"postgresql","name":"postgres","by":"executable","settings":[` +
				`{"name":"shared memory","value":"671088640","bytes":671088640,"source":"mapping"}]}`,
		},
		"a backend with the options of its postmaster": {
			process{comm: "postgres", exe: postmaster.exe, args: "postgres: checkpointer", parent: postmaster},
			`{"kind":"postgresql","name":"postgres","by":"executable","settings":[` +
				`{"name":"shared_buffers","value":"640MB","bytes":671088640,"source":"command line"},` +
				`{"name":"work_mem","value":"8MB","bytes":8388608,"source":"command line"},` +
				`{"name":"max_connections","value":"200","source":"command line"}]}`,
		},
		"Node.js": {
			process{comm: "node", exe: "/usr/bin/node", args: "node server.js --max-old-space-size=9", env: "NODE_OPTIONS=--max_old_space_size=2048"},
			`{"kind":"node","name":"node","by":"executable","settings":[` +
				`{"name":"--max-old-space-size","value":"2048","bytes":2147483648,"source":"NODE_OPTIONS"}]}`,
		},
		".NET": {
			process{comm: "Shop", exe: "/app/Shop", args: "./Shop", env: "DOTNET_GCHeapHardLimit=C800000 DOTNET_GCHeapHardLimitPercent=0x1E", maps: libcore},
			`{"kind":"dotnet","name":"Shop","by":"library","settings":[` +
				`{"name":"GCHeapHardLimit","value":"C800000","bytes":209715200,"source":"DOTNET_GCHeapHardLimit"},` +
				`{"name":"GCHeapHardLimitPercent","value":"30","source":"DOTNET_GCHeapHardLimitPercent"}]}`,
		},
		"PHP": {
			process{comm: "php", exe: "/usr/bin/php8.2", args: "php -d memory_limit=64M run.php -dmemory_limit=1G"},
			`{"kind":"php","name":"php8.2","by":"executable","settings":[` +
				`{"name":"memory_limit","value":"64M","bytes":67108864,"source":"command line"}]}`,
		},
		"PHP in a web server": {
			process{comm: "apache2", exe: "../../bin/apache2", args: "apache2 -k start", maps: libphp},
			`{"kind":"php","name":"apache2","by":"library"}`,
		},
		"MariaDB": {
			process{comm: "mariadbd", exe: "/usr/sbin/mariadbd", args: "mariadbd --innodb_buffer_pool_size=2G"},
			`{"kind":"mysql","name":"mariadbd","by":"executable","settings":[` +
				`{"name":"innodb_buffer_pool_size","value":"2G","bytes":2147483648,"source":"command line"}]}`,
		},
		"QEMU": {
			process{comm: "qemu-system-x86", exe: "/usr/bin/qemu-system-x86_64", args: "qemu-system-x86_64 -m size=2097152k,slots=4,maxmem=8G -smp 2"},
			`{"kind":"vm","name":"qemu-system-x86_64","by":"executable","settings":[` +
				`{"name":"guest memory","value":"2097152k","bytes":2147483648,"source":"command line"}]}`,
		},
		"Cloud Hypervisor": {
			process{comm: "cloud-hyperviso", exe: "/opt/kata/bin/cloud-hypervisor", args: "cloud-hypervisor --memory size=512M,shared=on"},
			`{"kind":"vm","name":"cloud-hypervisor","by":"executable","settings":[` +
				`{"name":"guest memory","value":"512M","bytes":536870912,"source":"command line"}]}`,
		},
		"a VM that an API controls": {
			process{comm: "firecracker", exe: "/usr/bin/firecracker", args: "firecracker --api-sock /run/a"},
			`{"kind":"vm","name":"firecracker","by":"executable"}`,
		},
		"a tool for images": {
			process{comm: "qemu-img", exe: "../../bin/qemu-img", args: "qemu-img convert -m 16 a b"},
			`{"kind":"other","name":"qemu-img","by":"executable"}`,
		},
		"runc init": {
			process{comm: "runc:[2:INIT]", exe: "/memfd:runc_cloned:/proc/self/exe (deleted)", args: "runc init"},
			`{"kind":"runc_init","name":"exe","by":"name"}`,
		},
		"a sandbox": {
			process{comm: "runsc-sandbox", exe: "/usr/local/bin/runsc", args: "runsc-sandbox boot"},
			`{"kind":"sandbox","name":"runsc","by":"executable"}`,
		},
		"hostile": {
			process{comm: "a) S (b", exe: "../../bin/\xff\x1b[2J" + strings.Repeat("x", 200), args: strings.Repeat("-Xmx ", 1<<17), env: strings.Repeat("=", 1<<20)},
			`{"kind":"other","name":"\u001b[2J` + strings.Repeat("x", 60) + `","by":"executable"}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			files := test.files("4711")
			if test.parent != nil {
				maps.Copy(files, test.parent.files("1"))
			}

			p, got, err := (&Reader{Root: testenv.Tree(t, files)}).Program(4711)
			if err != nil {
				t.Fatal(err)
			}

			if want := (Process{PID: 4711, StartNS: 47110e6, Comm: test.comm}); p != want {
				t.Errorf("got process %+v, want %+v", p, want)
			}

			text, err := json.Marshal(got)
			if err != nil {
				t.Fatal(err)
			}

			if string(text) != test.want {
				t.Errorf("got\n%s, want\n%s", text, test.want)
			}
		})
	}
}

func TestAProcessWithoutAnExecutableHasNoProgram(t *testing.T) {
	files := process{comm: "kthreadd"}.files("2")
	delete(files, "proc/2/exe/")

	if p, got, err := (&Reader{Root: testenv.Tree(t, files)}).Program(2); got != nil || err == nil {
		t.Errorf("got program %+v of %+v and error %v, want none and an error", got, p, err)
	}
}

// What cannot be read of a process that dies may be what it is recognized by: it is not another
// program then.
func TestAProcessWithoutMemoryHasNoProgram(t *testing.T) {
	for _, lacks := range []string{"maps", "exe"} {
		files := process{comm: "server", exe: "../../bin/server", args: "server"}.files("7")

		switch lacks {
		case "maps":
			files["proc/7/maps"] = ""
		case "exe":
			delete(files, "bin/server")
		}

		if _, got, err := (&Reader{Root: testenv.Tree(t, files)}).Program(7); got != nil || err == nil {
			t.Errorf("without %s: got program %+v and error %v, want none and an error", lacks, got, err)
		}
	}
}

func TestNamesOfProcesses(t *testing.T) {
	for comm, want := range map[string]events.ProgramKind{
		"java": events.ProgramJVM, "javascript": "", "python3.12": events.ProgramPython, "gunicorn: worke": events.ProgramPython,
		"node": events.ProgramNode, "node_exporter": "", "php-fpm8.2": events.ProgramPHP, "postgres": events.ProgramPostgreSQL,
		"postgres_export": "", "mysqld": events.ProgramMySQL, "mysqld_exporter": "", "beam.smp": events.ProgramErlang,
		"qemu-system-x86": events.ProgramVM, "qemu-img": "", "CPU 2/KVM": events.ProgramVM, "CPU/KVM": "", "kvm": events.ProgramVM,
		"kvm-nx-lpage-re": "", "cloud-hyperviso": events.ProgramVM, "cloud-init": "", "fc_vcpu 0": events.ProgramVM,
		"runc:[2:INIT]": events.ProgramRuncInit, "runc": "", "runsc-sandbox": events.ProgramSandbox,
		"Isolated Web Co": events.ProgramBrowser, "chromium-browse": events.ProgramBrowser, "go": "", "": "",
	} {
		var got events.ProgramKind
		if p := ByName(comm); p != nil {
			got = p.Kind
		}

		if got != want {
			t.Errorf("%q: got %q, want %q", comm, got, want)
		}
	}
}

func TestSizes(t *testing.T) {
	for _, test := range []struct {
		text  string
		units []unit
		want  uint64
		ok    bool
	}{
		{"512m", jvmUnits, 512 << 20, true},
		{"1G", jvmUnits, 1 << 30, true},
		{"1048576", jvmUnits, 1 << 20, true},
		{"", jvmUnits, 0, false},
		{"m", jvmUnits, 0, false},
		{"-1", jvmUnits, 0, false},
		{"1.5g", jvmUnits, 0, false},
		{"1gb", jvmUnits, 0, false},
		{" 1g", jvmUnits, 0, false},
		{"99999999999999999999", jvmUnits, 0, false},
		{"99999999999t", jvmUnits, 0, false},
		{strings.Repeat("0", 4096) + "1", jvmUnits, 0, false},
		{"400MiB", goUnits, 400 << 20, true},
		{"400MB", goUnits, 0, false},
		{"400M", goUnits, 0, false},
		{"2048", qemuUnits, 2048 << 20, true},
		{"16384", blockUnits, 128 << 20, true},
		{"1GB", blockUnits, 1 << 30, true},
		{"4096", kilobyteUnits, 4 << 20, true},
	} {
		if got, ok := size(test.text, test.units); got != test.want || ok != test.ok {
			t.Errorf("%q: got %d, %t, want %d, %t", test.text, got, ok, test.want, test.ok)
		}
	}
}

// Zeros in front of a value may be as many as a variable has room for.
func TestValuesAreBounded(t *testing.T) {
	p := Identify(Traits{
		Executable: "/usr/bin/dotnet", Args: []string{"dotnet"},
		Env: map[string]string{"DOTNET_GCHeapHardLimit": "0x" + strings.Repeat("0", 4096) + "1"},
	})

	if got := p.Setting("GCHeapHardLimit"); got != nil {
		t.Errorf("got a value of %d bytes, want none", len(got.Value))
	}
}

// What a process has in its environment beside memory settings may be secret.
func TestTheEnvironmentIsNotKept(t *testing.T) {
	cmd := exec.Command("sleep", "60")
	cmd.Env = []string{"GOGC=50", "SECRET=" + strings.Repeat("hush", 4096)}

	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}

	defer func() {
		cmd.Process.Kill()
		cmd.Wait()
	}()

	var r Reader

	var traits Traits
	for range 100 { // until it has executed its program
		if r.readOptions(cmd.Process.Pid, &traits); traits.Env["GOGC"] == "50" {
			break
		}

		time.Sleep(10 * time.Millisecond)
	}

	if traits.Env["GOGC"] != "50" || len(traits.Env) != 1 {
		t.Fatalf("got the variables %v, want GOGC alone", traits.Env)
	}

	if bytes.Contains(r.buffer, []byte("hush")) {
		t.Error("got the rest of the environment in the buffer, want it cleared")
	}
}

// The last of several settings is in force, as the JVM reads them.
func TestLaterOptionsOverrideEarlierOnes(t *testing.T) {
	java := Traits{
		Executable: "/bin/java", Args: []string{"java", "-Xmx2g", "-XX:MaxHeapSize=3g", "-cp", "-Xmx7g", "Main", "-Xmx8g"},
		Env: map[string]string{"JAVA_TOOL_OPTIONS": `-Xmx1g "-Dkey=a b" -Xms1g`, "JDK_JAVA_OPTIONS": "-Xmx4g"},
	}

	got := Identify(java).Setting("-Xmx")
	if got == nil || got.Value != "3g" || got.Source != events.SettingFromCommand {
		t.Errorf("got %+v, want 3g from the command line", got)
	}

	java.Env["_JAVA_OPTIONS"] = "-Xmx5g"

	if got := Identify(java).Setting("-Xmx"); got == nil || got.Value != "5g" || got.Source != "_JAVA_OPTIONS" {
		t.Errorf("got %+v, want 5g from _JAVA_OPTIONS", got)
	}
}

// FuzzIdentify: whatever a command line and an environment contain, only values that are
// sizes, numbers or a known word are kept.
func FuzzIdentify(f *testing.F) {
	for _, exe := range []string{"java", "node", "php", "postgres", "mysqld", "qemu-system-x86_64", "cloud-hypervisor", "dotnet", "python3"} {
		f.Add("/usr/bin/"+exe, exe+"\x00-Xmx512m\x00-c\x00shared_buffers=1GB\x00-d\x00memory_limit=1G\x00-m\x002G\x00--memory\x00size=1G",
			"GOMEMLIMIT=1GiB\x00NODE_OPTIONS=--max-old-space-size=1 'a\x00JAVA_TOOL_OPTIONS=-Xmx1g")
	}

	words := []string{"off", "false", "-1"}

	f.Fuzz(func(t *testing.T, exe, args, environ string) {
		traits := Traits{Executable: exe, Args: strings.Split(args, "\x00"), Env: selected([]byte(environ))}

		p := Identify(traits)
		if p == nil {
			return
		}

		if len(p.Settings) > maxSettings || len(p.Name) > maxName {
			t.Errorf("got %d settings of %q, want at most %d, and a name of at most %d bytes", len(p.Settings), p.Name, maxSettings, maxName)
		}

		for _, s := range p.Settings {
			if len(s.Value) > 2*maxDigits {
				t.Errorf("got a value of %d bytes for %s, want at most %d", len(s.Value), s.Name, 2*maxDigits)
			}

			isSize := s.Bytes != nil && strings.Trim(s.Value, "0123456789abcdefxABCDEFXkKmMgGtTiB") == ""
			if !isSize && !number(s.Value) && !slices.Contains(words, s.Value) {
				t.Errorf("got setting %+v, want a size, a number or one of %q", s, words)
			}
		}
	})
}

// FuzzMaps: a line of maps may hold any name.
func FuzzMaps(f *testing.F) {
	f.Add(libjvm + buffers)
	f.Fuzz(func(t *testing.T, text string) {
		var traits Traits
		for line := range strings.Lines(text) {
			traits.mapping(line)
		}
	})
}

// FuzzELF: an executable is anybody's file.
func FuzzELF(f *testing.F) {
	f.Add([]byte("\x7fELF\x02\x01\x01"))
	f.Fuzz(func(t *testing.T, file []byte) {
		if names, err := sectionNames(strings.NewReader(string(file))); err == nil && len(names) > maxSectionNames {
			t.Errorf("got names of %d bytes, want at most %d", len(names), maxSectionNames)
		}
	})
}
