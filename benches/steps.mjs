// The time that a new config holds a worker: the longest callback between the fetch and the moment at which the config is
// in force, for configs at the limits, in the VM that fetches it and in another one that picks it up from shared data.
// The minimum of several runs.
//
//   make steps                                 ONLY=features: configs with such a name; DETAILS=1: the times of all callbacks;
//   CONFIGS=DIR: the configs of tests/steps too, which writes them with the same variable
import {createCipheriv} from 'node:crypto';
import fs from 'node:fs';
import {gzipSync} from 'node:zlib';
import {block, load, range, start, time} from './vm.mjs';

const RUNS = Number(process.env.RUNS ?? 3);
const module = load(process.argv[2]);

const variants = [{key: 'control', weight: 5000, baseline: true}, {key: 'treatment', weight: 5000}];
const experiment = (number, rest) => ({key: `experiment-${number}`, state: 'running', variants, ...rest});
const native = experiments => ['native', {schema: 1, revision: 'r1', experiments}];

const feature = (number, rest) => ({defaultValue: false, rules: [{condition: {country: 'DE'}, variations: [false, true],
  weights: [0.5, 0.5], key: `experiment-${number}`, ...rest}]});
const features = (count, rest = () => ({})) =>
  Object.fromEntries(range(count, number => [`feature-${number}`, feature(number, rest(number))]));
const KEY = 'AAECAwQFBgcICQoLDA0ODw==';
const encrypted = value => {
  const cipher = createCipheriv('aes-128-cbc', Buffer.from(KEY, 'base64'), Buffer.alloc(16));
  return `${Buffer.alloc(16).toString('base64')}.${cipher.update(JSON.stringify(value), 'utf8', 'base64')}${cipher.final('base64')}`;
};

const rule = (number, rest) => ({id: `e${number}`, key: `experiment-${number}`, layerId: `l${number}`, status: 'Running',
  audienceIds: [], forcedVariations: {},
  variations: [{id: `a${number}`, key: 'off', featureEnabled: false}, {id: `b${number}`, key: 'on', featureEnabled: true}],
  trafficAllocation: [{entityId: `a${number}`, endOfRange: 5000}, {entityId: `b${number}`, endOfRange: 10000}], ...rest});
const flag = (number, experimentIds) => ({id: `f${number}`, key: `flag-${number}`, rolloutId: '', experimentIds, variables: []});
const optimizely = rest => ['optimizely', {version: '4', accountId: '1', projectId: '1', revision: '1', attributes: [],
  events: [], audiences: [], groups: [], rollouts: [], featureFlags: [], experiments: [], ...rest}];

const configs = {
  '20,000 experiments': () => native(range(20_000, number =>
    experiment(number, {route: {paths: [`/page-${number}/*`]}, audience: {country: {$in: ['DE', 'AT']}}}))),
  '300 experiments with 300 path patterns each': () => native(range(300, number =>
    experiment(number, {route: {paths: range(300, pattern => `/p${number}/*x${pattern}*`)}}))),
  '300 experiments with 300 `$regex` each': () => native(range(300, number =>
    experiment(number, {route: {paths: [`/page-${number}/*`]},
      audience: {$or: range(300, pattern => ({plan: {$regex: `^a${pattern}(b|c)+$`}}))}}))),
  '20 experiments with 4,000 path patterns each': () => native(range(20, number =>
    experiment(number, {route: {paths: range(4_000, pattern => `/p${number}*/x${pattern}*`)}}))),
  'one experiment of 4 MB': () => native([experiment(0, {forced: Object.fromEntries(
    range(150_000, number => [`visitor-number-${number}`, 'treatment']))})]),
  'a list of 4 MB': () => ['native', range(1_000_000, number => number % 1000)],
  'GrowthBook: 20,000 features': () => ['growthbook', {features: features(20_000)}],
  'GrowthBook: the same, encrypted': () => ['growthbook', {encryptedFeatures: encrypted(features(20_000))}],
  'GrowthBook: a saved group of 200,000 ids': () => ['growthbook', {
    savedGroups: {g: range(200_000, number => `visitor-number-${number}`)},
    features: features(2, () => ({condition: {id: {$inGroup: 'g'}}}))}],
  'GrowthBook: 20,000 saved groups': () => ['growthbook', {
    savedGroups: Object.fromEntries(range(20_000, number => [`group-${number}`, [`v${number}`, 'x', 'y']])),
    features: features(10_000, number => ({condition: {id: {$inGroup: `group-${2 * number}`}}}))}],
  'GrowthBook: 10,000 features with prerequisites': () => ['growthbook', {
    features: features(10_000, number => ({parentConditions: [{id: `feature-${number - number % 20}`, condition: {value: true}}]}))}],
  'GrowthBook: 200 features with 100 `url_patterns` each': () => ['growthbook', {
    features: features(200, number => ({urlPatterns: range(100, at => ({include: true, type: 'regex', pattern: `^/a${number}(b|c)+${at}$`}))})),
    experiments: range(200, number => ({key: `test-${number}`, status: 'running', variations: [{}, {urlRedirect: '/x'}],
      weights: [0.5, 0.5], urlPatterns: range(100, at => ({include: true, type: 'regex', pattern: `^/a${number}(b|c)+${at}$`}))}))}],
  'Optimizely: 5,000 flags with an experiment each': () => optimizely({
    featureFlags: range(5_000, number => flag(number, [`e${number}`])), experiments: range(5_000, number => rule(number))}),
  'Optimizely: 20,000 flags and 10,000 experiments in groups of 100': () => optimizely({
    featureFlags: range(20_000, number => flag(number, number < 5_000 ? [`e${number}`] : [])),
    groups: range(100, group => ({id: `g${group}`, policy: 'random', trafficAllocation: [],
      experiments: range(100, at => rule(100 * group + at))}))}),
  'Optimizely: one group of 10,000 experiments': () => optimizely({
    groups: [{id: 'g', policy: 'random', trafficAllocation: range(10_000, at => ({entityId: `e${at}`, endOfRange: at})),
      experiments: range(10_000, at => rule(at))}]}),
};

if (process.env.CONFIGS) {
  for (const file of fs.readdirSync(process.env.CONFIGS)) {
    const text = fs.readFileSync(`${process.env.CONFIGS}/${file}`);
    configs[file.replace('.json', '')] = () => [file.split(',')[0], text];
  }
}

/**
 * The times of the callbacks of one swap, in ms: those of the VM that fetches `body`, those of another one, and those of
 * freeing the config once it is replaced by an empty one.
 */
function swap(format, body, isCompressed) {
  const plugin = {experiments: {format, cluster: 'experiments', max_bytes: 33554432}, visitor: {id: [{cookie: 'uid'}]},
    effects: {}};
  if (format === 'growthbook') plugin.experiments.decryption_key = KEY;
  const shared = new Map();
  const [first, second] = range(2, () => start(module, plugin, shared));
  if (!first.isConfigured) throw new Error('the configuration is refused');
  const ticks = (vm, times) => {
    while (vm.period < 100 && !vm.isRefused) times.push(time(() => vm.exports.proxy_on_tick(1)));
    return times;
  };
  let answered = 0;
  const fetch = (body, isCompressed) => {
    while (first.call === answered) {
      first.nowMs += 3_600_000;
      first.exports.proxy_on_tick(1);
    }
    answered = first.call;
    first.body = body;
    first.headers = block([[':status', '200'], ...isCompressed ? [['content-encoding', 'gzip']] : []]);
    globalThis.gc?.();
    return ticks(first, [time(() => first.exports.proxy_on_http_call_response(1, first.call, 1, body.length, 0))]);
  };
  const fetched = fetch(body, isCompressed);
  if (first.isRefused) return [fetched, [0], [0]];
  globalThis.gc?.();
  second.period = 0;
  const shares = ticks(second, [time(() => second.exports.proxy_on_tick(1))]);
  fetch(Buffer.from(JSON.stringify(EMPTY[format])), false);
  const freed = range(200, () => time(() => first.exports.proxy_on_tick(1)));
  return [fetched, shares, freed];
}

const EMPTY = {native: {schema: 1, experiments: []}, growthbook: {features: {}}, optimizely: optimizely({})[1], eppo: {flags: {}},
  flagd: {flags: {}}, posthog: {flags: []}, unleash: {version: 2, features: []}};

console.log('| config | MB | callbacks | longest, ms | all, ms | from shared data: longest, ms | freed: longest, ms |');
console.log('|---|--:|--:|--:|--:|--:|--:|');
for (const [name, config] of Object.entries(configs).filter(([name]) => name.includes(process.env.ONLY ?? ''))) {
  const [format, text] = (([format, config]) => [format, Buffer.isBuffer(config) ? config : Buffer.from(JSON.stringify(config))])(config());
  for (const isCompressed of name === '20,000 experiments' ? [false, true] : [false]) {
    const runs = range(RUNS, () => swap(format, isCompressed ? gzipSync(text) : text, isCompressed));
    // The same callback does the same work in each run, so the minimum of each is without the machine's pauses.
    const [fetched, shares, freed] = range(3, which => runs[0][which].map((_, at) => Math.min(...runs.map(run => run[which][at] ?? Infinity))));
    const place = times => {
      const longest = Math.max(...times);
      return `${longest.toFixed(1)} (${times.indexOf(longest) + 1} of ${times.length})`;
    };
    const all = fetched.reduce((sum, time) => sum + time, 0);
    if (process.env.DETAILS) console.error(fetched.map(time => time.toFixed(1)).join(' '));
    const title = isCompressed ? `${name}, compressed` : name;
    console.log(`| ${title} | ${(text.length / 1e6).toFixed(1)} | ${fetched.length} | ${place(fetched)} | ${all.toFixed(0)} | ${place(shares)} | ${place(freed)} |`);
  }
}
