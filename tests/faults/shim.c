/* Calls of libc that fail, or stop or end the process, on purpose.

   Loaded with LD_PRELOAD, so that Python, HDF5 and every other library meet the same fault. Counted
   are calls of four kinds (open, write, sync, rename) on paths below FAULT_ROOTS; the FAULT_AT-th
   that matches fails by FAULT_ACTION, once, in whichever process it happens. Environment:

     FAULT_ROOTS   folders, separated by ":"; without them the shim does nothing
     FAULT_WHO     name of this process in the log
     FAULT_LOG     file that gets a line "who kind path" (tabs between) for each call
     FAULT_STATE   file of two 8-byte numbers, shared: calls that matched; calls that have failed
     FAULT_AT      which matching call fails, from 1; 0: none
     FAULT_ACTION  ENOSPC, EIO, KILL (half of a write is done before) or STOP (then it goes on)
     FAULT_ONLY, FAULT_KIND, FAULT_GLOB   who, kind and path that match; all by default
*/
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { NOTHING, FAIL, KILL_IT };

static char roots[4096], who[256], log_path[PATH_MAX], only[256], kind_only[32], glob[PATH_MAX];
static long at, *state;
static int error_number, signal_number;

static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }
#define REAL(name) \
    static __typeof__(name) *real_##name; \
    if (!real_##name) real_##name = real(#name)

static void take(char *to, size_t size, const char *name) {
    const char *value = getenv(name);
    snprintf(to, size, "%s", value ? value : "");
}

/* Read the environment anew: a forked process calls this after changing it. */
__attribute__((constructor)) void fault_reload(void) {
    char action[16], number[32], path[PATH_MAX];
    take(who, sizeof who, "FAULT_WHO");
    take(log_path, sizeof log_path, "FAULT_LOG");
    take(only, sizeof only, "FAULT_ONLY");
    take(kind_only, sizeof kind_only, "FAULT_KIND");
    take(glob, sizeof glob, "FAULT_GLOB");
    take(action, sizeof action, "FAULT_ACTION");
    take(number, sizeof number, "FAULT_AT");
    take(path, sizeof path, "FAULT_STATE");
    at = atol(number);
    error_number = strcmp(action, "EIO") ? ENOSPC : EIO;
    signal_number = !strcmp(action, "KILL") ? SIGKILL : !strcmp(action, "STOP") ? SIGSTOP : 0;
    state = NULL;
    if (path[0]) {
        int fd = syscall(SYS_openat, AT_FDCWD, path, O_RDWR, 0);
        if (fd >= 0) {
            void *found = mmap(NULL, 16, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
            state = found == MAP_FAILED ? NULL : found;
            syscall(SYS_close, fd);
        }
    }
    take(roots, sizeof roots, "FAULT_ROOTS"); /* last: it arms */
}

static int is_below(const char *path) {
    char copy[sizeof roots], *rest = copy, *root;
    strcpy(copy, roots);
    while ((root = strsep(&rest, ":"))) {
        size_t n = strlen(root);
        if (n && !strncmp(path, root, n) && (path[n] == '/' || !path[n])) return 1;
    }
    return 0;
}

/* The absolute path of a name, links in its folder followed; 0 if there is no such folder. */
static int absolute(int folder, const char *name, char *path) {
    char joined[2 * PATH_MAX], *slash, last[NAME_MAX + 1];
    if (!name || strlen(name) >= PATH_MAX) return 0;
    if (name[0] == '/') {
        strcpy(joined, name);
    } else {
        char link[64];
        snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
        ssize_t n = readlink(folder == AT_FDCWD ? "/proc/self/cwd" : link, joined, PATH_MAX - 1);
        if (n < 0) return 0;
        snprintf(joined + n, sizeof joined - n, "/%s", name);
    }
    slash = strrchr(joined, '/');
    if (strlen(slash + 1) > NAME_MAX) return 0;
    strcpy(last, slash + 1);
    slash[slash == joined] = 0;
    if (!realpath(joined, path) || strlen(path) + strlen(last) + 2 > PATH_MAX) return 0;
    if (last[0]) strcat(strcat(path, "/"), last);
    return 1;
}

static int matches(const char *wanted, const char *found) {
    return !wanted[0] || !strcmp(wanted, found);
}

/* What is to happen to this call; the signal to stop is sent from here. */
static int fault(const char *kind, const char *path) {
    if (!is_below(path)) return NOTHING;
    if (log_path[0]) {
        char line[PATH_MAX + 320];
        int n = snprintf(line, sizeof line, "%s\t%s\t%s\n", who, kind, path);
        int fd = syscall(SYS_openat, AT_FDCWD, log_path, O_WRONLY | O_CREAT | O_APPEND, 0600);
        if (fd >= 0) {
            if (syscall(SYS_write, fd, line, n) < 0) abort();
            syscall(SYS_close, fd);
        }
    }
    if (!at || !state || !matches(only, who) || !matches(kind_only, kind)) return NOTHING;
    if (glob[0] && fnmatch(glob, path, 0)) return NOTHING;
    if (__sync_add_and_fetch(state, 1) != at) return NOTHING;
    __sync_add_and_fetch(state + 1, 1);
    if (signal_number == SIGSTOP) {
        raise(SIGSTOP);
        return NOTHING;
    }
    if (signal_number) return KILL_IT;
    errno = error_number;
    return FAIL;
}

static int on_descriptor(const char *kind, int fd) {
    char link[64], path[PATH_MAX];
    if (!roots[0]) return NOTHING;
    int before = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    errno = before;
    if (n < 0) return NOTHING;
    path[n] = 0;
    return fault(kind, path);
}

static int on_name(const char *kind, int folder, const char *name) {
    char path[PATH_MAX];
    if (!roots[0]) return NOTHING;
    int before = errno;
    int found = absolute(folder, name, path);
    errno = before;
    return found ? fault(kind, path) : NOTHING;
}

#define NOW(what) \
    switch (what) { \
    case FAIL: return -1; \
    case KILL_IT: kill(getpid(), SIGKILL); \
    }
#define MODE \
    mode_t mode = 0; \
    if (flags & (O_CREAT | O_TMPFILE)) { \
        va_list more; \
        va_start(more, flags); \
        mode = va_arg(more, mode_t); \
        va_end(more); \
    }

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        MODE REAL(name); \
        NOW(on_name("open", AT_FDCWD, path)) \
        return real_##name(path, flags, mode); \
    }
#define OPENAT(name) \
    int name(int folder, const char *path, int flags, ...) { \
        MODE REAL(name); \
        NOW(on_name("open", folder, path)) \
        return real_##name(folder, path, flags, mode); \
    }
#define OPEN_2(name) \
    int name(const char *path, int flags) { \
        static int (*old)(const char *, int); \
        if (!old) old = real(#name); \
        NOW(on_name("open", AT_FDCWD, path)) \
        return old(path, flags); \
    }
#define OPENAT_2(name) \
    int name(int folder, const char *path, int flags) { \
        static int (*old)(int, const char *, int); \
        if (!old) old = real(#name); \
        NOW(on_name("open", folder, path)) \
        return old(folder, path, flags); \
    }
#define CREAT(name) \
    int name(const char *path, mode_t mode) { \
        REAL(name); \
        NOW(on_name("open", AT_FDCWD, path)) \
        return real_##name(path, mode); \
    }
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)
OPEN_2(__open_2)
OPEN_2(__open64_2)
OPENAT_2(__openat_2)
OPENAT_2(__openat64_2)
CREAT(creat)
CREAT(creat64)

/* A stream is opened by libc itself, past the functions above. */
#define FOPEN(name) \
    FILE *name(const char *path, const char *mode) { \
        REAL(name); \
        switch (on_name("open", AT_FDCWD, path)) { \
        case FAIL: return NULL; \
        case KILL_IT: kill(getpid(), SIGKILL); \
        } \
        return real_##name(path, mode); \
    }
FOPEN(fopen)
FOPEN(fopen64)

/* A process that is killed while it writes has written a part. */
#define WRITE(name, arguments, half, ...) \
    ssize_t name arguments { \
        REAL(name); \
        switch (on_descriptor("write", fd)) { \
        case FAIL: return -1; \
        case KILL_IT: \
            if (half > 0 && real_##name(__VA_ARGS__) < 0) _exit(9); \
            kill(getpid(), SIGKILL); \
        } \
        return REST_##name; \
    }
#define REST_write real_write(fd, data, n)
#define REST_pwrite real_pwrite(fd, data, n, offset)
#define REST_pwrite64 real_pwrite64(fd, data, n, offset)
#define REST_writev real_writev(fd, parts, n)
#define REST_pwritev real_pwritev(fd, parts, n, offset)
#define REST_pwritev64 real_pwritev64(fd, parts, n, offset)
WRITE(write, (int fd, const void *data, size_t n), n / 2, fd, data, n / 2)
WRITE(pwrite, (int fd, const void *data, size_t n, off_t offset), n / 2, fd, data, n / 2, offset)
WRITE(pwrite64, (int fd, const void *data, size_t n, off64_t offset), n / 2, fd, data, n / 2, offset)
WRITE(writev, (int fd, const struct iovec *parts, int n), n / 2, fd, parts, n / 2)
WRITE(pwritev, (int fd, const struct iovec *parts, int n, off_t offset), n / 2, fd, parts, n / 2,
      offset)
WRITE(pwritev64, (int fd, const struct iovec *parts, int n, off64_t offset), n / 2, fd, parts,
      n / 2, offset)

ssize_t sendfile(int fd, int from, off_t *offset, size_t n) {
    static ssize_t (*old)(int, int, off_t *, size_t);
    if (!old) old = real("sendfile");
    NOW(on_descriptor("write", fd))
    return old(fd, from, offset, n);
}
ssize_t sendfile64(int fd, int from, off64_t *offset, size_t n) {
    static ssize_t (*old)(int, int, off64_t *, size_t);
    if (!old) old = real("sendfile64");
    NOW(on_descriptor("write", fd))
    return old(fd, from, offset, n);
}
#define ON_FD(name, kind, arguments, ...) \
    int name arguments { \
        REAL(name); \
        NOW(on_descriptor(kind, fd)) \
        return real_##name(__VA_ARGS__); \
    }
ON_FD(ftruncate, "write", (int fd, off_t n), fd, n)
ON_FD(ftruncate64, "write", (int fd, off64_t n), fd, n)
ON_FD(fsync, "sync", (int fd), fd)
ON_FD(fdatasync, "sync", (int fd), fd)

/* Known by the name that it makes, where that is not taken to a place that nobody looks at. */
int rename(const char *from, const char *to) {
    REAL(rename);
    NOW(on_name("rename", AT_FDCWD, to))
    return real_rename(from, to);
}
int renameat(int a, const char *from, int b, const char *to) {
    REAL(renameat);
    NOW(on_name("rename", b, to))
    return real_renameat(a, from, b, to);
}
int renameat2(int a, const char *from, int b, const char *to, unsigned flags) {
    REAL(renameat2);
    NOW(on_name("rename", b, to))
    return real_renameat2(a, from, b, to, flags);
}
