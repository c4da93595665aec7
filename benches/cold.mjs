// The cost of a request in V8, which is the runtime of Envoy too, with nothing of the module left in the processor's
// nearest caches: between two callbacks a proxy runs through its own code, and so does this. The host is a few JavaScript
// functions, which hide less of the difference between modules than a proxy does; see `make cold`.
//
//   node --no-liftoff --no-wasm-lazy-compilation benches/cold.mjs MODULE... [MODULE+events]...
import {block, load, range, start as startVm} from './vm.mjs';

const REQUESTS = Number(process.env.REQUESTS ?? 10_000);
// Few enough that the events of all wait in the module: no service takes them.
const VISITORS = 500;
const REQUESTS_PER_VISITOR = 10;
// VMs of each module: the place of a VM's memory makes a third of a microsecond.
const VMS = 3;
// The code that runs, and the data that is read, between two callbacks.
const CODE_KIB = 200, DATA_KIB = 256;

const requests = range(VISITORS, visitor => block([
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
  const experiments = range(5, number => ({
    key: `experiment-${number}`, state: 'running', route: {paths: ['/shop*']},
    variants: [{key: 'control', weight: 5000, baseline: true}, {key: 'treatment', weight: 5000}],
  }));
  const plugin = {experiments: {inline: {schema: 1, revision: 'r1', experiments}}, visitor: {id: [{cookie: 'uid'}]}};
  return events ? {...plugin, events: {cluster: 'collector'}} : plugin;
}

/** Shared data that stays empty: all events wait in the module. */
const NO_SHARED_DATA = {get() {}, set() {}};

/** A VM with the module `name`: `one` handles a request and its response, `take` returns the medians in microseconds. */
function start(name) {
  const events = name.endsWith('+events');
  const module = load(events ? name.slice(0, -'+events'.length) : name);
  const vm = startVm(module, configuration(events), NO_SHARED_DATA), {exports} = vm;
  if (!vm.isConfigured) throw new Error(`${name} refuses its configuration: LOG=1 prints why`);
  const times = {request: [], response: []};
  let stream = 1;
  const one = between => {
    const me = ++stream;
    vm.headers = requests[Math.floor(me / REQUESTS_PER_VISITOR) % VISITORS];
    between(me);
    const begin = performance.now();
    exports.proxy_on_context_create(me, 1);
    exports.proxy_on_request_headers(me, 15, 1);
    const asked = performance.now();
    vm.headers = response;
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
    const taken = {request: middle(times.request), response: middle(times.response), calls: vm.headerCalls / times.request.length};
    times.request = [], times.response = [], vm.headerCalls = 0;
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
  const small = range(functions, at =>
    body([0, GET, 0, CONST, ...signed(at * 7919 | 0x10001), XOR, CONST, ...signed(at * 31 & 0xffffff | 1), MUL, END]));
  const calls = range(functions, at => [GET, 0, CALL, ...number(at), SET, 0]).flat();
  const read = [CONST, 0, SET, 1, 0x03, 0x40, GET, 1, LOAD, 2, 0, GET, 0, ADD, SET, 0, GET, 1, CONST, ...signed(64), ADD,
    0x22, 1, CONST, ...signed(DATA_KIB * 1024), 0x48, 0x0d, 0, END, GET, 0, END];
  const bytes = [0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, ...section(1, list([[0x60, 1, I32, 1, I32]])),
    ...section(3, list(Array(functions + 1).fill([0]))), ...section(5, list([[0, ...number(DATA_KIB / 64 + 1)]])),
    ...section(7, list([[1, 0x66, 0, ...number(functions)]])),
    ...section(10, list([...small, body([1, 1, I32, ...calls, ...read])]))];
  return new WebAssembly.Instance(new WebAssembly.Module(new Uint8Array(bytes))).exports.f;
}

const names = process.argv.slice(2);
if (names.length === 0) throw new Error('no module is given');
// Another module is first in each round.
const rounds = range(VMS, first => [...names.slice(first % names.length), ...names.slice(0, first % names.length)]);
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
// In the first run, all visitors are new.
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
