// The records and copies of the preloaded library: the half without wrappers
//
// Copyright (C) 2026  The klipper-power-loss-recovery authors
// This file may be distributed under the terms of the GNU GPLv3 license.
//
// What a program does below $PLR_DISK_DATA goes to $PLR_DISK_STORE:
//
//   log          records of nine fields, each ended by NUL:
//                kind, stamp (ns), inode, folder's inode, name,
//                second folder's inode, second name, number, name of a copy
//   copies/NAME  what a sync made durable: a file's content, or a folder's
//                entries as inode NUL mode NUL name NUL
//   keep/INODE   a link to each file that lost a name: its content is needed
//                when the name comes back, and its inode must not be used again

#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "forgetful.h"

static char data[PATH_MAX], store[PATH_MAX];
static size_t data_length;

__attribute__((constructor)) static void
begin(void)
{
    const char *d = getenv("PLR_DISK_DATA"), *s = getenv("PLR_DISK_STORE");
    if (!d || !s || strlen(d) >= sizeof data || strlen(s) >= sizeof store - 64)
        return;
    strcpy(store, s);
    strcpy(data, d);
    data_length = strlen(data);
}

int
is_on(void)
{
    return data_length > 0;
}

const char *
store_folder(void)
{
    return store;
}

int
is_below(const char *path)
{
    return data_length && !strncmp(path, data, data_length)
        && (path[data_length] == '/' || !path[data_length]);
}

unsigned long long
now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ull + t.tv_nsec;
}

int
raw_open(const char *path, int flags)
{
    return syscall(SYS_openat, AT_FDCWD, path, flags | O_CLOEXEC | O_LARGEFILE, 0600);
}

static int
put(int fd, const char *bytes, size_t count)
{
    while (count) {
        ssize_t done = syscall(SYS_write, fd, bytes, count);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return -1;
        bytes += done;
        count -= done;
    }
    return 0;
}

void
record(char kind, unsigned long long stamp, unsigned long long ino,
       const struct place *a, const struct place *b, long long number,
       const char *copy)
{
    static const struct place none;
    char path[PATH_MAX + 64], line[2 * NAME_MAX + 256];
    int saved = errno;
    a = a ? a : &none;
    b = b ? b : &none;
    int length = snprintf(
        line, sizeof line, "%c%c%llu%c%llu%c%llu%c%s%c%llu%c%s%c%lld%c%s%c",
        kind, 0, stamp, 0, ino, 0, a->folder, 0, a->name, 0, b->folder, 0,
        b->name, 0, number, 0, copy ? copy : "", 0);
    snprintf(path, sizeof path, "%s/log", store);
    int fd = raw_open(path, O_WRONLY | O_APPEND);
    // A record that is lost would be a verdict that is wrong.
    if (fd < 0 || put(fd, line, length)) {
        dprintf(2, "forgetful disk: cannot write %s: %s\n", path, strerror(errno));
        abort();
    }
    close(fd);
    errno = saved;
}

static int
open_copy(struct copy *copy, unsigned long long stamp)
{
    char path[PATH_MAX + 128];
    snprintf(copy->name, sizeof copy->name, "%llu.%ld", stamp,
             (long)syscall(SYS_gettid));
    snprintf(path, sizeof path, "%s/copies/%s", store, copy->name);
    copy->fd = raw_open(path, O_WRONLY | O_CREAT | O_EXCL);
    if (copy->fd < 0)
        copy->fd = -1 - errno;
    return copy->fd;
}

static void
close_copy(struct copy *copy, int failed)
{
    int error = errno;
    close(copy->fd);
    copy->fd = failed ? -1 - error : 0;
}

void
copy_memory(struct copy *copy, unsigned long long stamp, const char *bytes,
            size_t count)
{
    if (open_copy(copy, stamp) >= 0)
        close_copy(copy, put(copy->fd, bytes, count));
}

void
copy_content(struct copy *copy, unsigned long long stamp, int fd, off64_t from,
             off64_t to)
{
    char buffer[32768] __attribute__((aligned(4096))), path[64];
    int in = fd, failed = 0;
    struct stat st;
    if (open_copy(copy, stamp) < 0)
        return;
    // To close a second descriptor would drop the locks that SQLite holds.
    if ((fcntl(fd, F_GETFL) & O_ACCMODE) == O_WRONLY) {
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        in = raw_open(path, O_RDONLY);
    }
    while (!failed && from < to) {
        off64_t left = to - from;
        size_t want = left < (off64_t)sizeof buffer ? (size_t)left : sizeof buffer;
        ssize_t done = pread64(in, buffer, want, from);
        if (done < 0 && errno == EINTR)
            continue;
        if (!done)
            break;
        failed = done < 0 || put(copy->fd, buffer, done);
        from += done;
    }
    if (!failed && !fstat(fd, &st)) {
        struct timespec times[2] = { st.st_atim, st.st_mtim };
        futimens(copy->fd, times);
    }
    close_copy(copy, failed);
    if (in != fd && in >= 0)
        close(in);
}

void
copy_entries(struct copy *copy, unsigned long long stamp, int fd)
{
    struct entry {
        uint64_t ino;
        int64_t offset;
        unsigned short length;
        unsigned char type;
        char name[];
    };
    char buffer[16384] __attribute__((aligned(8))), path[64];
    char line[NAME_MAX + 64];
    int failed = 0;
    long count = 0;
    if (open_copy(copy, stamp) < 0)
        return;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int in = raw_open(path, O_RDONLY | O_DIRECTORY);
    while (!failed && (count = syscall(SYS_getdents64, in, buffer, sizeof buffer)) > 0)
        for (long at = 0; at < count && !failed;) {
            struct entry *entry = (struct entry *)(buffer + at);
            struct stat st;
            at += entry->length;
            if (!strcmp(entry->name, ".") || !strcmp(entry->name, "..")
                || fstatat(in, entry->name, &st, AT_SYMLINK_NOFOLLOW))
                continue;
            failed = put(copy->fd, line, snprintf(
                line, sizeof line, "%llu%c%u%c%s%c",
                (unsigned long long)st.st_ino, 0, st.st_mode, 0, entry->name, 0));
        }
    close_copy(copy, failed || count < 0);
    if (in >= 0)
        close(in);
}

int
describe(int fd, struct place *place, struct stat *st)
{
    char link[64], path[PATH_MAX];
    struct stat named;
    int saved = errno;
    memset(place, 0, sizeof *place);
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = data_length ? readlink(link, path, sizeof path - 1) : -1;
    path[length < 0 ? 0 : length] = 0;
    int below = is_below(path) && !fstat(fd, st);
    char *base = strrchr(path, '/');
    // A file without a name shows as one that ends in " (deleted)".
    if (below && path[data_length] && !lstat(path, &named)
        && named.st_ino == st->st_ino && strlen(base + 1) <= NAME_MAX) {
        strcpy(place->name, base + 1);
        *base = 0;
        if (!stat(path, &named))
            place->folder = named.st_ino;
    }
    errno = saved;
    return below;
}

void
look(struct target *target, int dirfd, const char *path)
{
    char folder[PATH_MAX], link[64], real[PATH_MAX];
    struct stat st;
    int saved = errno;
    memset(target, 0, sizeof *target);
    target->parent = -1;
    size_t length = path && is_on() ? strlen(path) : 0;
    while (length > 1 && path[length - 1] == '/')
        length--;
    if (!length || length >= sizeof folder)
        return;
    memcpy(folder, path, length);
    folder[length] = 0;
    char *slash = strrchr(folder, '/'), *base = slash ? slash + 1 : folder;
    if (strlen(base) > NAME_MAX || !*base || !strcmp(base, ".") || !strcmp(base, ".."))
        return;
    strcpy(target->place.name, base);
    *base = 0;
    int parent = syscall(SYS_openat, dirfd, slash ? folder : ".",
                         O_PATH | O_DIRECTORY | O_CLOEXEC);
    snprintf(link, sizeof link, "/proc/self/fd/%d", parent);
    ssize_t got = parent < 0 ? -1 : readlink(link, real, sizeof real - 1);
    real[got < 0 ? 0 : got] = 0;
    if (is_below(real) && !fstat(parent, &st)) {
        target->parent = parent;
        target->place.folder = st.st_ino;
        if (!fstatat(parent, target->place.name, &st, AT_SYMLINK_NOFOLLOW)) {
            target->ino = st.st_ino;
            target->mode = st.st_mode;
        }
    } else if (parent >= 0)
        close(parent);
    errno = saved;
}

void
forget(struct target *target)
{
    if (target->parent >= 0)
        close(target->parent);
}
