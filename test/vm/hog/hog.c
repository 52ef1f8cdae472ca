// SPDX-License-Identifier: Apache-2.0
/*
 * Takes memory in the way that a test selects. It waits for a line on stdin first,
 * so that it can be moved to a cgroup; with HOG_NOW=1 it does not. HOG_NAME is its
 * name (comm), any bytes.
 *
 *   hog anon MB            touch MB, then pause
 *   hog huge MB            the same, with huge pages
 *   hog thread MB          the same, in a second thread
 *   hog threads MB COUNT   COUNT threads print their ids; after a line, they touch MB each, and pause
 *   hog zombie MB          touch MB in a second thread, after the first one has ended
 *   hog shared MB          touch MB, with a process that shares the memory
 *   hog orphan MB          the same; the sharer's first thread ends before
 *   hog vfork 0            pause in a child that shares the memory until it runs a program
 *   hog bind MB            the same, on NUMA node 1 only
 *   hog file MB FILE       write MB to FILE
 *   hog exit MB            touch MB, print a line, wait for one, and exit: with a
 *                          second thread, so that the group is marked as exiting
 *   hog family MB          start two children that pause, and touch MB
 *   hog init N             start N children that pause, print a line, and exit at the end of stdin
 *   hog pages 0            for each line, touch as many pages as it has, and print a line
 *   hog cache MB FILE      read MB of FILE, print a line, and pause
 *   hog write FILE TEXT    write TEXT to FILE
 *   hog write-nonblock FILE TEXT  the same, opened with O_NONBLOCK
 *   hog swapoff 0 FILE     stop swapping to FILE, and exit
 *   hog spin SEC           use the CPU; the kernel kills it after SEC seconds of it, if not 0
 *   hog timer MS           have a timer kill it after MS milliseconds, and pause
 *   hog exitkill 0         start a child that dies with its tracer, print its pid, wait for a
 *                          line, and exit
 *   hog noise DIR HOW COUNT  do one thing all the time, see noise(), and keep its number in COUNT
 *   hog felt MB FILE       touch MB, and write to FILE for how many ms it was throttled, plus 1
 *   hog read 0 FILE COUNT  read FILE forever, and keep the number of reads in COUNT
 *   hog compact MB COUNT   fragment memory into single pages with MB, allocate COUNT
 *                          huge pages and free them, and take MB more
 *   hog lock MB            touch MB in two threads, and lock each page
 *   hog storm MB           write to each page of MB again and again; print a line after the first time
 *   hog random MB          touch MB with data that does not compress, then pause
 *   hog hugetlb MB         touch MB in huge pages of hugetlb, print a line, and pause
 *   hog pipes N [LEFT]     open N pipes, or until LEFT MB are free, print a line, and pause
 *   hog scatter MB         have half of MB free in single pages, then take larger blocks until the end
 *   hog churn MB FILE SEC  read FILE all the time, and take MB over SEC seconds
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static size_t bytes;
static int numa_node = -1, huge;

static void fail(const char *what)
{
	perror(what);
	exit(3);
}

static void wait_line(void)
{
	char c;

	while (read(0, &c, 1) == 1 && c != '\n')
		;
}

/* Its parent may be protected from the OOM killer, which children inherit. */
static void unprotect(void)
{
	int fd = open("/proc/self/oom_score_adj", O_WRONLY);

	if (fd < 0 || write(fd, "0", 1) != 1)
		fail("oom_score_adj");
	close(fd);
}

static char *map_bytes(void)
{
	char *p = mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		fail("mmap");
	/* With huge pages, sizes would depend on when the kernel finds some. */
	madvise(p, bytes, MADV_NOHUGEPAGE);
	return p;
}

static void touch(void)
{
	size_t page = sysconf(_SC_PAGESIZE);
	char *p = map_bytes();

	if (numa_node >= 0) {
		unsigned long mask = 1ul << numa_node;

		if (syscall(SYS_mbind, p, bytes, 2 /* MPOL_BIND */, &mask, 64, 0))
			fail("mbind");
	}
	if (huge && madvise(p, bytes, MADV_HUGEPAGE))
		fail("madvise");
	for (size_t i = 0; i < bytes; i += page)
		p[i] = 1;
}

static void storm(void)
{
	size_t page = sysconf(_SC_PAGESIZE);
	char *p = map_bytes();

	for (int round = 0;; round++) {
		for (size_t i = 0; i < bytes; i += page)
			p[i]++;
		if (!round)
			dprintf(1, "ready\n");
	}
}

static unsigned long long now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

/* A page of a file that others read while it is written. */
static volatile unsigned long long *shared(const char *file)
{
	int fd = open(file, O_RDWR | O_CREAT, 0600);
	void *page;

	if (fd < 0 || ftruncate(fd, 4096))
		fail(file);
	page = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (page == MAP_FAILED)
		fail("mmap");
	return page;
}

/*
 * A page that takes 5 ms was not only faulted in: the task was throttled. A write to a
 * pipe is charged and throttled, too, so the result is left in memory.
 */
static void felt(const char *answer)
{
	size_t page = sysconf(_SC_PAGESIZE);
	unsigned long long throttled = 0;
	volatile unsigned long long *ms = shared(answer);
	char *p = map_bytes();

	*ms = 0;
	for (size_t i = 0; i < bytes; i += page) {
		unsigned long long before = now_ns(), took;

		p[i] = 1;
		took = now_ns() - before;
		if (took >= 5000000)
			throttled += took;
	}
	*ms = throttled / 1000000 + 1;
}

static void churn(const char *file, int seconds)
{
	size_t page = sysconf(_SC_PAGESIZE), taken = 0;
	unsigned long long begin = now_ns(), whole = seconds * 1000000000ull;
	char *p = map_bytes(), block[4096];
	int fd = open(file, O_RDONLY);
	off_t size = lseek(fd, 0, SEEK_END), at = 0;

	if (fd < 0 || size < (off_t)sizeof(block))
		fail(file);
	posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
	for (;;) {
		unsigned long long due = (now_ns() - begin) * bytes / whole;

		if (pread(fd, block, sizeof(block), at) < 0)
			fail("pread");
		at = (at + sizeof(block)) % (size - sizeof(block));
		for (; taken < due && taken < bytes; taken += page)
			p[taken] = 1;
		if (taken >= bytes)
			return;
	}
}

static void read_forever(const char *file, const char *count)
{
	int fd = open(file, O_RDONLY);
	volatile unsigned long long *reads = shared(count);
	char block[4096];
	off_t size = lseek(fd, 0, SEEK_END), at = 0;

	if (fd < 0)
		fail(file);
	posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
	for (;;) {
		if (pread(fd, block, sizeof(block), at) < 0)
			fail("pread");
		at = (at + sizeof(block)) % (size - sizeof(block));
		++*reads;
	}
}

static void huge_pages(const char *count)
{
	int fd = open("/proc/sys/vm/nr_hugepages", O_WRONLY);

	if (fd < 0 || write(fd, count, strlen(count)) < 0)
		fail("nr_hugepages");
	close(fd);
}

/* Frees every second page: half of the memory, in no larger piece. */
static void compact(const char *count)
{
	size_t page = sysconf(_SC_PAGESIZE);
	char *p = mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		fail("mmap");
	madvise(p, bytes, MADV_NOHUGEPAGE);
	for (size_t i = 0; i < bytes; i += page)
		p[i] = 1;
	for (size_t i = 0; i < bytes; i += 2 * page)
		madvise(p + i, page, MADV_DONTNEED);
	huge_pages(count);
	huge_pages("0");
	touch();
}

static void children(int count)
{
	while (count-- > 0)
		if (!fork())
			for (;;)
				pause();
}

static void *touch_thread(void *arg)
{
	prctl(PR_SET_NAME, "worker");
	touch();
	for (;;)
		pause();
	return arg;
}

static pthread_barrier_t all_started;

static void *crowd_thread(void *arg)
{
	prctl(PR_SET_NAME, "worker");
	dprintf(1, "%d\n", (int)syscall(SYS_gettid));
	pthread_barrier_wait(&all_started);
	return touch_thread(arg);
}

static void *idle_thread(void *arg)
{
	for (;;)
		pause();
	return arg;
}

static volatile int proceeding, sharing;

static int idle_process(void *arg)
{
	prctl(PR_SET_NAME, "sharer");
	sharing = 1;
	for (;;)
		pause();
	return arg != 0;
}

/*
 * Ends its first thread when the hog proceeds, and lives on in a second one. The C library
 * knows neither of them, so both only make system calls.
 */
static int orphan_process(void *arg)
{
	char *stack = arg;

	prctl(PR_SET_NAME, "sharer");
	if (clone(idle_process, stack, CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD, 0) < 0)
		_exit(3);
	while (!proceeding)
		sched_yield();
	syscall(SYS_exit, 0);
	return 0;
}

/* Starts a process that shares the memory, and prints its pid. */
static void share(int (*f)(void *), void *arg)
{
	char *stack = malloc(65536);
	int pid = clone(f, stack + 65536, CLONE_VM | SIGCHLD, arg);

	if (pid < 0)
		fail("clone");
	while (!sharing)
		sched_yield();
	dprintf(1, "%d\n", pid);
}

static void touch_pages(void)
{
	size_t page = sysconf(_SC_PAGESIZE), at = 0;
	char *p, line[32];

	bytes = 1ul << 32;
	p = map_bytes();
	while (fgets(line, sizeof(line), stdin)) {
		for (size_t count = strtoul(line, 0, 10); count > 0; count--, at += page)
			p[at] = 1;
		dprintf(1, "touched\n");
	}
}

static void cache(const char *file)
{
	static char block[1 << 16];
	int fd = open(file, O_RDONLY);

	if (fd < 0)
		fail(file);
	for (size_t i = 0; i < bytes; i += sizeof(block))
		if (read(fd, block, sizeof(block)) <= 0)
			fail("read");
	dprintf(1, "cached\n");
}

static void spin(int seconds)
{
	struct rlimit limit = {seconds, seconds};

	if (seconds > 0 && setrlimit(RLIMIT_CPU, &limit))
		fail("setrlimit");
	for (;;)
		getppid();
}

static void kill_by_timer(long ms)
{
	struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGKILL};
	struct itimerspec when = {.it_value = {ms / 1000, ms % 1000 * 1000000}};
	timer_t timer;

	if (timer_create(CLOCK_MONOTONIC, &event, &timer) || timer_settime(timer, 0, &when, 0))
		fail("timer");
}

static void exit_kill(void)
{
	int named[2], pid;
	char c = 0;

	if (pipe(named))
		fail("pipe");
	pid = fork();
	if (pid < 0)
		fail("fork");
	if (!pid) {
		prctl(PR_SET_NAME, "traced");
		if (write(named[1], &c, 1) != 1)
			fail("write");
		for (;;)
			pause();
	}
	if (read(named[0], &c, 1) != 1)
		fail("read");
	if (ptrace(PTRACE_SEIZE, pid, 0, PTRACE_O_EXITKILL))
		fail("ptrace");
	dprintf(1, "%d\n", pid);
	wait_line();
	_exit(0);
}

/*
 * What an unprivileged tenant can make the kernel report all the time, counted in a file:
 *   trickle  20 cgroups a second are made and removed
 *   zombie   SIGKILL to a process that has exited, 10 each 5 ms
 *   cgroup   cgroups with long names are made and removed each 5 ms; on cgroup v1, which
 *            alone has it, they are renamed
 * That is more than the budget of a tenant. Without the pauses an emulated machine, which
 * is some twenty times slower than another one, has no time left for its tracers.
 */
static void noise(const char *dir, const char *how, const char *answer)
{
	struct timespec trickle = {0, 50000000}, pause = {0, 5000000};
	volatile unsigned long long *count = shared(answer);
	char one[256] = "one-", two[256] = "two-";

	memset(one + 4, 'n', 200);
	memset(two + 4, 'n', 200);
	if (chdir(dir))
		fail(dir);
	if (!strcmp(how, "zombie")) {
		int pid = fork();

		if (!pid)
			_exit(0);
		for (;; ++*count) {
			if (pid < 0 || kill(pid, SIGKILL))
				fail("kill");
			if (*count % 10 == 0)
				nanosleep(&pause, 0);
		}
	}
	if (!strcmp(how, "trickle"))
		for (;; nanosleep(&trickle, 0), ++*count)
			if (mkdir("trickle", 0755) || rmdir("trickle"))
				fail("trickle");
	if (mkdir(one, 0755) || chdir(one))
		fail(one);
	for (;;) {
		if (mkdir(one, 0755))
			fail(one);
		for (int i = 0; i < 100 && !rename(one, two); i++) {
			if (rename(two, one))
				fail(two);
			nanosleep(&pause, 0);
			*count += 2;
		}
		if (rmdir(one))
			fail(one);
		*count += 2;
		nanosleep(&pause, 0);
	}
}

/* Whether no more than a rest of the machine's memory is free. */
static int used_up(long left_mb)
{
	struct sysinfo now;

	return left_mb && !sysinfo(&now) && now.freeram * now.mem_unit <= (unsigned long long)left_mb << 20;
}

/*
 * Reads a byte in every second MiB: each is the kernel's one page of zeros,
 * and only the page tables to them are charged.
 */
static void page_tables(long left_mb)
{
	volatile char *p = map_bytes();
	char sum = 0;

	for (size_t i = 0; i < bytes && (i % (256 << 20) || !used_up(left_mb)); i += 2 << 20)
		sum += p[i];
	(void)sum;
	dprintf(1, "ready\n");
}

static void random_data(void)
{
	unsigned long long *p = (unsigned long long *)map_bytes(), x = 88172645463325252ull;

	for (size_t i = 0; i < bytes / sizeof(*p); i++) {
		x ^= x << 13, x ^= x >> 7, x ^= x << 17;
		p[i] = x;
	}
}

static void hugetlb(void)
{
	char *p = mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);

	if (p == MAP_FAILED)
		fail("mmap");
	for (size_t i = 0; i < bytes; i += 2 << 20)
		p[i] = 1;
	dprintf(1, "ready\n");
}

/* Pipes that are empty: each has two files and an inode, in slab. */
static void pipes(int count, long left_mb)
{
	struct rlimit all = {2 * count + 64, 2 * count + 64};
	int ends[2];

	if (setrlimit(RLIMIT_NOFILE, &all))
		fail("setrlimit");
	for (int i = 0; i < count && (i % 256 || !used_up(left_mb)); i++)
		if (pipe(ends))
			fail("pipe");
	dprintf(1, "ready\n");
}

/*
 * Scatters free memory: pages in pipes cannot be moved, and of these each
 * second one is given back. A pipe of 1 MiB has its list of buffers in four
 * contiguous pages.
 */
static void scatter(void)
{
	enum { BUFFERS = 16 };
	static char page[4096];
	int count = bytes / sizeof(page) / BUFFERS / 2, (*ends)[2] = calloc(2 * count, sizeof(*ends));
	struct rlimit files = {1 << 18, 1 << 18};
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET(0, &one);
	if (!ends || setrlimit(RLIMIT_NOFILE, &files) || sched_setaffinity(0, sizeof(one), &one))
		fail("prepare pipes");
	for (int i = 0; i < 2 * count; i++)
		if (pipe(ends[i]))
			fail("pipe");
	for (int i = 0; i < count * BUFFERS; i++)
		for (int half = 0; half < 2; half++)
			if (write(ends[i / BUFFERS + half * count][1], page, sizeof(page)) < 0)
				fail("write");
	for (int i = 0; i < count; i++)
		for (int end = 0; end < 2; end++)
			close(ends[i][end]);
	for (int more[2];;)
		if (pipe(more) || fcntl(more[0], F_SETPIPE_SZ, 1 << 20) < 0)
			fail("F_SETPIPE_SZ");
}

/* Makes empty files, which the kernel keeps in its slab caches: on tmpfs for good. */
static void files(const char *dir, int count)
{
	char name[256];

	for (int i = 0; i < count; i++) {
		snprintf(name, sizeof(name), "%s/%d", dir, i);
		int fd = open(name, O_CREAT | O_WRONLY, 0600);

		if (fd < 0)
			fail(name);
		close(fd);
	}
}

static void start(void *(*f)(void *))
{
	pthread_t t;

	if (pthread_create(&t, 0, f, 0))
		fail("pthread_create");
}

int main(int argc, char **argv)
{
	const char *name = getenv("HOG_NAME"), *mode = argc > 2 ? argv[1] : "";

	if (name)
		prctl(PR_SET_NAME, name);
	bytes = argc > 2 ? strtoul(argv[2], 0, 10) << 20 : 0;
	if (getenv("HOG_NOW"))
		unprotect();
	else
		wait_line();
	if (!strcmp(mode, "anon")) {
		touch();
	} else if (!strcmp(mode, "lock")) {
		if (mlockall(MCL_CURRENT | MCL_FUTURE | 4 /* MCL_ONFAULT */))
			fail("mlockall");
		start(touch_thread);
		touch();
	} else if (!strcmp(mode, "storm")) {
		storm();
	} else if (!strcmp(mode, "family")) {
		children(2);
		touch();
	} else if (!strcmp(mode, "huge")) {
		huge = 1;
		touch();
	} else if (!strcmp(mode, "bind")) {
		numa_node = 1;
		touch();
	} else if (!strcmp(mode, "thread")) {
		start(touch_thread);
	} else if (!strcmp(mode, "threads") && argc == 4) {
		pthread_barrier_init(&all_started, 0, atoi(argv[3]) + 1);
		for (int i = atoi(argv[3]); i > 0; i--)
			start(crowd_thread);
		wait_line();
		pthread_barrier_wait(&all_started);
	} else if (!strcmp(mode, "zombie")) {
		start(touch_thread);
		pthread_exit(0);
	} else if (!strcmp(mode, "shared")) {
		share(idle_process, 0);
		touch();
	} else if (!strcmp(mode, "orphan")) {
		share(orphan_process, (char *)malloc(65536) + 65536);
		wait_line();
		proceeding = 1;
		touch();
	} else if (!strcmp(mode, "vfork")) {
		if (!vfork()) {
			dprintf(1, "%d\n", getpid());
			for (;;)
				pause();
		}
	} else if (!strcmp(mode, "pages")) {
		touch_pages();
	} else if (!strcmp(mode, "cache") && argc == 4) {
		cache(argv[3]);
	} else if (!strcmp(mode, "swapoff") && argc == 4) {
		if (swapoff(argv[3]))
			fail("swapoff");
		return 0;
	} else if (!strcmp(mode, "spin")) {
		spin(atoi(argv[2]));
	} else if (!strcmp(mode, "timer")) {
		kill_by_timer(atoi(argv[2]));
	} else if (!strcmp(mode, "exitkill")) {
		exit_kill();
	} else if (!strcmp(mode, "noise") && argc == 5) {
		noise(argv[2], argv[3], argv[4]);
	} else if (!strcmp(mode, "exit")) {
		start(idle_thread);
		touch();
		dprintf(1, "ready\n");
		wait_line();
		_exit(0);
	} else if (!strcmp(mode, "init")) {
		children(atoi(argv[2]));
		dprintf(1, "ready\n");
		wait_line();
		return 0;
	} else if (!strcmp(mode, "file") && argc == 4) {
		static char block[1 << 16];
		int fd = open(argv[3], O_CREAT | O_WRONLY, 0600);

		if (fd < 0)
			fail(argv[3]);
		for (size_t i = 0; i < bytes; i += sizeof(block))
			if (write(fd, block, sizeof(block)) < 0)
				fail("write");
	} else if (!strcmp(mode, "random")) {
		random_data();
	} else if (!strcmp(mode, "hugetlb")) {
		hugetlb();
	} else if (!strcmp(mode, "pipes")) {
		pipes(atoi(argv[2]), argc > 3 ? atol(argv[3]) : 0);
	} else if (!strcmp(mode, "scatter")) {
		scatter();
	} else if (!strcmp(mode, "page-tables")) {
		page_tables(argc > 3 ? atol(argv[3]) : 0);
	} else if (!strcmp(mode, "files") && argc == 4) {
		files(argv[3], atoi(argv[2]));
	} else if (!strcmp(mode, "felt") && argc == 4) {
		felt(argv[3]);
	} else if (!strcmp(mode, "churn") && argc == 5) {
		churn(argv[3], atoi(argv[4]));
	} else if (!strcmp(mode, "compact") && argc == 4) {
		compact(argv[3]);
	} else if (!strcmp(mode, "read") && argc == 5) {
		read_forever(argv[3], argv[4]);
	} else if ((!strcmp(mode, "write") || !strcmp(mode, "write-nonblock")) && argc == 4) {
		int fd = open(argv[2], O_WRONLY | (mode[5] ? O_NONBLOCK : 0));

		if (fd < 0 || write(fd, argv[3], strlen(argv[3])) < 0)
			fail(argv[2]);
		return 0;
	} else {
		fprintf(stderr, "hog: bad arguments\n");
		return 2;
	}
	for (;;)
		pause();
}
