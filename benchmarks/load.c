/*
 * The client side of the benchmarks: makes the tree that every server serves, and measures it through a mount.
 *
 *     load make DIR            write the tree to DIR
 *     load run DIR METRIC...   measure; prints one JSON object {"metric": {"value": ..., "unit": ...}, ...}
 *
 * The tree: big; d/0.. (64 KiB each, for open+read+close); s/0.. and l/0.. (empty, for stat and for listing: each
 * metric has names of its own, so that "first" means first for the kernel, without dropping any cache);
 * slow/0.. (empty; where the server has handlers, that of open sleeps); compute (likewise, computes); sink (to be
 * written).
 *
 * Every 64-bit word of a file follows from the file's number and the word's offset, so data is checked wherever it is
 * read: the first word of each page inside the timed loops, every word in the metric "verify".  A metric that fails or
 * reads wrong data becomes {"error": "..."}.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
	PAGE = 4096,
	FILE_SIZE = 64 << 10,
	SINK_SIZE = 16 << 20,
	SINK_FILE = 1 << 30, /* the number of the file "sink" */
	WRITE_SIZE = 128 << 10,
	SLOW_FILES = 64,
	SLOW_OPENS = 15, /* of each, at most, while the hits are measured */
	MAX_SAMPLES = 1 << 20,
	PAUSE_US = 500,
	PER_DIR = 1000, /* of the tree m/<i / PER_DIR>/<i % PER_DIR> */
};

static size_t big_size = 256 << 20;
static unsigned files = 3000;
static unsigned nodes;       /* in m/, for lookup_sample */
static unsigned sleepers;    /* threads opening slow/ during a latency metric */
static double seconds = 0.3; /* of each metric that is a rate over time */
static char failure[256];    /* why the current metric failed; the first cause wins */
static pthread_mutex_t failure_lock = PTHREAD_MUTEX_INITIALIZER;

struct result {
	double value;    /* in the metric's unit */
	double p99;      /* 0: the metric has none */
};

__attribute__((format(printf, 1, 2))) static bool fail(const char *format, ...)
{
	va_list args;

	pthread_mutex_lock(&failure_lock);
	if (!failure[0]) {
		va_start(args, format);
		vsnprintf(failure, sizeof failure, format, args);
		va_end(args);
	}
	pthread_mutex_unlock(&failure_lock);
	return false;
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec * 1e-9;
}

/* ---- data that can be checked ---- */

static uint64_t mix(uint64_t x) /* the finaliser of splitmix64 */
{
	x += 0x9e3779b97f4a7c15;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
	x = (x ^ x >> 27) * 0x94d049bb133111eb;
	return x ^ x >> 31;
}

static uint64_t word(unsigned file, uint64_t off)
{
	return mix((uint64_t)file << 32 ^ off >> 3);
}

static void fill(unsigned file, uint64_t off, uint64_t *buf, size_t size)
{
	for (size_t i = 0; i < size / 8; i++)
		buf[i] = word(file, off + 8 * i);
}

/* Compare one word in every *stride* bytes. */
static bool check(unsigned file, uint64_t off, const void *buf, size_t size, size_t stride)
{
	for (size_t i = 0; i + 8 <= size; i += stride) {
		uint64_t got;

		memcpy(&got, (const char *)buf + i, 8);
		if (got != word(file, off + i))
			return fail("wrong data in file %u at %llu", file, (unsigned long long)(off + i));
	}
	return true;
}

static void *pages(size_t size)
{
	void *p = aligned_alloc(PAGE, size);

	if (!p)
		abort();
	memset(p, 0, size); /* the page faults are not to be measured */
	return p;
}

static int open_or_fail(const char *path, int flags)
{
	int fd = open(path, flags);

	if (fd < 0)
		fail("open %s: %s", path, strerror(errno));
	return fd;
}

/* ---- large reads and writes ---- */

static bool read_whole(int fd, unsigned file, uint64_t expected, void *buf, size_t size, size_t stride)
{
	uint64_t off = 0;
	ssize_t n;

	while (off < expected && (n = read(fd, buf, size)) != 0) {
		if (n < 0)
			return fail("read: %s", strerror(errno));
		if (!check(file, off, buf, n, stride))
			return false;
		off += n;
	}
	return off == expected || fail("file %u ends at %llu", file, (unsigned long long)off);
}

/*
 * Bring big into the page cache and drop it again.  That makes it cold, and leaves the kernel with free pages that were in
 * use a moment ago: a page that a virtual machine touches for the first time comes from its host, which takes longer than
 * any file system does.
 */
static bool recycle_pages(void *buf, size_t size)
{
	int fd = open_or_fail("big", O_RDONLY);
	bool ok = fd >= 0 && read_whole(fd, 0, big_size, buf, size, PAGE);

	if (fd >= 0) {
		posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
		close(fd);
	}
	return ok;
}

static bool read_big(struct result *r, size_t size, int flags, bool cold)
{
	int fd = open_or_fail("big", O_RDONLY | flags);
	void *buf = pages(size);
	double start;
	bool ok;

	if (fd < 0)
		return false;
	if (cold && !recycle_pages(buf, size)) {
		close(fd);
		free(buf);
		return false;
	}
	start = now();
	ok = read_whole(fd, 0, big_size, buf, size, PAGE);
	r->value = big_size / (now() - start) / 1e9;
	close(fd);
	free(buf);
	return ok;
}

static bool cold_128k(struct result *r) { return read_big(r, 128 << 10, 0, true); }
static bool warm_128k(struct result *r) { return read_big(r, 128 << 10, 0, false); }
static bool direct_128k(struct result *r) { return read_big(r, 128 << 10, O_DIRECT, false); }
static bool cold_1m(struct result *r) { return read_big(r, 1 << 20, 0, true); }
static bool warm_1m(struct result *r) { return read_big(r, 1 << 20, 0, false); }
static bool direct_1m(struct result *r) { return read_big(r, 1 << 20, O_DIRECT, false); }

static bool write_sink(struct result *r)
{
	int fd = open_or_fail("sink", O_WRONLY);
	uint64_t *buf = pages(SINK_SIZE), done = 0;
	double start;
	bool ok = fd >= 0;

	fill(SINK_FILE, 0, buf, SINK_SIZE);
	start = now();
	for (; ok && (now() - start < seconds || done < SINK_SIZE); done += WRITE_SIZE) {
		size_t off = done % SINK_SIZE;
		ssize_t n = pwrite(fd, (char *)buf + off, WRITE_SIZE, off);

		if (n != WRITE_SIZE)
			ok = fail("write: %s", n < 0 ? strerror(errno) : "short");
	}
	r->value = done / (now() - start) / 1e9;
	memset(buf, 0, SINK_SIZE);
	if (fd >= 0)
		close(fd);
	if (ok && (fd = open_or_fail("sink", O_RDONLY)) >= 0) {
		posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED); /* what the server has, not the page cache */
		ok = read_whole(fd, SINK_FILE, SINK_SIZE, buf, WRITE_SIZE, 8);
		close(fd);
	}
	free(buf);
	return ok;
}

/* ---- small direct reads ---- */

struct reader {
	pthread_t thread;
	unsigned number;
	unsigned long count;
	bool ok;
	float *samples; /* of MAX_SAMPLES, or NULL: microseconds */
	bool paced;     /* pause before each read, so that the server has gone to sleep or to other work */
};

static void *random_reader(void *argument)
{
	struct reader *self = argument;
	uint64_t state = self->number + 1;
	void *buf = pages(PAGE);
	int fd = open_or_fail("big", O_RDONLY | O_DIRECT);
	double start = now(), before = start, after = start;

	self->ok = fd >= 0;
	while (self->ok && after - start < seconds && self->count < MAX_SAMPLES) {
		uint64_t off = mix(state++) % (big_size / PAGE) * PAGE;
		ssize_t n;

		if (self->paced) {
			usleep(PAUSE_US);
			before = now();
		}
		n = pread(fd, buf, PAGE, off);
		after = now();
		if (n != PAGE)
			self->ok = fail("pread: %s", n < 0 ? strerror(errno) : "short");
		else
			self->ok = check(0, off, buf, PAGE, PAGE);
		if (self->samples)
			self->samples[self->count] = (after - before) * 1e6;
		self->count++;
		before = after;
	}
	if (fd >= 0)
		close(fd);
	free(buf);
	return NULL;
}

/* How often per second all *threads* together do what each counts. */
static bool in_threads(struct result *r, unsigned threads, void *(*work)(void *))
{
	struct reader readers[8] = { 0 };
	double start = now();
	unsigned long count = 0;
	bool ok = true;

	for (unsigned i = 0; i < threads; i++) {
		readers[i].number = i << 20;
		if (pthread_create(&readers[i].thread, NULL, work, &readers[i]))
			abort();
	}
	for (unsigned i = 0; i < threads; i++) {
		pthread_join(readers[i].thread, NULL);
		count += readers[i].count;
		ok = ok && readers[i].ok;
	}
	r->value = count / (now() - start);
	return ok;
}

static bool random_4k_1(struct result *r) { return in_threads(r, 1, random_reader); }
static bool random_4k_4(struct result *r) { return in_threads(r, 4, random_reader); }

static int ascending(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;

	return (x > y) - (x < y);
}

static atomic_bool measured; /* the slow openers may end */

/*
 * An open and not a read, and no close before the end: direct reads and releases are background requests, of which the
 * kernel lets max_background (12 unless the server asks for more) through at a time, the measured reads among them.
 */
static void *slow_opener(void *argument)
{
	char path[32];
	int fds[SLOW_OPENS], count = 0;

	snprintf(path, sizeof path, "slow/%zu", (size_t)argument);
	while (!atomic_load(&measured) && count < SLOW_OPENS && (fds[count] = open_or_fail(path, O_RDONLY)) >= 0)
		count++;
	while (count)
		close(fds[--count]);
	return NULL;
}

static bool latency_4k(struct result *r, bool paced)
{
	struct reader reader = { .samples = pages(MAX_SAMPLES * sizeof(float)), .paced = paced };
	pthread_t threads[SLOW_FILES];

	atomic_store(&measured, false);
	for (size_t i = 0; i < sleepers; i++)
		if (pthread_create(&threads[i], NULL, slow_opener, (void *)i))
			abort();
	if (sleepers)
		usleep(200000); /* every slow open has reached its handler by then, or waits for one */
	random_reader(&reader);
	atomic_store(&measured, true);
	for (unsigned i = 0; i < sleepers; i++)
		pthread_join(threads[i], NULL);
	if (reader.count) {
		qsort(reader.samples, reader.count, sizeof(float), ascending);
		r->value = reader.samples[reader.count / 2];
		r->p99 = reader.samples[reader.count * 99 / 100];
	}
	free(reader.samples);
	return reader.ok && !failure[0];
}

static bool latency_close(struct result *r) { return latency_4k(r, false); }
static bool latency_paced(struct result *r) { return latency_4k(r, true); }

/* ---- names ---- */

static bool small_files(struct result *r, bool first)
{
	char path[32];
	void *buf = pages(2 * FILE_SIZE);
	bool ok = !first || recycle_pages(buf, 2 * FILE_SIZE);
	double start = now();

	for (unsigned i = 0; ok && i < files; i++) {
		int fd;

		snprintf(path, sizeof path, "d/%u", i);
		ok = (fd = open_or_fail(path, O_RDONLY)) >= 0;
		if (ok) {
			ok = read_whole(fd, i + 1, FILE_SIZE, buf, 2 * FILE_SIZE, PAGE);
			close(fd);
		}
	}
	r->value = files / (now() - start);
	free(buf);
	return ok;
}

static bool small_first(struct result *r) { return small_files(r, true); }
static bool small_again(struct result *r) { return small_files(r, false); }

static void *computing_opener(void *argument)
{
	struct reader *self = argument;
	double start = now();
	int fd;

	for (self->ok = true; self->ok && now() - start < seconds; self->count++) {
		self->ok = (fd = open_or_fail("compute", O_RDONLY)) >= 0;
		if (self->ok)
			close(fd);
	}
	return NULL;
}

static bool computing_opens_1(struct result *r) { return in_threads(r, 1, computing_opener); }
static bool computing_opens_2(struct result *r) { return in_threads(r, 2, computing_opener); }

/* stat of *prefix*0, *prefix*1, ...: all there, or all ENOENT. */
static bool stat_all(struct result *r, const char *prefix, bool there)
{
	char path[32];
	struct stat st;
	double start = now();

	for (unsigned i = 0; i < files; i++) {
		snprintf(path, sizeof path, "%s%u", prefix, i);
		if ((lstat(path, &st) == 0) != there || (!there && errno != ENOENT))
			return fail("stat %s: %s", path, there ? strerror(errno) : "expected ENOENT");
	}
	r->value = files / (now() - start);
	return true;
}

static bool stat_present(struct result *r) { return stat_all(r, "s/", true); }
static bool stat_absent(struct result *r) { return stat_all(r, "s/absent-", false); }

static bool list_long(struct result *r)
{
	double start = now();
	DIR *dir = opendir("l");
	struct dirent *entry;
	struct stat st;
	unsigned count = 0;

	if (!dir)
		return fail("opendir l: %s", strerror(errno));
	while ((entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		count++;
		if (fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
			fail("stat l/%s: %s", entry->d_name, strerror(errno));
			break;
		}
	}
	closedir(dir);
	r->value = count / (now() - start);
	return count == files || fail("%u names listed in l", count);
}

/*
 * First stat of names spread over m/: as many as there are, 3000 at most, so that trees of all sizes compare. Their
 * directories, of which a large tree has more, are looked up before.
 */
static bool lookup_sample(struct result *r)
{
	unsigned count = nodes < 3000 ? nodes : 3000;
	char path[48];
	struct stat st;
	double start;

	for (unsigned n = 0; n < nodes; n += PER_DIR) {
		snprintf(path, sizeof path, "m/%u", n / PER_DIR);
		if (lstat(path, &st) != 0)
			return fail("stat %s: %s", path, strerror(errno));
	}
	start = now();
	for (uint64_t i = 0; i < count; i++) {
		unsigned n = i * nodes / count;

		snprintf(path, sizeof path, "m/%u/%u", n / PER_DIR, n % PER_DIR);
		if (lstat(path, &st) != 0)
			return fail("stat %s: %s", path, strerror(errno));
	}
	r->value = count / (now() - start);
	return true;
}

/* Open, fstat, read and close all files that are called 1 .. nodes, as viewers and cp do. */
static bool scan(struct result *r)
{
	char path[32];
	void *buf = pages(1 << 20);
	double start;
	unsigned count = 0;
	bool ok = true;

	free(pages(256 << 20)); /* so that the page cache gets pages that were in use a moment ago: see recycle_pages */
	start = now();
	for (unsigned i = 1; ok && i <= nodes; i++) {
		struct stat st;
		ssize_t n;
		off_t size = 0;
		int fd;

		snprintf(path, sizeof path, "%u", i);
		if ((fd = open(path, O_RDONLY)) < 0)
			continue;
		ok = fstat(fd, &st) == 0 || fail("fstat %s: %s", path, strerror(errno));
		if (!S_ISDIR(st.st_mode)) { /* what a link leads to */
			while ((n = read(fd, buf, 1 << 20)) > 0)
				size += n;
			ok = ok && ((n == 0 && size == st.st_size) || fail("%s has %lld bytes", path, (long long)size));
			count++;
		}
		close(fd);
	}
	r->value = count / (now() - start);
	free(buf);
	return ok && (count || fail("no files"));
}

static bool verify(struct result *r)
{
	char path[32];
	void *buf = pages(1 << 20);
	double start = now();
	int fd = open_or_fail("big", O_RDONLY);
	bool ok = fd >= 0 && read_whole(fd, 0, big_size, buf, 1 << 20, 8);

	close(fd);
	for (unsigned i = 0; ok && i < files; i++) {
		snprintf(path, sizeof path, "d/%u", i);
		fd = open_or_fail(path, O_RDONLY);
		ok = fd >= 0 && read_whole(fd, i + 1, FILE_SIZE, buf, 1 << 20, 8);
		close(fd);
	}
	r->value = now() - start;
	free(buf);
	return ok;
}

static const struct metric {
	const char *name;
	const char *unit;
	bool (*measure)(struct result *);
} metrics[] = {
	{ "read cold 128K", "GB/s", cold_128k },
	{ "read warm 128K", "GB/s", warm_128k },
	{ "read cold 1M", "GB/s", cold_1m },
	{ "read warm 1M", "GB/s", warm_1m },
	{ "read O_DIRECT 128K", "GB/s", direct_128k },
	{ "read O_DIRECT 1M", "GB/s", direct_1m },
	{ "random 4K O_DIRECT", "/s", random_4k_1 },
	{ "random 4K O_DIRECT, 4 threads", "/s", random_4k_4 },
	{ "small files first", "/s", small_first },
	{ "small files again", "/s", small_again },
	{ "stat first", "/s", stat_present },
	{ "stat again", "/s", stat_present },
	{ "ls -l cold", "entries/s", list_long },
	{ "ls -l warm", "entries/s", list_long },
	{ "absent first", "/s", stat_absent },
	{ "absent again", "/s", stat_absent },
	{ "write 128K", "GB/s", write_sink },
	{ "4K hit", "us", latency_close },
	{ "4K hit after a pause", "us", latency_paced },
	{ "lookup sample", "/s", lookup_sample },
	{ "collection first", "/s", scan },
	{ "collection again", "/s", scan },
	{ "computing opens, 1 client", "/s", computing_opens_1 },
	{ "computing opens, 2 clients", "/s", computing_opens_2 },
	{ "verify", "s", verify },
};

static int run(int count, char **names)
{
	printf("{");
	for (int i = 0; i < count; i++) {
		const struct metric *m = metrics, *end = metrics + sizeof metrics / sizeof *metrics;
		struct result r = { 0 };

		while (m < end && strcmp(m->name, names[i]))
			m++;
		if (m == end) {
			fprintf(stderr, "load: no metric '%s'\n", names[i]);
			return 2;
		}
		failure[0] = 0;
		printf("%s\n\"%s\": {", i ? "," : "", m->name);
		if (!m->measure(&r)) {
			for (char *c = failure; *c; c++) /* file names here need no more escaping */
				if (*c == '"' || *c == '\\')
					*c = '\'';
			printf("\"error\": \"%s\"}", failure);
		} else if (r.p99 > 0)
			printf("\"value\": %.6g, \"p99\": %.6g, \"unit\": \"%s\"}", r.value, r.p99, m->unit);
		else
			printf("\"value\": %.6g, \"unit\": \"%s\"}", r.value, m->unit);
		fflush(stdout);
	}
	printf("\n}\n");
	return 0;
}

/* ---- making the tree ---- */

static void write_file(const char *path, unsigned file, size_t size)
{
	size_t part = size < 4 << 20 ? size + PAGE : 4 << 20; /* large writes get tmpfs large folios, where it can */
	uint64_t *buf = pages(part);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	bool ok = fd >= 0;

	for (size_t off = 0; ok && off < size; off += part) {
		size_t n = size - off < part ? size - off : part;

		fill(file, off, buf, n);
		ok = write(fd, buf, n) == (ssize_t)n;
	}
	if (!ok) {
		fprintf(stderr, "load: %s: %s\n", path, strerror(errno));
		exit(1);
	}
	close(fd);
	free(buf);
}

static void write_files(const char *dir, unsigned count, unsigned first, size_t size)
{
	char path[64];

	mkdir(dir, 0755);
	for (unsigned i = 0; i < count; i++) {
		snprintf(path, sizeof path, "%s/%u", dir, i);
		write_file(path, first + i, size);
	}
}

static int make(void)
{
	char dir[32];

	umask(022);
	if (nodes) {
		mkdir("m", 0755);
		for (unsigned i = 0; i < nodes; i += PER_DIR) {
			snprintf(dir, sizeof dir, "m/%u", i / PER_DIR);
			write_files(dir, nodes - i < PER_DIR ? nodes - i : PER_DIR, 0, 0);
		}
		return 0;
	}
	write_file("big", 0, big_size);
	write_file("sink", SINK_FILE, SINK_SIZE);
	write_file("compute", 0, 0);
	write_files("d", files, 1, FILE_SIZE);
	write_files("s", files, 0, 0);
	write_files("l", files, 0, 0);
	write_files("slow", SLOW_FILES, 0, 0);
	return 0;
}

int main(int argc, char **argv)
{
	int option;

	while ((option = getopt(argc, argv, "b:f:n:t:w:")) != -1)
		switch (option) {
		case 'b': big_size = (size_t)atoi(optarg) << 20; break; /* MiB */
		case 'f': files = atoi(optarg); break;
		case 'n': nodes = atoi(optarg); break;
		case 't': seconds = atof(optarg); break;
		case 'w': sleepers = atoi(optarg); break;
		default: return 2;
		}
	argc -= optind;
	argv += optind;
	if (argc < 2 || (strcmp(argv[0], "make") && strcmp(argv[0], "run")) || sleepers > SLOW_FILES || files < 1) {
		fprintf(stderr, "usage: load [-b MiB] [-f files] [-n nodes] [-t seconds] [-w sleepers] make|run DIR [METRIC...]\n");
		return 2;
	}
	if (chdir(argv[1]) != 0) {
		perror(argv[1]);
		return 1;
	}
	return argv[0][0] == 'm' ? make() : run(argc - 2, argv + 2);
}
