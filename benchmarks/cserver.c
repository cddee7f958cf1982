/*
 * The yardstick: a read-mostly in-memory file system in plain C on libfuse's low-level API, tuned for speed.
 *
 *     cserver [-m MODE] [-t THREADS] [-b] SOURCE MOUNTPOINT
 *
 * SOURCE is a directory, read into memory, or "nodes:N" for N empty files m/<i / 1000>/<i % 1000>.
 * One line of JSON (facts about the tree) goes to stdout before the mount; the process ends when unmounted.
 *
 * Modes: keep_cache (default); nocache: all timeouts 0, no keep_cache; immutable: ENOSYS to open and opendir, so that the
 * kernel never sends them again; passthrough: contents in memfds that the kernel reads by itself (needs CAP_SYS_ADMIN).
 * -b adds a thread that only computes.
 *
 * Invariant: the tree is built before the first request and never changes shape, so nodes are never freed, forget has
 * nothing to do and lookups take no lock.  Only file data may change (writes within the size).
 */
#define _GNU_SOURCE
#define FUSE_USE_VERSION 312
#include <fuse_lowlevel.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* Of the kernel's interface 7.40, newer than the headers of some distributions. */
#define OPEN_PASSTHROUGH (1 << 7)
#define INIT_PASSTHROUGH (1u << (37 - 32)) /* in flags2 */
struct backing_map {
	int32_t fd;
	uint32_t flags;
	uint64_t padding;
};
#define DEV_BACKING_OPEN _IOW(FUSE_DEV_IOC_MAGIC, 1, struct backing_map)
struct init_out {
	uint32_t major, minor, max_readahead, flags;
	uint16_t max_background, congestion_threshold;
	uint32_t max_write, time_gran;
	uint16_t max_pages, map_alignment;
	uint32_t flags2, max_stack_depth;
	uint32_t unused[6];
};
struct open_out {
	uint64_t fh;
	uint32_t open_flags;
	int32_t backing_id;
};

enum { SPIN_NS = 50000, PER_DIR = 1000 };

static enum { KEEP_CACHE, NOCACHE, IMMUTABLE, PASSTHROUGH } mode;
static double timeout = 1e9; /* seconds: of entries, attributes and negative entries */
static struct fuse_session *session;

static void die(const char *what)
{
	perror(what);
	exit(1);
}

/* ---- the tree: an array of nodes; inode number = index + 1 (FUSE_ROOT_ID is 1) ---- */

struct node {
	uint32_t parent;       /* index */
	uint32_t first, count; /* children: indices first .. first + count - 1 */
	mode_t mode;
	char *name;
	char *data;
	size_t size;
	int fd;                /* memfd that data maps, or -1 */
	int backing_id;        /* of fd, or 0: not asked for yet; under backing_lock */
};

static struct node *nodes;
static uint32_t count, capacity;
static uint32_t *table; /* open addressing over (parent, name): index, or 0 for empty (the root is in no directory) */
static uint32_t table_mask;
static pthread_mutex_t backing_lock = PTHREAD_MUTEX_INITIALIZER;

static struct node *node_of(fuse_ino_t ino)
{
	return &nodes[ino - FUSE_ROOT_ID];
}

static uint32_t add(uint32_t parent, const char *name, mode_t node_mode)
{
	if (count == capacity) {
		capacity = capacity ? 2 * capacity : 1024;
		nodes = realloc(nodes, capacity * sizeof *nodes);
		if (!nodes)
			die("realloc");
	}
	nodes[count] = (struct node){ .parent = parent, .mode = node_mode, .name = strdup(name), .fd = -1 };
	if (count && nodes[parent].count++ == 0)
		nodes[parent].first = count;
	return count++;
}

static void read_content(struct node *node, int fd, size_t size)
{
	node->size = size;
	if (size == 0)
		return;
	node->data = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (node->data == MAP_FAILED)
		die("mmap");
	for (size_t off = 0; off < size;) {
		ssize_t n = read(fd, node->data + off, size - off);

		if (n <= 0)
			die(node->name);
		off += n;
	}
	if (mode != PASSTHROUGH)
		return;
	/* Into a memfd, by write: it then gets larger folios than a mapping that is touched page by page. */
	node->fd = memfd_create(node->name, MFD_CLOEXEC);
	if (node->fd < 0)
		die("memfd");
	for (size_t off = 0; off < size;) {
		ssize_t n = write(node->fd, node->data + off, size - off);

		if (n <= 0)
			die("memfd");
		off += n;
	}
	if (mmap(node->data, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, node->fd, 0) == MAP_FAILED)
		die("mmap");
}

/* All children of a directory first, then what is below them: siblings must be neighbours in the array. */
static void load(uint32_t self, int fd)
{
	DIR *dir = fdopendir(fd);
	struct dirent *entry;

	if (!dir)
		die("fdopendir");
	while ((entry = readdir(dir))) {
		struct stat st;

		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		if (fstatat(fd, entry->d_name, &st, 0) != 0)
			die(entry->d_name);
		add(self, entry->d_name, st.st_mode);
	}
	for (uint32_t i = 0; i < nodes[self].count; i++) {
		uint32_t child = nodes[self].first + i;
		int child_fd = openat(fd, nodes[child].name, O_RDONLY);
		struct stat st;

		if (child_fd < 0 || fstat(child_fd, &st) != 0)
			die(nodes[child].name);
		if (S_ISDIR(st.st_mode))
			load(child, child_fd);
		else {
			read_content(&nodes[child], child_fd, st.st_size);
			close(child_fd);
		}
	}
	closedir(dir);
}

static void generate(uint32_t files)
{
	uint32_t top = add(0, "m", S_IFDIR | 0755), dirs = (files + PER_DIR - 1) / PER_DIR;
	char name[16];

	for (uint32_t i = 0; i < dirs; i++) {
		snprintf(name, sizeof name, "%u", i);
		add(top, name, S_IFDIR | 0755);
	}
	for (uint32_t i = 0; i < files; i++) {
		snprintf(name, sizeof name, "%u", i % PER_DIR);
		add(nodes[top].first + i / PER_DIR, name, S_IFREG | 0444);
	}
}

static uint32_t hash(uint32_t parent, const char *name)
{
	uint32_t h = parent * 2654435761u ^ 2166136261u;

	while (*name)
		h = (h ^ (unsigned char)*name++) * 16777619u;
	return h ^ h >> 15;
}

static void index_names(void)
{
	for (table_mask = 1; table_mask < 2 * count; table_mask *= 2)
		;
	table = calloc(table_mask--, sizeof *table);
	if (!table)
		die("calloc");
	for (uint32_t i = 1; i < count; i++) {
		uint32_t slot = hash(nodes[i].parent, nodes[i].name) & table_mask;

		while (table[slot])
			slot = (slot + 1) & table_mask;
		table[slot] = i;
	}
}

/* The child of *parent* called *name*, or NULL. */
static struct node *find(fuse_ino_t parent, const char *name)
{
	uint32_t dir = parent - FUSE_ROOT_ID, i;
	uint32_t slot = hash(dir, name) & table_mask;

	for (; (i = table[slot]); slot = (slot + 1) & table_mask)
		if (nodes[i].parent == dir && !strcmp(nodes[i].name, name))
			return &nodes[i];
	return NULL;
}

static struct stat attributes(const struct node *node)
{
	return (struct stat){
		.st_ino = node - nodes + FUSE_ROOT_ID,
		.st_mode = node->mode,
		.st_nlink = S_ISDIR(node->mode) ? 2 : 1,
		.st_size = node->size,
		.st_blocks = (node->size + 511) / 512,
		.st_blksize = 4096,
	};
}

static struct fuse_entry_param entry_of(const struct node *node)
{
	struct stat st = attributes(node);

	return (struct fuse_entry_param){ .ino = st.st_ino, .attr = st, .attr_timeout = timeout, .entry_timeout = timeout };
}

/* ---- operations ---- */

static void on_init(void *userdata, struct fuse_conn_info *conn)
{
	(void)userdata;
	/* Replies go straight from memory: splicing costs more than the one copy that it saves. */
	conn->want &= ~(FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE);
	conn->want &= ~FUSE_CAP_AUTO_INVAL_DATA;
	conn->want |= conn->capable & (FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_ASYNC_DIO);
	conn->max_background = 64;
	conn->congestion_threshold = 48;
}

static void on_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct node *node = find(parent, name);
	struct fuse_entry_param negative = { .entry_timeout = timeout }, entry = node ? entry_of(node) : negative;

	fuse_reply_entry(req, &entry);
}

static void on_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup)
{
	(void)ino, (void)nlookup;
	fuse_reply_none(req);
}

static void on_forget_multi(fuse_req_t req, size_t n, struct fuse_forget_data *forgets)
{
	(void)n, (void)forgets;
	fuse_reply_none(req);
}

static void on_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct stat st = attributes(node_of(ino));

	(void)fi;
	fuse_reply_attr(req, &st, timeout);
}

/*
 * An inode's backing id is opened once and kept until the connection ends: the kernel refuses a second one (EIO) while
 * the first is in use.
 */
static int backing_id(struct node *node)
{
	struct backing_map map = { .fd = node->fd };

	pthread_mutex_lock(&backing_lock);
	if (!node->backing_id) {
		int id = ioctl(fuse_session_fd(session), DEV_BACKING_OPEN, &map);

		if (id < 0)
			die("FUSE_DEV_IOC_BACKING_OPEN");
		node->backing_id = id;
	}
	pthread_mutex_unlock(&backing_lock);
	return node->backing_id;
}

static void on_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct node *node = node_of(ino);

	if (mode == IMMUTABLE)
		fuse_reply_err(req, ENOSYS);
	else if (node->fd >= 0) {
		/* The kernel's own struct: libfuse's fuse_file_info has no backing_id before 3.17. */
		struct open_out out = { .open_flags = OPEN_PASSTHROUGH, .backing_id = backing_id(node) };

		fuse_reply_buf(req, (char *)&out, sizeof out);
	} else {
		fi->keep_cache = mode != NOCACHE;
		fuse_reply_open(req, fi);
	}
}

static void on_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	if (mode == IMMUTABLE) {
		fuse_reply_err(req, ENOSYS);
		return;
	}
	fi->keep_cache = fi->cache_readdir = mode != NOCACHE;
	fuse_reply_open(req, fi);
}

static void on_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct node *node = node_of(ino);
	size_t left = (size_t)off < node->size ? node->size - off : 0;

	(void)fi;
	fuse_reply_buf(req, node->data + off, size < left ? size : left);
}

static void on_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct node *node = node_of(ino);

	(void)fi;
	if (off + size > node->size) {
		fuse_reply_err(req, EFBIG);
		return;
	}
	memcpy(node->data + off, buf, size);
	fuse_reply_write(req, size);
}

/* Offsets: the entry at index i of the directory carries i + 1, the one to go on with. */
static void list(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, int plus)
{
	static _Thread_local char buf[1 << 17];
	const struct node *dir = node_of(ino);
	size_t used = 0;

	if (size > sizeof buf)
		size = sizeof buf;
	for (uint32_t i = off; i < dir->count; i++) {
		const struct node *node = &nodes[dir->first + i];
		struct fuse_entry_param entry = entry_of(node);
		size_t n = plus ? fuse_add_direntry_plus(req, buf + used, size - used, node->name, &entry, i + 1)
				: fuse_add_direntry(req, buf + used, size - used, node->name, &entry.attr, i + 1);

		if (n > size - used)
			break;
		used += n;
	}
	fuse_reply_buf(req, buf, used);
}

static void on_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	(void)fi;
	list(req, ino, size, off, 0);
}

static void on_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	(void)fi;
	list(req, ino, size, off, 1);
}

/* What is missing here libfuse answers with ENOSYS (flush, access, getxattr: never sent again) or success (release). */
static const struct fuse_lowlevel_ops operations = {
	.init = on_init,
	.lookup = on_lookup,
	.forget = on_forget,
	.forget_multi = on_forget_multi,
	.getattr = on_getattr,
	.open = on_open,
	.opendir = on_opendir,
	.read = on_read,
	.write = on_write,
	.readdir = on_readdir,
	.readdirplus = on_readdirplus,
};

/* ---- the loop ---- */

/*
 * Let libfuse answer INIT into a socket, add what it cannot ask for, and pass the reply on.  dup2 swaps what the
 * session's descriptor means, because libfuse writes to nothing else.
 */
static void answer_init(void)
{
	struct fuse_buf buf = { 0 };
	struct pollfd device = { .fd = fuse_session_fd(session), .events = POLLIN };
	char reply[4096];
	struct init_out *out = (struct init_out *)(reply + sizeof(struct fuse_out_header));
	int pair[2], saved = dup(device.fd);
	ssize_t n;

	do
		n = poll(&device, 1, -1) < 0 ? -errno : fuse_session_receive_buf(session, &buf);
	while (n == -EAGAIN || n == -EINTR);
	if (n <= 0 || ((struct fuse_in_header *)buf.mem)->opcode != FUSE_INIT) {
		fprintf(stderr, "cserver: the first request is not INIT\n");
		exit(1);
	}
	if (saved < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) != 0 || dup2(pair[0], device.fd) < 0)
		die("socketpair");
	fuse_session_process_buf(session, &buf);
	n = recv(pair[1], reply, sizeof reply, 0);
	if (n < (ssize_t)(sizeof(struct fuse_out_header) + sizeof *out) || dup2(saved, device.fd) < 0)
		die("INIT reply");
	out->flags |= FUSE_INIT_EXT | FUSE_PARALLEL_DIROPS;
	if (mode == PASSTHROUGH) {
		out->flags2 |= INIT_PASSTHROUGH;
		out->max_stack_depth = 2;
	}
	if (write(device.fd, reply, n) != n)
		die("INIT reply");
	close(saved);
	close(pair[0]);
	close(pair[1]);
	free(buf.mem);
}

static int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

/*
 * One thread, the leader, waits for requests; the others sleep on the mutex.  It gives the lead away only when more
 * requests wait than the one it took, so an ordinary request wakes nobody, and while the leader is awake the kernel finds no
 * poller to wake either.  Out of work, it asks again for SPIN_NS before it sleeps: a request that finds it awake costs no
 * wake-up.  Each thread holds the mutex exactly while it leads.
 */
static void *serve(void *argument)
{
	static pthread_mutex_t lead = PTHREAD_MUTEX_INITIALIZER;
	const int may_spin = sysconf(_SC_NPROCESSORS_ONLN) > 1;
	struct pollfd device = { .fd = fuse_session_fd(session), .events = POLLIN };
	struct fuse_buf buf = { 0 };

	pthread_mutex_lock(&lead);
	for (;;) {
		int n = fuse_session_receive_buf(session, &buf);

		if (n == -EAGAIN && may_spin) {
			int64_t end = now_ns() + SPIN_NS;

			do
				n = fuse_session_receive_buf(session, &buf);
			while (n == -EAGAIN && now_ns() < end);
		}
		if (n > 0 && poll(&device, 1, 0) > 0) {
			pthread_mutex_unlock(&lead);
			fuse_session_process_buf(session, &buf);
			pthread_mutex_lock(&lead);
		} else if (n > 0)
			fuse_session_process_buf(session, &buf);
		else if (n == -EAGAIN)
			poll(&device, 1, -1);
		else if (n != -EINTR)
			break; /* unmounted */
	}
	pthread_mutex_unlock(&lead);
	free(buf.mem);
	return argument;
}

static void *compute(void *argument)
{
	for (volatile uint64_t n = 0;; n++)
		;
	return argument;
}

/* Resident bytes that are no file's: the tree's own cost, the contents being empty. */
static long resident(void)
{
	long pages = 0;
	FILE *f = fopen("/proc/self/statm", "r");

	if (!f || fscanf(f, "%*d %ld", &pages) != 1)
		die("statm");
	fclose(f);
	return pages * sysconf(_SC_PAGESIZE);
}

int main(int argc, char **argv)
{
	static const char *const modes[] = { "keep_cache", "nocache", "immutable", "passthrough" };
	char *fuse_argv[] = { argv[0], "-o", "fsname=cserver,subtype=cserver", NULL };
	struct fuse_args args = FUSE_ARGS_INIT(3, fuse_argv);
	struct rlimit files;
	int threads = 2, busy = 0, option, fd;
	pthread_t ids[64];
	long before;
	int64_t start;
	size_t content = 0;

	while ((option = getopt(argc, argv, "bm:t:")) != -1)
		switch (option) {
		case 'b': busy = 1; break;
		case 't': threads = atoi(optarg); break;
		case 'm':
			for (mode = KEEP_CACHE; mode <= PASSTHROUGH && strcmp(modes[mode], optarg);)
				mode++;
			break;
		default: return 2;
		}
	if (argc - optind != 2 || mode > PASSTHROUGH || threads < 1 || threads > 64) {
		fprintf(stderr, "usage: cserver [-m keep_cache|nocache|immutable|passthrough] [-t threads] [-b] SOURCE MOUNTPOINT\n");
		return 2;
	}
	if (mode == NOCACHE)
		timeout = 0;
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files); /* passthrough holds a memfd per file */

	before = resident();
	start = now_ns();
	add(0, "", S_IFDIR | 0755);
	if (!strncmp(argv[optind], "nodes:", 6))
		generate(atoi(argv[optind] + 6));
	else if ((fd = open(argv[optind], O_RDONLY | O_DIRECTORY)) >= 0)
		load(0, fd);
	else
		die(argv[optind]);
	index_names();
	for (uint32_t i = 0; i < count; i++)
		content += nodes[i].size;
	printf("{\"nodes\": %u, \"seconds\": %.6f, \"bytes\": %ld, \"content\": %zu, \"libfuse\": \"%s\"}\n", count,
	       (now_ns() - start) / 1e9, resident() - before, content, fuse_pkgversion());
	fflush(stdout);

	session = fuse_session_new(&args, &operations, sizeof operations, NULL);
	if (!session || fuse_session_mount(session, argv[optind + 1]) != 0)
		return 1;
	fd = fuse_session_fd(session);
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	answer_init();
	if (busy && pthread_create(&ids[0], NULL, compute, NULL))
		die("pthread_create");
	for (int i = 1; i < threads; i++)
		if (pthread_create(&ids[i], NULL, serve, NULL))
			die("pthread_create");
	serve(NULL);
	for (int i = 1; i < threads; i++)
		pthread_join(ids[i], NULL);
	fuse_session_unmount(session);
	fuse_session_destroy(session);
	return 0;
}
