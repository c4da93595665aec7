// Plays single steps of a host that stands in for Envoy (envoy.h) on one thread, as the commands on the standard input ask for them.
// crates/testkit/src/native_process.rs is the other side, and explains the commands.
//
//     player MODULE

#include "envoy.h"

#include <stdio.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { STREAMS_MAX = 1024 };

struct Config { void *plugin; };

static Config config;
static Stream streams[STREAMS_MAX];

// The C library's own allocator, behind the one that counts.
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *memory, size_t size);

void *malloc(size_t size) {
  allocations++;
  return __libc_malloc(size);
}
void *calloc(size_t count, size_t size) {
  allocations++;
  return __libc_calloc(count, size);
}
void *realloc(void *memory, size_t size) {
  allocations++;
  return __libc_realloc(memory, size);
}

// The wall clock stands still, and random bits are the same in every run.
int clock_gettime(clockid_t clock, struct timespec *time) {
  if (clock != CLOCK_REALTIME) return (int)syscall(SYS_clock_gettime, clock, time);
  *time = (struct timespec){.tv_sec = 1795392000};
  return 0;
}
ssize_t getrandom(void *buffer, size_t len, unsigned flags) {
  (void)flags;
  static _Thread_local uint64_t state;
  for (size_t at = 0; at < len; at++) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    ((unsigned char *)buffer)[at] = (unsigned char)(state >> 56);
  }
  return (ssize_t)len;
}

void on_log(unsigned level, Bytes line) {
  if (level >= 4) fprintf(stderr, "%.*s\n", (int)line.len, line.data);
}
void on_header(Stream *stream, unsigned kind, Bytes name, Bytes value) { (void)stream, (void)kind, (void)name, (void)value; }
void on_metric(size_t id, Bytes *values, size_t count, uint64_t by, bool is_gauge) {
  (void)id, (void)values, (void)count, (void)by, (void)is_gauge;
}
int on_call(const Call *call, uint64_t *id) {
  static uint64_t calls;
  (void)call, *id = calls++;
  return 0;
}
void on_commit(Config *of) { (void)of; }

// Reads `len` bytes that follow a command.
static Bytes read_bytes(size_t len) {
  char *data = malloc(len + 1);
  if (fread(data, 1, len, stdin) != len) exit(2);
  return (Bytes){data, len};
}

// Reads the headers that follow a command: lines with `NAME=VALUE`.
static void read_headers(Map *map, size_t len) {
  Bytes lines = read_bytes(len);
  const char *at = lines.data, *end = at + len;
  while (at < end) {
    const char *middle = memchr(at, '=', (size_t)(end - at));
    const char *line_end = middle ? memchr(middle, '\n', (size_t)(end - middle)) : NULL;
    if (!line_end) abort();
    add(map, (Bytes){at, (size_t)(middle - at)}, (Bytes){middle + 1, (size_t)(line_end - middle) - 1});
    at = line_end + 1;
  }
  free((char *)lines.data);
}

static void play_request(Stream *stream, unsigned worker, size_t len) {
  *stream = (Stream){.worker = worker};
  read_headers(&stream->request, len);
  lent_calls = allocations = 0;
  stream->filter = filter_new(config.plugin, stream);
  request_headers(stream, stream->filter, true);
}

static void play_response(Stream *stream, size_t len) {
  read_headers(&stream->response, len);
  stream->status = 200;
  lent_calls = allocations = 0;
  response_headers(stream, stream->filter, false);
  stream_complete(stream, stream->filter);
  filter_destroy(stream->filter);
  clear(&stream->request), clear(&stream->response);
}

int main(int count, char **arguments) {
  if (count != 2) return 2;
  load(arguments[1]);
  char line[256], command[16];
  while (fgets(line, sizeof line, stdin)) {
    unsigned long a = 0, b = 0, c = 0;
    if (sscanf(line, "%15s %lu %lu %lu", command, &a, &b, &c) < 1) return 2;
    if (is_same(text(command), text("config"))) {
      Bytes plugin = read_bytes(a);
      config.plugin = config_new(&config, text("sim"), plugin);
      free((char *)plugin.data);
      if (!config.plugin) return 2;
    } else if (is_same(text(command), text("request"))) {
      play_request(&streams[a % STREAMS_MAX], (unsigned)b, c);
    } else if (is_same(text(command), text("response"))) {
      play_response(&streams[a % STREAMS_MAX], b);
    } else if (is_same(text(command), text("tick"))) {
      config_scheduled(&config, config.plugin, 0);
    } else {
      return 2;
    }
    printf("done %lu %lu\n", (unsigned long)lent_calls, (unsigned long)allocations);
    fflush(stdout);
  }
  if (config.plugin) config_destroy(config.plugin);
  return 0;
}
