// The page "Draw a mask": controls, a picture, and the mean and the variance before and after.
import { keepMask, scale, threshold } from "./contract.js";

const CELL = 12;
const SHARED = { none: [0, 0], rows: [0, 1], columns: [1, 0] }; // 1 where a decision is shared

// What the controls say.
function settings(form) {
  const value = (name) => form.elements[name].value;
  const rows = Number(value("rows")), columns = Number(value("columns"));
  const [shareRows, shareColumns] = SHARED[value("noise_shape")];
  return {
    p: Number(value("p")), seed: Number(value("seed")), stream: 0, mode: value("mode"), x: value("x"),
    rows, columns, noise: [shareRows ? 1 : rows, shareColumns ? 1 : columns],
  };
}

// The input, the mask of the noise shape, and the output by CONTRACT.md, section 4.
function compute({ p, seed, stream, mode, x, rows, columns, noise }) {
  const size = rows * columns;
  const input = Array.from({ length: size }, (_, i) => (x === "ones" ? 1 : (2 * i + 1) / size));
  const mask = keepMask(noise, p, seed, stream);
  const kept = input.map((_, i) => mask[(noise[0] === 1 ? 0 : Math.floor(i / columns)) * noise[1] + (noise[1] === 1 ? 0 : i % columns)]);
  const factor = mode === "inverted" ? scale(p) : 1;
  return { input, mask, kept, output: input.map((value, i) => (kept[i] ? value * factor : 0)) };
}

function moments(values) {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  return [mean, values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length];
}

// Mean and variance over all masks and positions.
function expected(input, p, mode) {
  const q = 1 - threshold(p) / 2 ** 32;
  const [mean, variance] = moments(input), square = variance + mean ** 2;
  if (q === 0) return [0, 0];
  return mode === "inverted" ? [mean, square / q - mean ** 2] : [q * mean, q * square - (q * mean) ** 2];
}

function draw(canvas, { rows, columns }, kept) {
  const style = getComputedStyle(canvas);
  canvas.width = columns * CELL;
  canvas.height = rows * CELL;
  const context = canvas.getContext("2d");
  kept.forEach((one, i) => {
    context.fillStyle = style.getPropertyValue(one ? "--mask-kept" : "--mask-dropped");
    context.fillRect((i % columns) * CELL, Math.floor(i / columns) * CELL, CELL - 1, CELL - 1);
  });
}

async function sha256(bytes) {
  if (!globalThis.crypto?.subtle) return "needs a page that came by https";
  const digest = await crypto.subtle.digest("SHA-256", bytes);
  return [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function show(page) {
  const form = page.querySelector("form"), at = (name) => page.querySelector(`[data-show="${name}"]`);
  const chosen = settings(form), { input, mask, kept, output } = compute(chosen);
  for (const name of ["p", "rows", "columns"]) at(name).textContent = form.elements[name].value;
  draw(page.querySelector("canvas"), chosen, kept);
  const [before, after, all] = [moments(input), moments(output), expected(input, chosen.p, chosen.mode)];
  [["before", before], ["after", after], ["expected", all]].forEach(([name, [mean, variance]]) => {
    at(`${name}-mean`).textContent = mean.toFixed(4);
    at(`${name}-variance`).textContent = variance.toFixed(4);
  });
  at("kept").textContent = `${kept.reduce((sum, one) => sum + one, 0)} of ${kept.length} kept; what is kept is multiplied by ${
    chosen.mode === "inverted" && threshold(chosen.p) < 2 ** 32 ? scale(chosen.p).toFixed(4) : "1"}`;
  at("python").textContent = "import hashlib, thinned\n" +
    `mask = thinned.keep_mask((${chosen.noise.join(", ")}), ${chosen.p}, key=thinned.Key(${chosen.seed}))\n` +
    "print(hashlib.sha256(mask.tobytes()).hexdigest())";
  at("digest").textContent = await sha256(mask);
}

const page = document.getElementById("draw-a-mask-page");
if (page) {
  page.hidden = false;
  page.querySelector("form").addEventListener("input", () => show(page));
  new MutationObserver(() => show(page)).observe(document.body, { attributeFilter: ["data-md-color-scheme"] });
  show(page);
}
