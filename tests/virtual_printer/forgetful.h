// What the preloaded library writes down, shared by its two halves
//
// Copyright (C) 2026  The klipper-power-loss-recovery authors
// This file may be distributed under the terms of the GNU GPLv3 license.
#ifndef FORGETFUL_H
#define FORGETFUL_H

#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <sys/types.h>

struct place {
    unsigned long long folder;  // inode; 0 when not below the data folder
    char name[NAME_MAX + 1];
};

// One name that a call is about to change
struct target {
    int parent;  // -1 when not below the data folder
    struct place place;
    unsigned long long ino;  // 0 when there is no such name
    mode_t mode;
};

struct copy {
    int fd;  // -1 - errno once it failed
    char name[48];
};

#pragma GCC visibility push(hidden)

// False before the library has found its folders, and without them.
int is_on(void);
int is_below(const char *path);
unsigned long long now(void);
// As open(), past the wrappers
int raw_open(const char *path, int flags);
const char *store_folder(void);
void record(char kind, unsigned long long stamp, unsigned long long ino,
            const struct place *a, const struct place *b, long long number,
            const char *copy);
void copy_memory(struct copy *copy, unsigned long long stamp, const char *bytes,
                 size_t count);
void copy_content(struct copy *copy, unsigned long long stamp, int fd, off64_t from,
                  off64_t to);
void copy_entries(struct copy *copy, unsigned long long stamp, int fd);
// Where an open file is; false when it never was below the data folder.
int describe(int fd, struct place *place, struct stat *st);
void look(struct target *target, int dirfd, const char *path);
void forget(struct target *target);

#pragma GCC visibility pop

#endif
