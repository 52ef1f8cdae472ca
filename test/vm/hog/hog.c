// SPDX-License-Identifier: Apache-2.0
/*
 * Takes memory in the way that a test selects. It waits for a line on stdin first,
 * so that it can be moved to a cgroup; with HOG_NOW=1 it does not. HOG_NAME is its
 * name (comm), any bytes.
 *
 *   hog anon MB            touch MB, then pause
 *   hog huge MB            the same, with huge pages
 *   hog thread MB          the same, in a second thread
 *   hog zombie MB          the same, after the first thread has ended
 *   hog shared MB          the same, with a process that shares the memory
 *   hog bind MB            the same, on NUMA node 1 only
 *   hog file MB FILE       write MB to FILE
 *   hog exit MB            touch MB, print a line, wait for one, and exit: with a
 *                          second thread, so that the group is marked as exiting
 *   hog family MB          start two children that pause, and touch MB
 *   hog init N             start N children that pause, print a line, and exit at the end of stdin
 *   hog write FILE TEXT    write TEXT to FILE
 *   hog felt MB FILE       touch MB, and write to FILE for how many ms it was throttled, plus 1
 *   hog read 0 FILE COUNT  read FILE forever, and keep the number of reads in COUNT
 *   hog compact MB COUNT   fragment memory into single pages with MB, allocate COUNT
 *                          huge pages and free them, and take MB more
 *   hog lock MB            touch MB in two threads, and lock each page
 *   hog storm MB           write to each page of MB again and again; print a line after the first time
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
#include <sys/syscall.h>
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

static void *idle_thread(void *arg)
{
	for (;;)
		pause();
	return arg;
}

static int idle_process(void *arg)
{
	prctl(PR_SET_NAME, "sharer");
	for (;;)
		pause();
	return arg != 0;
}

/*
 * Reads a byte in every second MiB: each is the kernel's one page of zeros,
 * and only the page tables to them are charged.
 */
static void page_tables(void)
{
	volatile char *p = map_bytes();
	char sum = 0;

	for (size_t i = 0; i < bytes; i += 2 << 20)
		sum += p[i];
	(void)sum;
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
	} else if (!strcmp(mode, "zombie")) {
		start(touch_thread);
		pthread_exit(0);
	} else if (!strcmp(mode, "shared")) {
		char *stack = malloc(65536);
		int pid = clone(idle_process, stack + 65536, CLONE_VM | SIGCHLD, 0);

		if (pid < 0)
			fail("clone");
		dprintf(1, "%d\n", pid);
		touch();
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
	} else if (!strcmp(mode, "page-tables")) {
		page_tables();
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
	} else if (!strcmp(mode, "write") && argc == 4) {
		int fd = open(argv[2], O_WRONLY);

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
