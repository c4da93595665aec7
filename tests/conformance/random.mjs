// A random generator with a seed (mulberry32), and the choices that payloads are made of.
export class Random {
  #state;

  constructor(seed) {
    this.#state = seed >>> 0;
  }

  /** A number in [0, 1). */
  next() {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = this.#state;
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  }

  /** An integer in [0, end). */
  below(end) {
    return Math.floor(this.next() * end);
  }

  chance(share) {
    return this.next() < share;
  }

  pick(list) {
    return list[this.below(list.length)];
  }

  /** A list with the results of `make`, from `min` to `max` of them. */
  list(min, max, make) {
    return Array.from({ length: min + this.below(max - min + 1) }, (_, at) => make(at));
  }

  /** Positive integers that add up to `total`. */
  split(total, parts) {
    const cuts = Array.from({ length: parts - 1 }, () => this.below(total + 1)).sort((a, b) => a - b);
    return [...cuts, total].map((cut, at) => cut - (at === 0 ? 0 : cuts[at - 1]));
  }
}

/** Texts for ids and attributes, with some that encodings get wrong. */
export const TEXTS = ["", "a", "DE", "de", "10", "1.0", "2.10.0", "v1.2.3-rc.1", "ä", "日本", "😀", "a b", "true", "null"];

/** A visitor's id. */
export function id(random) {
  return random.chance(0.1) ? random.pick(TEXTS.slice(1)) : `user-${random.below(100_000)}`;
}
