// Drives the native module's hooks with requests of many visitors, hostile ones among them, from several threads, in a host that
// stands in for Envoy (envoy.h). tests/native_host.rs runs it, with valgrind too: every text of the host's is a block of its own
// and is freed as soon as Envoy's rules allow it. `make build` counts the branches of these requests (xtask/src/native.rs).
//
//     stress MODULE PLUGIN EXPERIMENTS REQUESTS ROUNDS SECONDS
//
// In every round, a new config replaces the one before, and each worker thread sends REQUESTS requests. There are ROUNDS, and more
// until SECONDS have passed.

#include "envoy.h"

#include <pthread.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

enum { CALLS_MAX = 256, VISITORS = 50000 };

typedef struct { uint64_t id; bool is_fetch; } Open;
typedef struct { void *plugin; unsigned worker, requests; } Task;
struct Config { bool is_due, has_ticked; Open calls[CALLS_MAX]; size_t call_count; void *plugin; };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t panics, events_emitted, calls_made, ticks, streams, next_call;
static char *plugin_text, *experiments_text;

void on_log(unsigned level, Bytes line) {
  if (level >= 4) fprintf(stderr, "%.*s\n", (int)line.len, line.data);
}
void on_header(Stream *stream, unsigned kind, Bytes name, Bytes value) { (void)stream, (void)kind, (void)name, (void)value; }
void on_metric(Config *config, size_t id, Bytes *values, size_t count, uint64_t by, bool is_gauge) {
  (void)config, (void)values, (void)count, (void)is_gauge;
  pthread_mutex_lock(&lock);
  if (strstr(metric_names[id], ".errors.panic")) panics += by;
  if (strstr(metric_names[id], ".events.emitted")) events_emitted += by;
  pthread_mutex_unlock(&lock);
}
// Calls start on the main thread only, like ticks and replies.
int on_call(const Call *call, uint64_t *id) {
  Config *config = call->config;
  if (config->call_count == CALLS_MAX) return 2;
  *id = next_call++, calls_made++;
  config->calls[config->call_count++] = (Open){*id, is_same(call->cluster, text("experiments"))};
  return 0;
}
void on_commit(Config *config) {
  pthread_mutex_lock(&lock);
  config->is_due = true;
  pthread_mutex_unlock(&lock);
}

// The work of the main thread for a config: a tick if one is due, and the replies to its calls.
static void serve(Config *config) {
  pthread_mutex_lock(&lock);
  bool is_due = config->is_due;
  config->is_due = false;
  pthread_mutex_unlock(&lock);
  if (is_due) config_scheduled(config, config->plugin, 0), config->has_ticked = true, ticks++;
  static const char *const STATUSES[] = {"200", "200", "200", "503", "413", "429", "400"};
  Open calls[CALLS_MAX];
  size_t count = config->call_count;
  memcpy(calls, config->calls, sizeof calls);
  config->call_count = 0;
  for (size_t at = 0; at < count; at++) {
    Open call = calls[at];
    if (call.id % 9 == 8) {
      callout_done(config, config->plugin, call.id, 1, NULL, 0, NULL, 0);
      continue;
    }
    const char *status = call.is_fetch ? "200" : STATUSES[call.id % 7];
    Header header = {copy(text(":status")), copy(text(status))};
    Bytes body = copy(text(call.is_fetch ? experiments_text : ""));
    Bytes chunks[] = {{body.data, body.len / 2}, {NULL, 0}, {body.data + body.len / 2, body.len - body.len / 2}};
    callout_done(config, config->plugin, call.id, 0, &header, 1, chunks, 3);
    free((char *)header.name.data), free((char *)header.value.data), free((char *)body.data);
  }
}

static void header(Map *map, const char *name, const char *value) { add(map, text(name), text(value)); }

// Bytes of any kind, also such that no client should send.
static void hostile(Map *map, const char *name, unsigned *seed) {
  char value[2048];
  size_t len = (size_t)rand_r(seed) % sizeof value;
  for (size_t at = 0; at < len; at++) value[at] = (char)(rand_r(seed) % 255 + 1);
  add(map, text(name), (Bytes){value, len});
}

static void request(Stream *stream, unsigned *seed, unsigned number) {
  static const char *const PATHS[] = {"/checkout?ref=1", "/", "/api/orders", "/shop/1?a=%2&b", "//..%2f/checkout"};
  Map *map = &stream->request;
  char cookie[96], id[32];
  // A visitor sends a few requests, one after the other.
  unsigned long visitor = __atomic_load_n(&streams, __ATOMIC_RELAXED) / 10 % VISITORS;
  snprintf(cookie, sizeof cookie, "session=8f14e45f; uid=visitor-%lu; theme=dark", visitor);
  snprintf(id, sizeof id, "user-%lu", visitor);
  header(map, ":method", number % 7 ? "GET" : "POST");
  header(map, ":path", PATHS[number % 5]);
  header(map, ":authority", "shop.example");
  header(map, ":scheme", "https");
  header(map, "user-agent", number % 11 ? "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Firefox/145.0" : "Googlebot/2.1");
  header(map, "accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8");
  header(map, "accept-language", "en-US,en;q=0.5");
  header(map, "accept-encoding", "gzip, deflate, br, zstd");
  header(map, "referer", "https://shop.example/");
  header(map, "upgrade-insecure-requests", "1");
  header(map, "sec-fetch-dest", "document");
  header(map, "sec-fetch-mode", "navigate");
  header(map, "x-request-id", "c2f0e1a0-7d0b-4a39-9f5e-5a2b6b1d6f3a");
  header(map, "cookie", cookie);
  if (number % 3) header(map, "x-user-id", id);
  if (number % 5 == 0) header(map, "x-ab-assignments", "forged=yes"), header(map, "x_ab_cache_key", "forged");
  if (number % 13 == 0) hostile(map, "cookie", seed), hostile(map, "x-country", seed), hostile(map, "referer", seed);
  if (number % 17 == 0) add(map, text("x-empty"), (Bytes){NULL, 0});
}

static void *work(void *argument) {
  Task *task = argument;
  unsigned seed = task->worker + 1;
  for (unsigned number = 0; number < task->requests; number++) {
    Stream stream = {.worker = task->worker};
    request(&stream, &seed, number);
    stream.filter = filter_new(task->plugin, &stream);
    if (!stream.filter) abort();
    // Some requests are refused before the filters, and some clients leave before the response.
    bool is_stopped = number % 19 && request_headers(&stream, stream.filter, true) == 1;
    if (is_stopped != stream.is_answered) abort();
    if (!is_stopped && number % 23) {
      stream.status = number % 29 ? 200 : 503;
      header(&stream.response, ":status", number % 29 ? "200" : "503");
      header(&stream.response, "content-type", "text/html");
      header(&stream.response, "date", "Sat, 28 Nov 2026 00:00:00 GMT");
      header(&stream.response, "server", "envoy");
      header(&stream.response, "cache-control", "public, max-age=60");
      response_headers(&stream, stream.filter, false);
    }
    stream_complete(&stream, stream.filter);
    filter_destroy(stream.filter);
    clear(&stream.request), clear(&stream.response);
    __atomic_add_fetch(&streams, 1, __ATOMIC_RELAXED);
  }
  return NULL;
}

static long resident_kb(void) {
  long pages = 0;
  FILE *file = fopen("/proc/self/statm", "r");
  if (!file || fscanf(file, "%*d %ld", &pages) != 1) abort();
  fclose(file);
  return pages * sysconf(_SC_PAGESIZE) / 1024;
}

int main(int count, char **arguments) {
  if (count != 7) return 2;
  printf("ABI %s\n", load(arguments[1]));
  plugin_text = read_file(arguments[2]), experiments_text = read_file(arguments[3]);
  unsigned requests = (unsigned)atoi(arguments[4]), rounds = (unsigned)atoi(arguments[5]);
  time_t enough = time(NULL) + atoi(arguments[6]);

  Config *before = NULL;
  for (unsigned round = 0; round < rounds || time(NULL) < enough; round++) {
    Config *config = calloc(1, sizeof *config);
    config->plugin = config_new(config, text("demo"), text(plugin_text));
    if (!config->plugin) return fprintf(stderr, "the module refuses its configuration\n"), 2;
    Task tasks[WORKERS];
    pthread_t threads[WORKERS];
    uint64_t end = streams + (uint64_t)requests * WORKERS;
    for (unsigned worker = 0; worker < WORKERS; worker++) {
      tasks[worker] = (Task){config->plugin, worker, requests};
      if (pthread_create(&threads[worker], NULL, work, &tasks[worker])) abort();
    }
    // Each config ticks at least once, even if its requests take less time than that.
    while (__atomic_load_n(&streams, __ATOMIC_RELAXED) < end || !config->has_ticked) {
      usleep(1000);
      serve(config);
      // The config before it drains meanwhile.
      if (before) serve(before);
    }
    for (unsigned worker = 0; worker < WORKERS; worker++) pthread_join(threads[worker], NULL);
    if (before) config_destroy(before->plugin), free(before);
    before = config;
    printf("round %u: %lu requests, %ld kB resident\n", round + 1, (unsigned long)streams, resident_kb());
    fflush(stdout);
  }
  if (before) config_destroy(before->plugin), free(before);
  for (size_t at = 0; at < metric_count; at++) free(metric_names[at]);
  free(plugin_text), free(experiments_text);
  printf("%lu ticks, %lu calls, %lu events, %lu panics\n", (unsigned long)ticks, (unsigned long)calls_made,
         (unsigned long)events_emitted, (unsigned long)panics);
  return panics || !ticks || !calls_made || !events_emitted;
}
