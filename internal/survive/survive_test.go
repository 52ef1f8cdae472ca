// SPDX-License-Identifier: Apache-2.0

package survive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/oomtrace/oomtrace/internal/testenv"
)

// TestMain does in a process of its own what holds for a whole process.
func TestMain(m *testing.M) {
	if do, ok := acts[os.Getenv("OOMTRACE_TEST_ACT")]; ok {
		if err := do(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}

		os.Exit(0)
	}

	os.Exit(m.Run())
}

var acts = map[string]func() error{
	"child": printScoreOfChild, "leak": func() error { return leak(time.Millisecond) }, "fast-leak": func() error { return leak(0) },
	"lock-free": lockWhatIsFree,
}

func act(name string) (output string, err error) {
	cmd := exec.Command("/proc/self/exe")

	cmd.Env = append(os.Environ(), "OOMTRACE_TEST_ACT="+name)

	out, err := cmd.CombinedOutput()

	return string(out), err
}

// printScoreOfChild prints the oom_score_adj of a child and of its child. Where exemption is
// not permitted, the process only becomes a more likely victim, which children inherit too.
func printScoreOfChild() error {
	if err := os.WriteFile(scoreFile, []byte("100"), 0); err != nil {
		return err
	}

	if err := Exempt(); err != nil {
		if err := os.WriteFile(scoreFile, []byte("200"), 0); err != nil {
			return err
		}

		before := "100"
		former.Store(&before)
	}

	if err := Bound(1 << 30); err != nil {
		return err
	}

	cmd := Command(context.Background(), "sh", "-c", "cat /proc/$$/oom_score_adj /proc/self/oom_score_adj; ulimit -d; echo $0 $1", "name", "argument")
	out, err := cmd.Output()
	fmt.Print(string(out))

	return err
}

func TestChildrenHaveTheFormerScore(t *testing.T) {
	got, err := act("child")
	if want := "100\n100\nunlimited\nname argument\n"; err != nil || got != want {
		t.Errorf("got %q, error %v; want %q", got, err, want)
	}
}

func TestARefusalIsOneShortLine(t *testing.T) {
	err := refused(&fs.PathError{Op: "open", Path: scoreFile, Err: syscall.EACCES})

	want := "the OOM killer may choose oomtrace itself: set oom_score_adj to -1000: permission denied"
	if err.Error() != want || !errors.Is(err, syscall.EACCES) {
		t.Errorf("got %q, want %q", err, want)
	}
}

func TestCommandOfAnUnknownProgramFails(t *testing.T) {
	text := "0"
	former.Store(&text)
	t.Cleanup(func() { former.Store(nil) })

	if err := Command(t.Context(), "no-such-program").Run(); !errors.Is(err, exec.ErrNotFound) {
		t.Errorf("got error %v, want %v", err, exec.ErrNotFound)
	}
}

// leak allocates 1 MiB and pauses, again and again, under a bound of 32 MiB.
func leak(pause time.Duration) error {
	r, err := newUsageReader()
	if err != nil {
		return err
	}

	now, err := r.read()
	if err != nil {
		return err
	}

	const most = 32 << 20
	if err := Bound(most); err != nil {
		return err
	}

	go Watch(context.Background(), nil, now.resident+most/2, func(error) {}, func(large *TooLargeError) {
		fmt.Println(large)
		os.Exit(ExitTooLarge)
	})

	for all := [][]byte(nil); len(all) < 4096; time.Sleep(pause) {
		block := make([]byte, 1<<20)
		for i := range block {
			block[i] = 1
		}

		all = append(all, block)

		if pause > 0 {
			time.Sleep(100 * time.Millisecond)
		}
	}

	return errors.New("not ended")
}

func TestALeakEndsTheProcess(t *testing.T) {
	testenv.Slow(t, "leaks for some seconds")

	for _, test := range []struct {
		act    string
		status int
		text   *regexp.Regexp
	}{
		{"leak", ExitTooLarge, regexp.MustCompile("oomtrace ends itself: it uses")},

		// By the Go runtime, before a reading. Its words depend on which of the heap and what
		// the runtime keeps beside it reaches the bound first.
		{"fast-leak", 2, regexp.MustCompile("(out of|cannot allocate) memory")},
	} {
		out, err := act(test.act)

		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != test.status || !test.text.MatchString(out) {
			t.Errorf("%s: got error %v, output %.300q; want status %d and %q", test.act, err, out, test.status, test.text)
		}
	}
}

// lockWhatIsFree locks each page of a heap that is mostly free while the collector runs.
func lockWhatIsFree() error {
	const size = 16 << 20

	block := make([]byte, size)
	start := uint64(uintptr(unsafe.Pointer(unsafe.SliceData(block))))
	runtime.KeepAlive(block)
	runtime.GC()

	var done atomic.Bool

	go func() {
		for !done.Load() {
			runtime.GC()
		}
	}()

	for at := start; at < start+size; at += 4096 {
		if err := (area{at, at + 4096}).lock(); err != nil {
			return err
		}
	}

	done.Store(true)

	return nil
}

func TestTheCollectorRunsWhileAFreeHeapIsLocked(t *testing.T) {
	if err := mayLock(); err != nil {
		testenv.Lacks(t, "this test needs CAP_IPC_LOCK")
	}

	if out, err := act("lock-free"); err != nil {
		t.Errorf("got error %v, output %.300q; want none", err, out)
	}
}

func TestResidentIsTheProgramAndTheMemoryOfGo(t *testing.T) {
	const maps = `00400000-00d59000 r-xp 00000000 fe:00 1 /usr/bin/oomtrace
00d59000-017ee000 r--p 00959000 fe:00 1 /usr/bin/oomtrace
017ee000-018f2000 rw-p 013ee000 fe:00 1 /usr/bin/oomtrace
018f2000-0393e000 rw-p 00000000 00:00 0
c000000000-c000800000 rw-p 00000000 00:00 0
c000800000-c002000000 rw-p 00000000 00:00 0
c002000000-c004000000 ---p 00000000 00:00 0
7f0000000000-7f0000400000 r--s 00001000 00:10 1038 anon_inode:bpf-map
7f0001000000-7f0001040000 rw-p 00000000 00:00 0
7f0002000000-7f0004000000 rw-p 00000000 00:00 0
7ffd00000000-7ffd00021000 rw-p 00000000 00:00 0 [stack]
`

	want := []area{
		{0x400000, 0xd59000}, {0xd59000, 0x17ee000}, {0x17ee000, 0x18f2000}, {0x18f2000, 0x18f2000 + dataHead},
		{0x7f0001000000, 0x7f0001040000}, {0x7ffd00000000, 0x7ffd00021000},
	}
	if got := resident(maps, "/usr/bin/oomtrace", area{0xc000000000, 0xc002000000}); !slices.Equal(got, want) {
		t.Errorf("got %x, want %x", got, want)
	}

	if got, want := arenaOf(maps, 0xc000923450), (area{0xc000000000, 0xc002000000}); got != want {
		t.Errorf("got heap %x, want %x", got, want)
	}
}

// A page that was used beyond the end has its whole block made resident.
func TestBlocksInUseBeyondTheEnd(t *testing.T) {
	memory, err := unix.Mmap(-1, 0, 8*blockSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { _ = unix.Munmap(memory) })

	if err := unix.Madvise(memory, unix.MADV_NOHUGEPAGE); err != nil {
		t.Fatal(err)
	}

	start := uint64(uintptr(unsafe.Pointer(unsafe.SliceData(memory))))
	aligned := start + blockSize - start%blockSize
	at := func(address uint64) { memory[address-start] = 1 }

	at(aligned)                 // before the end
	at(aligned + 3*blockSize/2) // in the block of the end
	at(aligned + 4*blockSize + 5000)
	at(aligned + 5*blockSize - 1)

	h := &Heap{end: blockSize + blockSize/4 + 100}

	got, err := h.usedBeyond(area{aligned, start + uint64(len(memory))})
	if err != nil {
		t.Fatal(err)
	}

	page := uint64(os.Getpagesize())
	want := []area{
		{(aligned + h.end) / page * page, aligned + 2*blockSize},
		{aligned + 4*blockSize, aligned + 5*blockSize},
	}

	if !slices.Equal(got, want) {
		t.Errorf("got blocks %#x, want %#x", got, want)
	}
}
