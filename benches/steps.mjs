// The time that a new config holds a worker, in V8, which is the runtime of Envoy too: the longest callback between the
// fetch and the moment at which the config is in force, for configs at the limits. The minimum of several runs.
//
//   node --no-liftoff --no-wasm-lazy-compilation benches/steps.mjs MODULE
import fs from 'node:fs';

const RUNS = Number(process.env.RUNS ?? 3);
const encoder = new TextEncoder();
const module = new WebAssembly.Module(fs.readFileSync(process.argv[2] ?? 'dist/edgesplit.wasm'));

const range = (count, each) => Array.from({length: count}, (_, number) => each(number));
const variants = [{key: 'control', weight: 5000, baseline: true}, {key: 'treatment', weight: 5000}];
const experiment = (number, rest) => ({key: `experiment-${number}`, state: 'running', variants, ...rest});
const native = experiments => ({schema: 1, revision: 'r1', experiments});
const configs = {
  '20,000 experiments': ['native', native(range(20_000, number =>
    experiment(number, {route: {paths: [`/page-${number}/*`]}, audience: {country: {$in: ['DE', 'AT']}}})))],
  '300 experiments with 300 path patterns each': ['native', native(range(300, number =>
    experiment(number, {route: {paths: range(300, pattern => `/p${number}/*x${pattern}*`)}})))],
  '300 experiments with 300 `$regex` each': ['native', native(range(300, number =>
    experiment(number, {route: {paths: [`/page-${number}/*`]},
      audience: {$or: range(300, pattern => ({plan: {$regex: `^a${pattern}(b|c)+$`}}))}})))],
  '20 experiments with 4,000 path patterns each': ['native', native(range(20, number =>
    experiment(number, {route: {paths: range(4_000, pattern => `/p${number}*/x${pattern}*`)}})))],
  'one experiment of 4 MB': ['native', native([experiment(0, {forced: Object.fromEntries(
    range(150_000, number => [`visitor-number-${number}`, 'treatment']))})])],
  '20,000 features': ['growthbook', {features: Object.fromEntries(range(20_000, number => [`feature-${number}`, {
    defaultValue: false, rules: [{condition: {country: 'DE'}, variations: [false, true], weights: [0.5, 0.5],
      key: `experiment-${number}`}]}]))}],
  '5,000 flags with an experiment each': ['optimizely', {version: '4', accountId: '1', projectId: '1', revision: '1',
    attributes: [], events: [], audiences: [], groups: [], rollouts: [],
    featureFlags: range(5_000, number => ({id: `f${number}`, key: `flag-${number}`, rolloutId: '',
      experimentIds: [`e${number}`], variables: []})),
    experiments: range(5_000, number => ({id: `e${number}`, key: `experiment-${number}`, layerId: `l${number}`,
      status: 'Running', audienceIds: [], forcedVariations: {},
      variations: [{id: `a${number}`, key: 'off', featureEnabled: false}, {id: `b${number}`, key: 'on', featureEnabled: true}],
      trafficAllocation: [{entityId: `a${number}`, endOfRange: 5000}, {entityId: `b${number}`, endOfRange: 10000}]}))}],
};

/** The times of the callbacks of one swap, in ms. */
function swap(format, config) {
  const plugin = encoder.encode(JSON.stringify(
    {experiments: {format, cluster: 'experiments', max_bytes: 33554432}, visitor: {id: [{cookie: 'uid'}]}}));
  const body = encoder.encode(JSON.stringify(config));
  let exports, bytes, view, call = 0, period = 0, given = plugin;
  const refresh = () => {
    if (bytes?.buffer !== exports.memory.buffer) {
      bytes = new Uint8Array(exports.memory.buffer);
      view = new DataView(exports.memory.buffer);
    }
  };
  const give = (text, address, length) => {
    const at = exports.proxy_on_memory_allocate(text.length);
    refresh();
    bytes.set(text, at);
    view.setUint32(address, at, true);
    view.setUint32(length, text.length, true);
    return 0;
  };
  const status = new Uint8Array([1, 0, 0, 0, 7, 0, 0, 0, 3, 0, 0, 0, ...encoder.encode(':status\x00200\x00')]);
  const shared = new Map();
  const text = (at, length) => (refresh(), new TextDecoder().decode(bytes.subarray(at, at + length)));
  const host = {
    proxy_get_current_time_nanoseconds: at => (refresh(), view.setBigUint64(at, 1795392000000000000n, true), 0),
    proxy_get_buffer_bytes: (_kind, start, max, address, length) => give(given.subarray(start, start + max), address, length),
    proxy_get_header_map_pairs: (_map, address, length) => give(status, address, length),
    proxy_get_header_map_value: (_map, _at, _length, address, length) => give(encoder.encode('200'), address, length),
    proxy_get_property: () => 1,
    proxy_get_shared_data: (at, size, address, length, cas) => {
      const value = shared.get(text(at, size));
      if (!value) return 1;
      view.setUint32(cas, 1, true);
      return give(value, address, length);
    },
    proxy_set_shared_data: (at, size, value, length) => {
      const key = text(at, size);
      shared.set(key, bytes.slice(value, value + length));
      return 0;
    },
    proxy_define_metric: (_kind, _name, _length, id) => (refresh(), view.setUint32(id, 7, true), 0),
    proxy_set_tick_period_milliseconds: ms => (period = ms, 0),
    proxy_http_call: (...all) => (refresh(), view.setUint32(all.at(-1), ++call, true), 0),
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
  if (exports.proxy_on_configure(1, plugin.length) !== 1) throw new Error('the configuration is refused');
  if (call === 0) exports.proxy_on_tick(1);
  const times = [];
  const timed = callback => {
    const start = performance.now();
    callback();
    times.push(performance.now() - start);
  };
  given = body;
  timed(() => exports.proxy_on_http_call_response(1, call, 1, body.length, 0));
  while (period < 100 && times.length < 100_000) timed(() => exports.proxy_on_tick(1));
  return times;
}

console.log('| config | MB | callbacks | longest, ms | all, ms |\n|---|--:|--:|--:|--:|');
for (const [name, [format, config]] of Object.entries(configs)) {
  const runs = range(RUNS, () => swap(format, config));
  // The same callback does the same work in each run, so the minimum of each is without the machine's pauses.
  const times = runs[0].map((_, at) => Math.min(...runs.map(run => run[at] ?? Infinity)));
  const longest = Math.max(...times), place = times.indexOf(longest) + 1;
  const all = times.reduce((sum, time) => sum + time, 0);
  if (process.env.DETAILS) console.error(name, "first", times[0].toFixed(1), range(Math.ceil(times.length / 50), part =>
    times.slice(50 * part, 50 * part + 50).reduce((sum, time) => sum + time, 0).toFixed(0)).join(' '));
  const megabytes = (JSON.stringify(config).length / 1e6).toFixed(1);
  console.log(`| ${name} | ${megabytes} | ${times.length} | ${longest.toFixed(1)} (the ${place}th) | ${all.toFixed(0)} |`);
}
