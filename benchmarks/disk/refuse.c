/* A disk that refuses from the n-th write on, for the processes that load this: LD_PRELOAD.

   DISK_UNDER    the folder that is the disk
   DISK_COUNTER  a file of three 64-bit numbers, elsewhere: how many writes there were, from which on
                 they fail (0: none does), and what with: 28 (ENOSPC), 30 (EROFS), 122 (EDQUOT), 5 (EIO)

   A write is whatever changes the disk: data, a new name, a renamed or removed one, a time, a sync. A
   full disk still lets names go and times change; a read-only one lets nothing change. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int64_t *counter;
static const char *under;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("DISK_COUNTER");
    under = getenv("DISK_UNDER");
    if (!path || !under) return;
    int fd = REAL(open)(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) return;
    void *found = mmap(NULL, 24, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (found != MAP_FAILED) counter = found;
}

static int inside(int folder, const char *path) {
    char whole[PATH_MAX * 2], base[PATH_MAX];
    if (!counter || !path) return 0;
    if (path[0] != '/') {
        char link[64];
        snprintf(link, sizeof link, folder == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", folder);
        ssize_t n = readlink(link, base, sizeof base - 1);
        if (n < 0) return 0;
        base[n] = 0;
        snprintf(whole, sizeof whole, "%s/%s", base, path);
        path = whole;
    }
    size_t length = strlen(under);
    return strncmp(path, under, length) == 0 && (path[length] == '/' || path[length] == 0);
}

static int held(int fd) {
    char link[64], path[PATH_MAX];
    struct stat seen;
    if (!counter || fstat(fd, &seen) || !(S_ISREG(seen.st_mode) || S_ISDIR(seen.st_mode))) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0) return 0;
    path[n] = 0;
    return inside(AT_FDCWD, path);
}

/* Whether this one is refused; `grows`: it needs room, so that a full disk refuses it too. */
static int refused(int grows) {
    if (counter[2] != EROFS && !grows) return 0;
    int64_t number = __atomic_add_fetch(&counter[0], 1, __ATOMIC_SEQ_CST);
    if (!counter[1] || number < counter[1]) return 0;
    errno = (int)counter[2];
    return 1;
}

static int changes(int flags) { return (flags & O_ACCMODE) != O_RDONLY || (flags & (O_CREAT | O_TRUNC)); }

#define OPEN(name)                                                             \
    int name(const char *path, int flags, ...) {                               \
        va_list more;                                                          \
        va_start(more, flags);                                                 \
        mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(more, mode_t) : 0; \
        va_end(more);                                                          \
        if (changes(flags) && inside(AT_FDCWD, path) && refused(flags & O_CREAT)) return -1; \
        return REAL(name)(path, flags, mode);                                  \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                           \
    int name(int folder, const char *path, int flags, ...) {                   \
        va_list more;                                                          \
        va_start(more, flags);                                                 \
        mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(more, mode_t) : 0; \
        va_end(more);                                                          \
        if (changes(flags) && inside(folder, path) && refused(flags & O_CREAT)) return -1; \
        return REAL(name)(folder, path, flags, mode);                          \
    }
OPENAT(openat)
OPENAT(openat64)

int creat(const char *path, mode_t mode) {
    return inside(AT_FDCWD, path) && refused(1) ? -1 : REAL(creat)(path, mode);
}
FILE *fopen(const char *path, const char *mode) {
    return strpbrk(mode, "wa+") && inside(AT_FDCWD, path) && refused(1) ? NULL : REAL(fopen)(path, mode);
}
FILE *fopen64(const char *path, const char *mode) {
    return strpbrk(mode, "wa+") && inside(AT_FDCWD, path) && refused(1) ? NULL : REAL(fopen64)(path, mode);
}
int mkdir(const char *path, mode_t mode) {
    return inside(AT_FDCWD, path) && refused(1) ? -1 : REAL(mkdir)(path, mode);
}
int mkdirat(int folder, const char *path, mode_t mode) {
    return inside(folder, path) && refused(1) ? -1 : REAL(mkdirat)(folder, path, mode);
}
int symlink(const char *to, const char *path) {
    return inside(AT_FDCWD, path) && refused(1) ? -1 : REAL(symlink)(to, path);
}
int link(const char *from, const char *path) {
    return inside(AT_FDCWD, path) && refused(1) ? -1 : REAL(link)(from, path);
}
int rename(const char *from, const char *to) {
    return inside(AT_FDCWD, to) && refused(1) ? -1 : REAL(rename)(from, to);
}
int renameat(int f, const char *from, int t, const char *to) {
    return inside(t, to) && refused(1) ? -1 : REAL(renameat)(f, from, t, to);
}
int unlink(const char *path) {
    return inside(AT_FDCWD, path) && refused(0) ? -1 : REAL(unlink)(path);
}
int unlinkat(int folder, const char *path, int flags) {
    return inside(folder, path) && refused(0) ? -1 : REAL(unlinkat)(folder, path, flags);
}
int rmdir(const char *path) {
    return inside(AT_FDCWD, path) && refused(0) ? -1 : REAL(rmdir)(path);
}
int utimensat(int folder, const char *path, const struct timespec times[2], int flags) {
    return inside(folder, path) && refused(0) ? -1 : REAL(utimensat)(folder, path, times, flags);
}
int chmod(const char *path, mode_t mode) {
    return inside(AT_FDCWD, path) && refused(0) ? -1 : REAL(chmod)(path, mode);
}
ssize_t write(int fd, const void *data, size_t size) {
    return held(fd) && refused(1) ? -1 : REAL(write)(fd, data, size);
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    return held(fd) && refused(1) ? -1 : REAL(pwrite)(fd, data, size, at);
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    return held(fd) && refused(1) ? -1 : REAL(pwrite64)(fd, data, size, at);
}
ssize_t writev(int fd, const struct iovec *parts, int count) {
    return held(fd) && refused(1) ? -1 : REAL(writev)(fd, parts, count);
}
ssize_t sendfile(int out, int in, off_t *at, size_t size);
ssize_t sendfile(int out, int in, off_t *at, size_t size) {
    return held(out) && refused(1) ? -1 : REAL(sendfile)(out, in, at, size);
}
ssize_t sendfile64(int out, int in, off64_t *at, size_t size);
ssize_t sendfile64(int out, int in, off64_t *at, size_t size) {
    return held(out) && refused(1) ? -1 : REAL(sendfile64)(out, in, at, size);
}
ssize_t copy_file_range(int in, off64_t *i, int out, off64_t *o, size_t size, unsigned flags) {
    return held(out) && refused(1) ? -1 : REAL(copy_file_range)(in, i, out, o, size, flags);
}
int ftruncate(int fd, off_t size) { return held(fd) && refused(1) ? -1 : REAL(ftruncate)(fd, size); }
int ftruncate64(int fd, off64_t size) { return held(fd) && refused(1) ? -1 : REAL(ftruncate64)(fd, size); }
int fsync(int fd) { return held(fd) && refused(1) ? -1 : REAL(fsync)(fd); }
int fdatasync(int fd) { return held(fd) && refused(1) ? -1 : REAL(fdatasync)(fd); }
