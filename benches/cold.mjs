// What a request costs a module in V8, which is the runtime of Envoy too, with nothing of the module left in the processor's
// nearest caches: between two callbacks a proxy runs through its own code, and so does this. The host's own part is a few
// JavaScript functions, so that what modules differ in is seen better than in a proxy; see `make cold`.
//
//   node --no-liftoff --no-wasm-lazy-compilation benches/cold.mjs MODULE... [MODULE+events]...
import fs from 'node:fs';

const REQUESTS = Number(process.env.REQUESTS ?? 10_000);
// Few enough that the events of all wait in the module: nobody fetches them.
const VISITORS = 500;
const REQUESTS_PER_VISITOR = 10;
// VMs of each module: where one's memory happens to lie makes a third of a microsecond.
const VMS = 3;
// What is run through and read between two callbacks.
const CODE_KIB = 200, DATA_KIB = 256;

const encoder = new TextEncoder();

/** Headers as the proxy hands them over: numbers of pairs and lengths, then names and values, a NUL behind each. */
function block(headers) {
  const texts = headers.flat().map(text => encoder.encode(text));
  const head = 4 + 4 * texts.length;
  const bytes = new Uint8Array(texts.reduce((size, text) => size + text.length + 1, head));
  const view = new DataView(bytes.buffer);
  view.setUint32(0, headers.length, true);
  let at = head;
  texts.forEach((text, number) => {
    view.setUint32(4 + 4 * number, text.length, true);
    bytes.set(text, at);
    at += text.length + 1;
  });
  return bytes;
}

const requests = Array.from({length: VISITORS}, (_, visitor) => block([
  [':authority', 'shop.example'], [':path', '/shop/direct'], [':method', 'GET'], [':scheme', 'http'],
  ['user-agent', 'Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0'],
  ['accept', 'text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8'], ['accept-language', 'en-US,en;q=0.5'],
  ['accept-encoding', 'gzip, deflate, br, zstd'], ['upgrade-insecure-requests', '1'], ['sec-fetch-dest', 'document'],
  ['sec-fetch-mode', 'navigate'], ['referer', 'https://shop.example/'],
  ['cookie', `session=8f14e45fceea167a5a36dedd4bea2543; uid=visitor-${visitor}; theme=dark`],
  ['x-forwarded-proto', 'http'], ['x-request-id', '6f1e45fc-eea1-4a5a-b6de-dd4bea2543aa'],
]));
const response = block([[':status', '200'], ['content-length', '2'], ['content-type', 'text/plain'], ['server', 'envoy']]);

function configuration(events) {
  const experiments = Array.from({length: 5}, (_, number) => ({
    key: `experiment-${number}`, state: 'running', route: {paths: ['/shop*']},
    variants: [{key: 'control', weight: 5000, baseline: true}, {key: 'treatment', weight: 5000}],
  }));
  const plugin = {experiments: {inline: {schema: 1, revision: 'r1', experiments}}, visitor: {id: [{cookie: 'uid'}]}};
  return encoder.encode(JSON.stringify(events ? {...plugin, events: {cluster: 'collector'}} : plugin));
}

/** A VM with `module`: gives what handles a request and its response, and for how many microseconds each. */
function start(name) {
  const events = name.endsWith('+events');
  const module = new WebAssembly.Module(fs.readFileSync(events ? name.slice(0, -'+events'.length) : name));
  const plugin = configuration(events);
  let exports, bytes, view, headers, calls = 0;
  const refresh = () => {
    if (bytes?.buffer !== exports.memory.buffer) {
      bytes = new Uint8Array(exports.memory.buffer);
      view = new DataView(exports.memory.buffer);
    }
  };
  const give = (given, address, length) => {
    const at = exports.proxy_on_memory_allocate(given.length);
    refresh();
    bytes.set(given, at);
    view.setUint32(address, at, true);
    view.setUint32(length, given.length, true);
    return 0;
  };
  const NOT_FOUND = 1;
  const host = {
    proxy_log: (level, at, length) => (refresh(), level > 2 && console.error(new TextDecoder().decode(bytes.subarray(at, at + length))), 0),
    proxy_get_current_time_nanoseconds: at => (refresh(), view.setBigUint64(at, 1795392000000000000n, true), 0),
    proxy_get_buffer_bytes: (_kind, _start, max, address, length) => give(plugin.subarray(0, max), address, length),
    proxy_get_header_map_pairs: (_map, address, length) => (calls++, give(headers, address, length)),
    proxy_add_header_map_value: () => (calls++, 0),
    proxy_get_property: () => NOT_FOUND,
    proxy_get_shared_data: () => NOT_FOUND,
    proxy_define_metric: (_kind, _name, _length, id) => (refresh(), view.setUint32(id, 7, true), 0),
    proxy_http_call: (...all) => (refresh(), view.setUint32(all.at(-1), 9, true), 0),
    random_get: (at, length) => (refresh(), crypto.getRandomValues(bytes.subarray(at, at + length)), 0),
    environ_sizes_get: (count, size) => (refresh(), view.setUint32(count, 0, true), view.setUint32(size, 0, true), 0),
  };
  const imports = {};
  for (const {module: from, name} of WebAssembly.Module.imports(module)) {
    (imports[from] ??= {})[name] = host[name] ?? (() => 0);
  }
  exports = new WebAssembly.Instance(module, imports).exports;
  exports._initialize?.();
  exports.proxy_on_context_create(1, 0);
  exports.proxy_on_vm_start(1, 0);
  if (exports.proxy_on_configure(1, plugin.length) !== 1) throw new Error(`${name} refuses its configuration`);
  const times = {request: [], response: []};
  let stream = 1;
  const one = between => {
    const me = ++stream;
    headers = requests[Math.floor(me / REQUESTS_PER_VISITOR) % VISITORS];
    between(me);
    const begin = performance.now();
    exports.proxy_on_context_create(me, 1);
    exports.proxy_on_request_headers(me, 15, 1);
    const asked = performance.now();
    headers = response;
    between(me);
    const answered = performance.now();
    exports.proxy_on_response_headers(me, 4, 0);
    exports.proxy_on_done(me);
    exports.proxy_on_delete(me);
    times.request.push(asked - begin);
    times.response.push(performance.now() - answered);
    if (me % 500 === 0) exports.proxy_on_tick(1);
  };
  const take = () => {
    const middle = list => list.slice(list.length / 5).sort((a, b) => a - b)[Math.floor(list.length * 0.4)] * 1_000;
    const taken = {request: middle(times.request), response: middle(times.response), calls: calls / times.request.length};
    times.request = [], times.response = [], calls = 0;
    return taken;
  };
  return {name, one, take};
}

/** A module of many small functions, one after the other in memory: running through them pushes everything else out. */
function flood() {
  const number = value => {
    const bytes = [];
    do {
      const low = value & 127;
      value >>>= 7;
      bytes.push(value ? low | 128 : low);
    } while (value);
    return bytes;
  };
  const signed = value => {
    for (const bytes = []; ; value >>= 7) {
      const last = value >> 6 === 0 || value >> 6 === -1;
      bytes.push(last ? value & 127 : (value & 127) | 128);
      if (last) return bytes;
    }
  };
  const section = (id, bytes) => [id, ...number(bytes.length), ...bytes];
  const list = items => [...number(items.length), ...items.flat()];
  const body = code => [...number(code.length), ...code];
  const [I32, GET, SET, CONST, ADD, MUL, XOR, CALL, LOAD, END] = [0x7f, 0x20, 0x21, 0x41, 0x6a, 0x6c, 0x73, 0x10, 0x28, 0x0b];
  const functions = CODE_KIB * 8;
  const small = Array.from({length: functions}, (_, at) =>
    body([0, GET, 0, CONST, ...signed(at * 7919 | 0x10001), XOR, CONST, ...signed(at * 31 & 0xffffff | 1), MUL, END]));
  const calls = Array.from({length: functions}, (_, at) => [GET, 0, CALL, ...number(at), SET, 0]).flat();
  const read = [CONST, 0, SET, 1, 0x03, 0x40, GET, 1, LOAD, 2, 0, GET, 0, ADD, SET, 0, GET, 1, CONST, ...signed(64), ADD,
    0x22, 1, CONST, ...signed(DATA_KIB * 1024), 0x48, 0x0d, 0, END, GET, 0, END];
  const bytes = [0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, ...section(1, list([[0x60, 1, I32, 1, I32]])),
    ...section(3, list(Array(functions + 1).fill([0]))), ...section(5, list([[0, ...number(DATA_KIB / 64 + 1)]])),
    ...section(7, list([[1, 0x66, 0, ...number(functions)]])),
    ...section(10, list([...small, body([1, 1, I32, ...calls, ...read])]))];
  return new WebAssembly.Instance(new WebAssembly.Module(new Uint8Array(bytes))).exports.f;
}

const names = process.argv.slice(2);
if (names.length === 0) throw new Error('which modules?');
// Another one first each time.
const rounds = Array.from({length: VMS}, (_, first) => [...names.slice(first % names.length), ...names.slice(0, first % names.length)]);
const vms = rounds.flat().map(start);
const middle = list => list.sort((a, b) => a - b)[Math.floor(list.length / 2)];
const measure = between => {
  for (let number = 0; number < REQUESTS; number++) for (const vm of vms) vm.one(between);
  const taken = vms.map(vm => ({name: vm.name, ...vm.take()}));
  return names.map(name => {
    const of = kind => middle(taken.filter(one => one.name === name).map(one => one[kind]));
    return {request: of('request'), response: of('response'), calls: of('calls')};
  });
};
// The first time, everybody is new.
measure(() => {});
const warm = measure(() => {}), cold = measure(flood());
const cell = value => value.toFixed(2).padStart(10);
console.log(`microseconds, medians of ${REQUESTS} known visitors' requests, and of ${VMS} VMs each`);
console.log(`${' '.repeat(46)}    request   response        sum above first     | warm caches`);
names.forEach((name, at) => {
  const sum = ({request, response}) => request + response;
  console.log(name.padEnd(46), cell(cold[at].request), cell(cold[at].response), cell(sum(cold[at])),
    cell(sum(cold[at]) - sum(cold[0])), '   |', cell(sum(warm[at])), `  (${cold[at].calls.toFixed(1)} host calls)`);
});
