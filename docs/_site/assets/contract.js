// The mask contract (CONTRACT.md) in JavaScript: the same bits as every other implementation.
// A number is a double, exact to 2^53, so that a 32 x 32 bit product is made of halves of 16 bits.

// The upper and the lower 32 bits of a * b.
function multiply(a, b) {
  const low = Math.imul(a, b) >>> 0;
  const [ah, al, bh, bl] = [a >>> 16, a & 0xffff, b >>> 16, b & 0xffff];
  const middle = ah * bl + ((al * bl) >>> 16); // below 2^33: a double holds it exactly
  const carry = al * bh + (middle % 0x10000);
  return [(ah * bh + Math.floor(middle / 0x10000) + Math.floor(carry / 0x10000)) >>> 0, low];
}

// Philox4x32-10: four counter words and two key words to four words.
export function philox(counter, key) {
  let [c0, c1, c2, c3] = counter, [k0, k1] = key;
  for (let round = 0; round < 10; round++) {
    const [high0, low0] = multiply(0xd2511f53, c0);
    const [high1, low1] = multiply(0xcd9e8d57, c2);
    [c0, c1, c2, c3] = [(high1 ^ c1 ^ k0) >>> 0, low1, (high0 ^ c3 ^ k1) >>> 0, low0];
    k0 = (k0 + 0x9e3779b9) >>> 0;
    k1 = (k1 + 0xbb67ae85) >>> 0;
  }
  return [c0, c1, c2, c3];
}

// A 64-bit number (a number up to 2^53, or a BigInt) as [low, high].
export function words(number) {
  if (typeof number === "bigint") return [Number(number & 0xffffffffn), Number(number >> 32n)];
  return [number >>> 0, Math.floor(number / 2 ** 32)];
}

// Round to the nearest integer, ties to even.
function nearest(x) {
  const below = Math.floor(x);
  return x - below > 0.5 || (x - below === 0.5 && below % 2) ? below + 1 : below;
}

export const threshold = (p) => nearest(p * 2 ** 32); // D
export const scale = (p) => 2 ** 32 / (2 ** 32 - threshold(p)); // s

// Halfword i mod 8 of the generator's output for position i and a purpose.
export function halfword(i, purpose, seed, stream) {
  const block = Math.floor(i / 8);
  const counter = [block >>> 0, (Math.floor(block / 2 ** 32) + purpose * 2 ** 28) >>> 0, ...words(stream)];
  const word = philox(counter, words(seed))[(i % 8) >> 1];
  return i % 2 ? word >>> 16 : word & 0xffff;
}

// Whether position i is kept: u(i) >= D.
export function kept(i, p, seed, stream = 0) {
  return halfword(i, 0, seed, stream) * 0x10000 + halfword(i, 1, seed, stream) >= threshold(p);
}

// The stream of Key(seed, stream).fold(data), 0 <= data < 2^53, as [low, high].
export function fold(data, seed, stream = 0) {
  const [low, high] = words(data);
  return philox([low, (high + 15 * 2 ** 28) >>> 0, ...words(stream)], words(seed)).slice(0, 2);
}

// The mask of a shape as bytes, in C order: 1 where a position is kept.
export function keepMask(shape, p, seed, stream = 0) {
  const size = shape.reduce((product, n) => product * n, 1);
  return Uint8Array.from({ length: size }, (_, i) => (kept(i, p, seed, stream) ? 1 : 0));
}
