// The page: asks the server, and shows what it says. Names of images and classes only ever go into textContent.
"use strict";

const $ = (id) => document.getElementById(id);
const VIRIDIS = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];
const page = {
  state: null, image: null, picture: null, mask: null, brush: [0, 0], painting: false, erases: false,
  job: null, trial: null, which: "mistakes", start: 0, most: null,
};

// --- asking -----------------------------------------------------------------------------------------------------

class Refused extends Error {
  constructor(sentence, status) { super(sentence); this.status = status; }
}

async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, { credentials: "same-origin", ...options });
  } catch {
    throw new Refused("the server does not answer: is the app still running?", 0);
  }
  const told = await answer.json().catch(() => ({ error: `the server answers with ${answer.status}` }));
  if (!answer.ok) throw new Refused(told.error || `the server answers with ${answer.status}`, answer.status);
  return told;
}

const send = (path, content) => ask(path, {
  method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(content),
});

async function trying(what) {
  show("error", null);
  try { return await what(); } catch (error) {
    show("error", error.message.charAt(0).toUpperCase() + error.message.slice(1));
    return null;
  }
}

// --- small things -----------------------------------------------------------------------------------------------

function show(id, text) {
  $(id).hidden = text === null;
  if (text !== null) $(id).textContent = text;
}

function made(kind, attributes = {}, ...inside) {
  const element = document.createElement(kind);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "onclick") element.addEventListener("click", value); else element.setAttribute(name, value);
  }
  element.append(...inside);
  return element;
}

const percent = (share, digits = 1) => `${(100 * share).toFixed(digits)} %`;
const called = (label) => page.state.classes[label];
const plural = (number, word) => `${number} ${word}${number === 1 ? "" : "s"}`;

function bars(list, top, asked = null) {
  list.replaceChildren(...top.map(({ label, share }) => {
    const fill = made("div", { class: "fill" });
    fill.style.width = `${100 * share}%`;
    return made("li", label === asked ? { class: "asked" } : {}, made("span", {}, called(label)),
      made("span", { class: "number" }, percent(share)), made("div", { class: "track", "aria-hidden": "true" }, fill));
  }));
}

function thumbnail({ key, name, label, now }, onclick, was = null) {
  const words = was === null
    ? (now === label ? [made("span", {}, called(now))]
      : [made("span", { class: "was" }, called(now)), made("span", {}, called(label))])
    : [made("span", {}, `${called(was)} → ${called(now)}`)];
  const said = now === label ? `${name}: ${called(label)}` : `${name}: taken for ${called(now)}, is ${called(label)}`;
  const picture = made("img", { src: `/image/${encodeURIComponent(key)}`, alt: "", loading: "lazy" });
  return made("li", {}, made("button", { type: "button", "aria-label": said, "data-key": key, onclick }, picture, ...words));
}

// --- pictures, maps and painting --------------------------------------------------------------------------------

function loaded(source) {
  return new Promise((resolve, reject) => {
    const picture = new Image();
    picture.onload = () => resolve(picture);
    picture.onerror = () => reject(new Refused("the image cannot be shown", 0));
    picture.src = source;
  });
}

function colour(level) {
  const place = level / 255 * (VIRIDIS.length - 1), low = Math.min(Math.floor(place), VIRIDIS.length - 2);
  return VIRIDIS[low].map((value, i) => value + (place - low) * (VIRIDIS[low + 1][i] - value));
}

function draw(canvas, picture, map) {
  const pen = canvas.getContext("2d");
  canvas.height = Math.round(canvas.width * picture.naturalHeight / picture.naturalWidth);
  pen.imageSmoothingEnabled = picture.naturalWidth >= 64;
  pen.drawImage(picture, 0, 0, canvas.width, canvas.height);
  if (!map) return pen;
  const small = new OffscreenCanvas(map[0].length, map.length), inner = small.getContext("2d");
  const pixels = inner.createImageData(small.width, small.height);
  map.flat().forEach((level, i) => pixels.data.set([...colour(level), 70 + 0.45 * level], 4 * i));
  inner.putImageData(pixels, 0, 0);
  pen.imageSmoothingEnabled = true;
  pen.drawImage(small, 0, 0, canvas.width, canvas.height);
  return pen;
}

const paints = () => document.querySelector("[name=how]:checked").value === "paint" && page.trial === null;

function drawImage() {
  if (!page.picture) return;
  const canvas = $("canvas"), painting = paints();
  const pen = draw(canvas, page.picture, $("look").checked && !painting ? page.image.map : null);
  canvas.classList.toggle("painting", painting);
  canvas.tabIndex = painting ? 0 : -1;
  canvas.setAttribute("role", painting ? "application" : "img");
  canvas.setAttribute("aria-label", painting
    ? `Painting on ${page.image.name}: ${plural(page.mask.reduce((sum, one) => sum + one, 0), "pixel")} painted`
    : `${page.image.name}, taken for ${called(page.image.top[0].label)}`);
  if (!painting) return;
  const [, height, width] = page.state.shape, across = canvas.width / width, down = canvas.height / height;
  pen.fillStyle = "rgba(255, 0, 170, 0.55)";
  page.mask.forEach((one, i) => {
    if (one) pen.fillRect((i % width) * across, Math.floor(i / width) * down, across + 0.5, down + 0.5);
  });
  const size = radius();
  pen.lineWidth = 3; pen.strokeStyle = "#fff";
  pen.strokeRect((page.brush[0] - size + 0.5) * across, (page.brush[1] - size + 0.5) * down, 2 * size * across, 2 * size * down);
  pen.lineWidth = 1; pen.strokeStyle = "#000";
  pen.strokeRect((page.brush[0] - size + 0.5) * across, (page.brush[1] - size + 0.5) * down, 2 * size * across, 2 * size * down);
}

const radius = () => Number($("size").value) * page.state.shape[2] / 64;

function paint() {
  const [, height, width] = page.state.shape, size = radius(), [x, y] = page.brush;
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      if (Math.abs(column - x) < size && Math.abs(row - y) < size) page.mask[row * width + column] = page.erases ? 0 : 1;
    }
  }
  drawImage();
}

function point(event) {
  const box = $("canvas").getBoundingClientRect(), [, height, width] = page.state.shape;
  page.brush = [Math.floor((event.clientX - box.left) / box.width * width), Math.floor((event.clientY - box.top) / box.height * height)];
  if (page.painting) paint(); else drawImage();
}

// --- one image --------------------------------------------------------------------------------------------------

async function look(key) {
  const seen = await trying(() => ask(`/api/look?image=${encodeURIComponent(key)}`));
  if (!seen) return;
  leaveTrial();
  const picture = await trying(() => loaded(`/image/${encodeURIComponent(key)}`));
  if (!picture) return;
  const [, height, width] = page.state.shape;
  page.image = seen; page.picture = picture;
  page.mask = new Uint8Array(height * width); page.brush = [width >> 1, height >> 1];
  $("seen").hidden = false;
  $("image-title").textContent = seen.name;
  show("note", seen.note || null);
  bars($("top"), seen.top);
  const before = seen.unedited[0], differs = before.label !== seen.top[0].label || Math.abs(before.share - seen.top[0].share) > 5e-4;
  show("unedited", differs ? `Without corrections: ${called(before.label)} (${percent(before.share)})` : null);
  show("message", seen.label === null ? "An image of yours" : seen.label === seen.top[0].label
    ? `Rightly taken for ${called(seen.label)}` : `It is ${called(seen.label)}, and is taken for ${called(seen.top[0].label)}`);
  $("look-choice").hidden = !seen.map;
  const next = seen.label !== null && seen.label !== seen.top[0].label ? seen.label : seen.top[1].label;
  $("label").value = String(next);
  for (const button of document.querySelectorAll("#thumbnails button")) {
    button.setAttribute("aria-pressed", String(button.dataset.key === key));
  }
  drawImage();
  $("label").focus({ preventScroll: true });
  if (matchMedia("(max-width: 62rem)").matches) $("image").scrollIntoView({ behavior: "smooth" });
}

async function bring(file) {
  if (!file) return;
  if (!page.state) return;
  const told = await trying(() => ask("/api/bring", {
    method: "POST", body: file,
    headers: { "Content-Type": "application/octet-stream", "X-Name": encodeURIComponent(file.name) },
  }));
  $("file").value = "";
  if (told) await look(told.image);
}

// --- a correction -----------------------------------------------------------------------------------------------

async function make(event) {
  event.preventDefault();
  if (!page.image || page.job) return;
  const mask = paints() ? Array.from(page.mask).join("") : null;
  const told = await trying(() => send("/api/ask", { image: page.image.key, label: Number($("label").value), mask }));
  if (!told) return;
  leaveTrial();
  await follow(told.job, (outcome) => showTrial(told.job, outcome.trial));
}

async function follow(job, then) {
  page.job = job;
  busy();
  const told = await trying(() => outcome(job));
  await refresh().catch(() => {});
  page.job = null;
  busy();
  if (told) await then(told);
}

async function outcome(job) {
  for (;;) {
    const told = await ask(`/api/job?job=${encodeURIComponent(job)}`);
    if (told.state === "failed") throw new Refused(told.error, 0);
    if (told.state === "done") return told;
    work(told.state === "waiting" ? "waiting for others" : told.what, told.done, told.total);
    await new Promise((resolve) => setTimeout(resolve, 250));
  }
}

function busy() {
  for (const id of ["make", "keep", "discard"]) $(id).disabled = page.job !== null;
  for (const button of document.querySelectorAll(".switch")) button.disabled = page.job !== null;
  if (page.job === null) work(null);
}

function work(what, done = 0, total = 0) {
  $("work").hidden = what === null;
  if (what === null) return;
  $("work-text").textContent = `${what.charAt(0).toUpperCase()}${what.slice(1)} …`;
  if (total > 0 && done > 0) { $("work-bar").max = total; $("work-bar").value = done; } else $("work-bar").removeAttribute("value");
}

function showTrial(job, trial) {
  if (!trial) return;
  page.trial = { job, ...trial };
  $("trial").hidden = false;
  $("seen").hidden = true;
  const now = trial.after[0].label, was = trial.before[0].label;
  $("trial-title").textContent = `${called(was)} → ${called(now)}, in ${trial.seconds} s by ${trial.by}`;
  bars($("before-top"), trial.before, trial.label);
  bars($("after-top"), trial.after, trial.label);
  $("before").setAttribute("aria-label", `Before: taken for ${called(was)}`);
  $("after").setAttribute("aria-label", `After: taken for ${called(now)}`);
  drawTrial();
  const harm = trial.harm, bound = percent(harm.bound, 2), level = percent(harm.level, 0);
  $("harm").replaceChildren(
    made("strong", {}, `${harm.broken} of ${harm.images} other images would break, ${harm.mended} would be mended`),
    `: ${percent(harm.error_before, 2)} → ${percent(harm.error_after, 2)} wrong. With ${level} confidence at most ${bound} of images like these break.`);
  $("holds").replaceChildren(...Object.entries(trial.holds).map(([view, held]) =>
    made("li", {}, `${held ? "✓ holds" : "✗ does not hold"} under ${view}`)));
  $("breaking").hidden = trial.broken.length === 0;
  $("broken").replaceChildren(...trial.broken.map(({ position, label, after }) =>
    thumbnail({ key: String(position), name: `test image ${position}`, label, now: after }, () => look(String(position)), label)));
  drawImage();
  $("keep").focus();
}

function drawTrial() {
  if (!page.trial) return;
  const on = $("look").checked;
  draw($("before"), page.picture, on ? page.trial.before_map : null);
  draw($("after"), page.picture, on ? page.trial.after_map : null);
  $("legend").hidden = !on || !page.trial.before_map;
}

function leaveTrial() {
  if (page.trial) send("/api/discard", { job: page.trial.job }).catch(() => {});
  endTrial();
}

function endTrial() {
  page.trial = null;
  $("trial").hidden = true;
  $("seen").hidden = !page.image;
}

async function keep() {
  if (!page.trial || page.job) return;
  const trial = page.trial;
  const told = await trying(() => send("/api/keep", { job: trial.job }));
  if (!told) return;
  await follow(told.job, async () => {
    endTrial();
    await look(page.image.key);
    show("message", `Kept: ${called(trial.before[0].label)} → ${called(trial.label)}`);
  });
}

function takeBack() {
  if (!page.trial || page.job) return;
  leaveTrial();
  show("message", "Taken back: nothing was changed");
  drawImage();
  $("label").focus();
}

async function turn(number, on) {
  if (page.job) return;
  const told = await trying(() => send("/api/switch", { number, on }));
  if (!told) return;
  await follow(told.job, async () => {
    if (page.image && !page.trial) await look(page.image.key);
    show("message", `Correction ${number} is switched ${on ? "on" : "off"}`);
    $(`switch-${number}`).focus();
  });
}

// --- what all visitors share ------------------------------------------------------------------------------------

async function refresh() {
  const state = await ask("/api/state");
  const is_new = !page.state || page.state.version !== state.version;
  const first = !page.state;
  page.state = state;
  if (!page.job) work(state.work ? state.work.what : null, state.work ? state.work.done : 0, state.work ? state.work.total : 0);
  if (!is_new) return;
  if (first) begin();
  const on = state.corrections.filter((some) => some.is_on).length;
  $("summary").textContent = `${percent(state.wrong / state.images)} wrong of ${state.images} test images` + (on
    ? `, ${percent(state.wrong_unedited / state.images)} without ${plural(on, "correction")}; ${state.broken} broken by ${on === 1 ? "it" : "them"}`
    : "");
  showCorrections(state.corrections);
  await shelf(true);
}

function begin() {
  $("label").replaceChildren(...page.state.classes.map((name, label) => made("option", { value: String(label) }, name)));
  $("paint-choice").hidden = !page.state.can_paint;
}

function showCorrections(corrections) {
  const focused = document.activeElement && document.activeElement.id;
  $("none").hidden = corrections.length > 0;
  $("corrections").replaceChildren(...corrections.map((some) => made("li", some.is_on ? {} : { class: "off" },
    made("button", {
      type: "button", role: "switch", class: "switch", id: `switch-${some.number}`, "aria-checked": String(some.is_on),
      "aria-labelledby": `correction-${some.number}`, onclick: () => turn(some.number, !some.is_on),
    }),
    made("span", { class: "sentence", id: `correction-${some.number}` }, `${some.number}. ${some.sentence}`),
    made("span", { class: "about quiet" }, `${some.is_on ? "on" : "off"} · ${some.by} · ${some.harm} · ${new Date(some.time).toLocaleString()}`))));
  if (focused && focused.startsWith("switch-") && $(focused)) $(focused).focus();
  busy();
}

async function shelf(again = false) {
  const told = await ask(`/api/shelf?which=${page.which}&start=${page.start}`);
  if (again && page.start >= told.total && page.start > 0) { page.start = 0; await shelf(); return; }
  const last = told.start + told.images.length;
  $("shelf-count").textContent = told.total ? `${told.start + 1}–${last} of ${told.total}` : {
    mistakes: "The network makes no mistake on these.", changed: "No correction has changed an image.", all: "There is none.",
  }[page.which];
  const focused = document.activeElement && document.activeElement.dataset.key;
  $("thumbnails").replaceChildren(...told.images.map((image) => thumbnail(image, () => look(image.key))));
  for (const button of document.querySelectorAll("#thumbnails button")) {
    button.setAttribute("aria-pressed", String(page.image !== null && button.dataset.key === page.image.key));
    if (button.dataset.key === focused) button.focus();
  }
  $("previous").disabled = page.start === 0;
  $("next").disabled = last >= told.total;
  $("pages").hidden = told.total <= told.images.length;
  page.most = told.images.length;
}

async function watch() {
  for (;;) {
    try {
      if (!page.job) await refresh();
    } catch (error) {
      if (error.status === 401) { location.reload(); return; }
      $("summary").textContent = error.status === 503 ? "The network is being prepared …" : error.message;
    }
    await new Promise((resolve) => setTimeout(resolve, page.state && page.state.work ? 700 : 1500));
  }
}

// --- hands ------------------------------------------------------------------------------------------------------

$("file").addEventListener("change", () => bring($("file").files[0]));
$("ask").addEventListener("submit", make);
$("keep").addEventListener("click", keep);
$("discard").addEventListener("click", takeBack);
$("look").addEventListener("change", () => { drawImage(); drawTrial(); });
$("size").addEventListener("input", drawImage);
$("clear").addEventListener("click", () => { page.mask.fill(0); drawImage(); });
$("whole").addEventListener("click", () => { page.mask.fill(1); drawImage(); });
$("previous").addEventListener("click", () => { page.start = Math.max(0, page.start - 60); trying(shelf); });
$("next").addEventListener("click", () => { page.start += page.most; trying(shelf); });
for (const input of document.querySelectorAll("[name=which]")) {
  input.addEventListener("change", () => { page.which = input.value; page.start = 0; trying(shelf); });
}
for (const input of document.querySelectorAll("[name=how]")) {
  input.addEventListener("change", () => {
    $("brush").hidden = !paints();
    $("label-title").textContent = paints() ? "The painted part should behave as in images of" : "It should be";
    drawImage();
  });
}
$("canvas").addEventListener("pointerdown", (event) => {
  if (!paints()) return;
  page.painting = true;
  page.erases = event.button === 2 || event.shiftKey;
  $("canvas").setPointerCapture(event.pointerId);
  point(event);
});
$("canvas").addEventListener("pointermove", (event) => { if (paints()) point(event); });
for (const name of ["pointerup", "pointercancel"]) {
  $("canvas").addEventListener(name, () => { page.painting = page.erases = false; });
}
$("canvas").addEventListener("contextmenu", (event) => { if (paints()) event.preventDefault(); });
$("canvas").addEventListener("keydown", (event) => {
  if (!paints()) return;
  const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  const [, height, width] = page.state.shape;
  if (moves) {
    page.brush = [Math.min(width - 1, Math.max(0, page.brush[0] + moves[0])), Math.min(height - 1, Math.max(0, page.brush[1] + moves[1]))];
    drawImage();
  } else if (event.key === " ") paint();
  else if (event.key === "Backspace") { page.mask.fill(0); drawImage(); } else return;
  event.preventDefault();
});
document.addEventListener("keydown", (event) => { if (event.key === "Escape") takeBack(); });
let over = 0;
document.addEventListener("dragenter", (event) => { event.preventDefault(); over += 1; $("dropping").hidden = false; });
document.addEventListener("dragleave", () => { over -= 1; if (over <= 0) $("dropping").hidden = true; });
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  over = 0;
  $("dropping").hidden = true;
  bring(event.dataTransfer.files[0]);
});
watch();
