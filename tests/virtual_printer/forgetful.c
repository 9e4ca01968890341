// Tells disk.py what a program did to its disk, and what it made durable
//
// Copyright (C) 2026  The klipper-power-loss-recovery authors
// This file may be distributed under the terms of the GNU GPLv3 license.
//
// Preloaded into klippy and Moonraker.  Every call does what it always does, and
// is then written down by forgetful_log.c.  Nothing is remembered between calls
// and no lock is held, so threads, forks and SIGKILL need no care.
//
// What stdio or the kernel writes on its own needs no wrapper: durable is what
// was copied at a sync, and everything else is not.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "forgetful.h"

#define REAL(name) ({                                       \
    static __typeof__(&name) real;                          \
    if (!real)                                              \
        real = (__typeof__(&name))dlsym(RTLD_NEXT, #name);  \
    real; })

// O_DSYNC is looked for at each write only once a program has asked for it.
static volatile int dsync_in_use;

// Before a name is taken from what it stands for
static void
keep(struct target *target)
{
    char path[PATH_MAX + 64];
    int saved = errno;
    if (target->parent < 0 || !(S_ISREG(target->mode) || S_ISLNK(target->mode)))
        return;
    snprintf(path, sizeof path, "%s/keep/%llu", store_folder(), target->ino);
    if (syscall(SYS_linkat, target->parent, target->place.name, AT_FDCWD, path, 0)
        && errno != EEXIST && errno != ENOENT)
        record('E', now(), target->ino, &target->place, NULL, errno, "link");
    errno = saved;
}

static void
after_naming(char kind, struct target *target, int result)
{
    struct stat st;
    if (!result && target->parent >= 0
        && !fstatat(target->parent, target->place.name, &st, AT_SYMLINK_NOFOLLOW))
        record(kind, now(), st.st_ino, &target->place, NULL, st.st_mode, NULL);
    forget(target);
}

// Opening

static void
after_open(struct target *target, int fd, int flags)
{
    struct place place;
    struct stat st;
    if (fd >= 0 && (flags & O_DSYNC))
        dsync_in_use = 1;
    if (fd >= 0 && (flags & (O_CREAT | O_TRUNC)) && describe(fd, &place, &st)) {
        if (target->parent >= 0 && !S_ISLNK(target->mode) && target->ino != st.st_ino)
            record('C', now(), st.st_ino, &target->place, NULL, st.st_mode, NULL);
        else if (flags & O_TRUNC)
            record('T', now(), st.st_ino, &place, NULL, 0, NULL);
    }
    forget(target);
}

#define OPEN(name, parameters, dirfd, ...)              \
    int name parameters {                               \
        struct target target = { .parent = -1 };        \
        mode_t mode = 0;                                \
        if ((flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE) { \
            va_list rest;                               \
            va_start(rest, flags);                      \
            mode = va_arg(rest, mode_t);                \
            va_end(rest);                               \
        }                                               \
        if (flags & (O_CREAT | O_TRUNC))                \
            look(&target, dirfd, path);                 \
        int fd = REAL(name)(__VA_ARGS__, mode);         \
        after_open(&target, fd, flags);                 \
        return fd;                                      \
    }
OPEN(open, (const char *path, int flags, ...), AT_FDCWD, path, flags)
OPEN(open64, (const char *path, int flags, ...), AT_FDCWD, path, flags)
OPEN(openat, (int dirfd, const char *path, int flags, ...), dirfd, dirfd, path, flags)
OPEN(openat64, (int dirfd, const char *path, int flags, ...), dirfd, dirfd, path, flags)

int creat(const char *path, mode_t mode) {
    return open(path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}
int creat64(const char *path, mode_t mode) {
    return open64(path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

#define FOPEN(name)                                                         \
    FILE *name(const char *path, const char *mode) {                        \
        struct target target = { .parent = -1 };                            \
        int flags = *mode == 'w' ? O_CREAT | O_TRUNC : *mode == 'a' ? O_CREAT : 0; \
        if (flags)                                                          \
            look(&target, AT_FDCWD, path);                                  \
        FILE *file = REAL(name)(path, mode);                                \
        after_open(&target, file ? fileno(file) : -1, flags);               \
        return file;                                                        \
    }
FOPEN(fopen)
FOPEN(fopen64)

// Names

#define NAMING(name, parameters, kind, dirfd, path, ...)                    \
    int name parameters {                                                   \
        struct target target;                                               \
        look(&target, dirfd, path);                                         \
        int result = REAL(name)(__VA_ARGS__);                               \
        after_naming(kind, &target, result);                                \
        return result;                                                      \
    }
NAMING(mkdir, (const char *path, mode_t mode), 'C', AT_FDCWD, path, path, mode)
NAMING(mkdirat, (int dirfd, const char *path, mode_t mode), 'C', dirfd, path,
       dirfd, path, mode)
NAMING(symlink, (const char *to, const char *path), 'C', AT_FDCWD, path, to, path)
NAMING(symlinkat, (const char *to, int dirfd, const char *path), 'C', dirfd, path,
       to, dirfd, path)
NAMING(link, (const char *from, const char *path), 'L', AT_FDCWD, path, from, path)
NAMING(linkat, (int from_fd, const char *from, int dirfd, const char *path, int flags),
       'L', dirfd, path, from_fd, from, dirfd, path, flags)

#define UNNAMING(name, parameters, dirfd, ...)                              \
    int name parameters {                                                   \
        struct target target;                                               \
        look(&target, dirfd, path);                                         \
        keep(&target);                                                      \
        int result = REAL(name)(__VA_ARGS__);                               \
        if (!result && target.parent >= 0)                                  \
            record('U', now(), target.ino, &target.place, NULL,             \
                   target.mode, NULL);                                      \
        forget(&target);                                                    \
        return result;                                                      \
    }
UNNAMING(unlink, (const char *path), AT_FDCWD, path)
UNNAMING(unlinkat, (int dirfd, const char *path, int flags), dirfd, dirfd, path, flags)
UNNAMING(rmdir, (const char *path), AT_FDCWD, path)

int remove(const char *path) {
    int result = unlink(path);
    return result && errno == EISDIR ? rmdir(path) : result;
}

static void
after_rename(struct target *from, struct target *to, int result, unsigned flags)
{
    if (!result && from->ino != to->ino && (from->parent >= 0 || to->parent >= 0)) {
        unsigned long long moved = from->ino;
        struct stat st = { .st_mode = from->mode };
        if (!moved && !fstatat(to->parent, to->place.name, &st, AT_SYMLINK_NOFOLLOW))
            moved = st.st_ino;
        record(flags & RENAME_EXCHANGE ? 'X' : 'R', now(), moved, &from->place,
               &to->place, flags & RENAME_EXCHANGE ? (long long)to->ino : st.st_mode,
               NULL);
    }
    forget(from);
    forget(to);
}

#define RENAME(name, parameters, fd, new_fd, flags, ...)                    \
    int name parameters {                                                   \
        struct target from, to;                                             \
        look(&from, fd, path);                                              \
        look(&to, new_fd, new_path);                                        \
        keep(to.parent < 0 ? &from : &to);                                  \
        int result = REAL(name)(__VA_ARGS__);                               \
        after_rename(&from, &to, result, flags);                            \
        return result;                                                      \
    }
RENAME(rename, (const char *path, const char *new_path), AT_FDCWD, AT_FDCWD, 0,
       path, new_path)
RENAME(renameat, (int fd, const char *path, int new_fd, const char *new_path),
       fd, new_fd, 0, fd, path, new_fd, new_path)
RENAME(renameat2, (int fd, const char *path, int new_fd, const char *new_path,
                   unsigned flags), fd, new_fd, flags, fd, path, new_fd, new_path,
       flags)

// Content

static void
after_truncate(int fd, int result, long long length)
{
    struct place place;
    struct stat st;
    if (!result && describe(fd, &place, &st))
        record('T', now(), st.st_ino, &place, NULL, length, NULL);
}

#define TRUNCATE(name, offset)                                  \
    int f##name(int fd, offset length) {                        \
        int result = REAL(f##name)(fd, length);                 \
        after_truncate(fd, result, length);                     \
        return result;                                          \
    }                                                           \
    int name(const char *path, offset length) {                 \
        int result = REAL(name)(path, length);                  \
        int fd = result ? -1 : raw_open(path, O_PATH);          \
        after_truncate(fd, result, length);                     \
        if (fd >= 0)                                            \
            close(fd);                                          \
        return result;                                          \
    }
TRUNCATE(truncate, off_t)
TRUNCATE(truncate64, off64_t)

static void
after_sync(char kind, unsigned long long stamp, const struct stat *st,
           const struct place *place, long long offset, const struct copy *copy)
{
    if (copy->fd < 0)
        record('E', stamp, st->st_ino, place, NULL, -1 - copy->fd, "copy");
    else
        record(kind, stamp, st->st_ino, place, NULL, offset, copy->name);
}

#define SYNC(name)                                                          \
    int name(int fd) {                                                      \
        struct place place;                                                 \
        struct stat st;                                                     \
        struct copy copy;                                                   \
        if (!describe(fd, &place, &st)                                      \
            || !(S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)))               \
            return REAL(name)(fd);                                          \
        /* Only what was written before the call is sure to be covered. */  \
        unsigned long long stamp = now();                                   \
        if (S_ISDIR(st.st_mode))                                            \
            copy_entries(&copy, stamp, fd);                                 \
        else                                                                \
            copy_content(&copy, stamp, fd, 0, LLONG_MAX);                   \
        int result = REAL(name)(fd);                                        \
        if (!result)                                                        \
            after_sync(S_ISDIR(st.st_mode) ? 'D' : 'F', stamp, &st, &place, \
                       0, &copy);                                           \
        return result;                                                      \
    }
SYNC(fsync)
SYNC(fdatasync)

static ssize_t
after_write(int fd, ssize_t count, off64_t offset, int flags)
{
    struct place place;
    struct stat st;
    struct copy copy;
    if (count <= 0 || !(dsync_in_use || (flags & (RWF_DSYNC | RWF_SYNC))))
        return count;
    int saved = errno, status = fcntl(fd, F_GETFL);
    if (((status & O_DSYNC) || (flags & (RWF_DSYNC | RWF_SYNC)))
        && describe(fd, &place, &st)) {
        if (status & O_APPEND)
            offset = st.st_size - count;
        else if (offset < 0)
            offset = lseek(fd, 0, SEEK_CUR) - count;
        unsigned long long stamp = now();
        copy_content(&copy, stamp, fd, offset, offset + count);
        after_sync('W', stamp, &st, &place, offset, &copy);
    }
    errno = saved;
    return count;
}

#define WRITE(name, parameters, fd, offset, flags, ...)                     \
    ssize_t name parameters {                                               \
        return after_write(fd, REAL(name)(__VA_ARGS__), offset, flags);     \
    }
WRITE(write, (int fd, const void *bytes, size_t count), fd, -1, 0, fd, bytes, count)
WRITE(writev, (int fd, const struct iovec *v, int n), fd, -1, 0, fd, v, n)
WRITE(pwrite, (int fd, const void *bytes, size_t count, off_t at), fd, at, 0,
      fd, bytes, count, at)
WRITE(pwrite64, (int fd, const void *bytes, size_t count, off64_t at), fd, at, 0,
      fd, bytes, count, at)
WRITE(pwritev, (int fd, const struct iovec *v, int n, off_t at), fd, at, 0, fd, v, n,
      at)
WRITE(pwritev64, (int fd, const struct iovec *v, int n, off64_t at), fd, at, 0,
      fd, v, n, at)
WRITE(pwritev2, (int fd, const struct iovec *v, int n, off_t at, int flags),
      fd, at, flags, fd, v, n, at, flags)
WRITE(pwritev64v2, (int fd, const struct iovec *v, int n, off64_t at, int flags),
      fd, at, flags, fd, v, n, at, flags)

int
msync(void *address, size_t length, int flags)
{
    char line[PATH_MAX + 256];
    unsigned long long stamp = now();
    int result = REAL(msync)(address, length, flags), saved = errno;
    FILE *maps = result || !(flags & MS_SYNC) || !is_on()
        ? NULL : REAL(fopen)("/proc/self/maps", "re");
    while (maps && fgets(line, sizeof line, maps)) {
        uintptr_t from, to, begin = (uintptr_t)address, end = begin + length;
        unsigned long long offset, ino;
        char access[5];
        struct copy copy;
        struct stat st;
        int path = 0;
        if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " %4s %llx %*s %llu %n", &from, &to,
                   access, &offset, &ino, &path) < 5 || access[3] != 's')
            continue;
        line[strcspn(line, "\n")] = 0;
        begin = begin > from ? begin : from;
        end = end < to ? end : to;
        if (begin >= end || !path || !is_below(line + path) || stat(line + path, &st)
            || st.st_ino != ino)
            continue;
        offset += begin - from;
        if (offset >= (unsigned long long)st.st_size)
            continue;
        if (end - begin > st.st_size - offset)
            end = begin + (st.st_size - offset);
        copy_memory(&copy, stamp, (const char *)begin, end - begin);
        after_sync('W', stamp, &st, NULL, offset, &copy);
    }
    if (maps)
        fclose(maps);
    errno = saved;
    return result;
}

// What these make durable is not copied: disk.py refuses to judge a run with one.
void sync(void) {
    REAL(sync)();
    if (is_on())
        record('E', now(), 0, NULL, NULL, 0, "sync()");
}
int syncfs(int fd) {
    if (is_on())
        record('E', now(), 0, NULL, NULL, 0, "syncfs()");
    return REAL(syncfs)(fd);
}
