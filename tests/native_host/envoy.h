// A host for the native module, in place of Envoy: the functions that Envoy lends, the header maps behind them, and the module's
// hooks. A program adds its own `on_…` functions and its `main`.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { WORKERS = 2, HEADERS_MAX = 64, METRICS_MAX = 512 };

typedef struct { const char *data; size_t len; } Bytes;
typedef struct { Bytes name, value; } Header;
typedef struct { Header list[HEADERS_MAX]; size_t count; } Map;
typedef struct { Map request, response; unsigned worker; uint64_t status; bool is_answered; void *filter; } Stream;
typedef struct Config Config;
typedef struct { Config *config; Bytes cluster, body; Header *headers; size_t header_count; uint64_t timeout_ms; } Call;

// The module's hooks.
extern void *(*config_new)(Config *, Bytes, Bytes);
extern void (*config_destroy)(void *);
extern void (*config_scheduled)(Config *, void *, uint64_t);
extern void (*callout_done)(Config *, void *, uint64_t, int, Header *, size_t, Bytes *, size_t);
extern void *(*filter_new)(void *, Stream *);
extern int (*request_headers)(Stream *, void *, bool);
extern int (*response_headers)(Stream *, void *, bool);
extern int (*local_reply)(Stream *, void *, uint32_t, Bytes, bool);
extern void (*stream_complete)(Stream *, void *);
extern void (*filter_destroy)(void *);

// Loads the module and gives its ABI version. Ends the program if that fails.
const char *load(const char *module);

// How many functions this thread has lent to the module, by calls.
extern _Thread_local uint64_t lent_calls;
// How often this thread has allocated memory, if the program counts that. The host's own allocations do not count.
extern _Thread_local uint64_t allocations;

extern char *metric_names[METRICS_MAX];
extern size_t metric_count;

Bytes text(const char *data);
Bytes copy(Bytes bytes);
bool is_same(Bytes a, Bytes b);
void add(Map *map, Bytes name, Bytes value);
void clear(Map *map);
char *read_file(const char *name);
// Reads all bytes, for valgrind.
unsigned touch(Bytes bytes);

// The parts of the host that differ between programs.
void on_log(unsigned level, Bytes line);
void on_header(Stream *stream, unsigned kind, Bytes name, Bytes value);
void on_metric(Config *config, size_t id, Bytes *values, size_t count, uint64_t by, bool is_gauge);
// Starts a call. 0 if it has started.
int on_call(const Call *call, uint64_t *id);
// Asks for a tick of the config, on any thread.
void on_commit(Config *config);
