// The page: photos come in one way or another, wait in a queue, and become cards.

import "./build.js";
import { openCamera } from "./camera.js";
import { Card, element } from "./card.js";
import { Model } from "./model.js";
import { isKept, keepForOffline } from "./offline.js";
import { asCsv, asJson, save } from "./results.js";
import { strings } from "./strings.js";

const byId = (id) => document.getElementById(id);
const photos = []; // {file, card, scores, times}, in the order in which they came
let model;
let modelName = BUILD.model;
let commonThreshold; // of the slider; undefined: each label's own
let offline = false;
let looking = false;

const MANY_PIXELS = 16e6; // of a photo that no memory may have been left for

// ---- The model

async function loadModel(content, name = BUILD.model) {
  const next = new Model(showProgress);
  byId("fault").hidden = true;
  showProgress();
  try {
    await next.load(content);
  } catch (fault) {
    next.close();
    const sentence = strings[fault.kind] ?? strings.notRunnable;
    return say(sentence(fault.file ?? name, fault.reason));
  } finally {
    byId("loading").hidden = true;
  }
  model?.close();
  [model, modelName] = [next, name];
  showFacts();
  isKept(BUILD.model).then((kept) => {
    offline = kept;
    showFacts();
  });
  for (const photo of photos.filter(({ scores }) => scores)) photo.scores = undefined; // to be looked at anew
  return lookAtAll();
}

function showProgress({ done, total } = { done: 0, total: 0 }) {
  const bar = byId("load-progress");
  byId("loading").hidden = false;
  byId("load-text").textContent = done && done < total ? strings.loading(done, total) : strings.preparing;
  if (done && done < total) bar.value = done / total;
  else bar.removeAttribute("value");
}

function showFacts() {
  const { kind, simd, threads, why, difference } = model.backend;
  const reason = strings.whyNot[why];
  const runsOn = kind === "webgpu" ? strings.webgpu : strings.wasm(simd, threads);
  const facts = [
    [strings.model, strings.modelFact(modelName, model.labels.length, model.size, model.bytes)],
    [strings.runsOn, reason ? `${runsOn}. ${typeof reason === "function" ? reason(difference) : reason}.` : runsOn],
    [strings.offline, offline ? strings.offlineReady : strings.offlineNot],
  ];
  if (!model.hasAttention) facts.push([strings.heatMaps, strings.noHeatMaps]);
  byId("facts").replaceChildren(...facts.map(([term, text]) => element("div", {}, element("dt", { textContent: term }), element("dd", { textContent: text }))));
  byId("facts").hidden = false;
}

function say(sentence) {
  byId("fault").textContent = sentence;
  byId("fault").hidden = false;
}

// ---- Photos

function add(files) {
  for (const file of files) {
    if (/\.tflite$/i.test(file.name)) {
      tryModel(file);
      continue;
    }
    const photo = { file, name: file.name };
    photo.card = new Card(file.name, () => remove(photo));
    photos.push(photo);
    byId("photos").append(photo.card.element);
  }
  showWhetherThereArePhotos();
  lookAtAll();
}

async function tryModel(file) {
  try {
    await loadModel(new Uint8Array(await file.arrayBuffer()), file.name);
  } catch (error) {
    say(strings.notFetched(file.name, error.message));
  }
}

function remove(photo) {
  photos.splice(photos.indexOf(photo), 1);
  photo.card.close();
  photo.removed = true;
  showWhetherThereArePhotos();
  (photos[0]?.card.element.querySelector("button") ?? byId("choose")).focus();
}

function showWhetherThereArePhotos() {
  byId("tools").hidden = photos.length === 0;
  document.documentElement.classList.toggle("has-photos", photos.length > 0);
}

/** Looks at what waits, one photo after the other. */
async function lookAtAll() {
  if (looking || !model) return;
  looking = true;
  for (let next; (next = photos.find(({ scores, failed }) => !scores && !failed)); ) await lookAt(next);
  looking = false;
}

async function lookAt(photo) {
  const { card, file, name } = photo;
  card.working();
  const by = model;
  try {
    const pixels = await pixelsIn(file);
    if (!(pixels > 0)) throw { kind: "notAPhoto" };
    if (pixels > BUILD.maxPixels) throw { kind: "tooLarge", pixels };
    const answer = await by.look(file).catch((fault) => {
      throw { kind: fault.kind === "notAPhoto" && pixels > MANY_PIXELS ? "notDecoded" : fault.kind, reason: fault.reason, pixels };
    });
    if (photo.removed) return answer.picture.close();
    Object.assign(photo, answer);
    card.show(answer, model.labels);
    const present = card.apply(thresholds());
    const done = photos.filter(({ scores, failed }) => scores || failed).length;
    byId("status").textContent = `${strings.found(name, present)}. ${strings.toDo(done, photos.length)}`;
  } catch ({ kind, reason, pixels = 0 }) {
    if (kind === "closed") return; // it waits for the next model
    photo.failed = true;
    const megapixels = (pixels / 1e6).toFixed(1);
    const sentences = {
      tooLarge: () => strings.tooLarge(name, megapixels, BUILD.maxPixels / 1e6),
      notDecoded: () => strings.notDecoded(name, megapixels),
      notRun: () => strings.notRun(name, reason),
    };
    card.fail((sentences[kind] ?? (() => strings.notAPhoto(name)))());
  }
}

/** How many pixels a photo has, from its header alone: a browser decodes an image when it is shown. 0: it is none. */
async function pixelsIn(file) {
  const image = new Image();
  image.src = URL.createObjectURL(file);
  try {
    await new Promise((resolve, reject) => Object.assign(image, { onload: resolve, onerror: reject }));
    return image.naturalWidth * image.naturalHeight;
  } catch {
    return 0;
  } finally {
    URL.revokeObjectURL(image.src);
  }
}

// ---- Thresholds and results

function thresholds() {
  return commonThreshold === undefined ? model.thresholds : model.labels.map(() => commonThreshold);
}

function setThreshold(value) {
  commonThreshold = value;
  byId("threshold-text").textContent = value === undefined ? strings.eachLabelsOwn : value.toFixed(2);
  byId("threshold").setAttribute("aria-valuetext", byId("threshold-text").textContent);
  byId("own-thresholds").hidden = value === undefined;
  for (const { card, scores } of photos) if (scores) card.apply(thresholds());
}

const finished = () => photos.filter(({ scores }) => scores);

// ---- Wiring

function listen() {
  byId("choose").onclick = () => byId("files").click();
  byId("other-model").onclick = () => byId("model-file").click();
  for (const id of ["files", "model-file"]) {
    byId(id).onchange = ({ target }) => {
      add([...target.files]);
      target.value = "";
    };
  }
  byId("camera").onclick = () => openCamera((file) => add([file]), say);
  byId("threshold").oninput = ({ target }) => setThreshold(target.valueAsNumber);
  byId("own-thresholds").onclick = () => {
    setThreshold(undefined);
    byId("threshold").focus();
  };
  byId("save-json").onclick = () => save("labels.json", asJson(finished(), model.labels, thresholds()), "application/json");
  byId("save-csv").onclick = () => save("labels.csv", asCsv(finished(), model.labels, thresholds()), "text/csv");
  byId("clear").onclick = () => {
    while (photos.length) remove(photos.at(-1));
  };
  document.addEventListener("paste", ({ clipboardData }) => add([...clipboardData.files]));
  let depth = 0; // of elements that the dragged files are over
  const drag = (change) => (event) => {
    if (!event.dataTransfer.types.includes("Files")) return;
    event.preventDefault();
    depth = Math.max(0, depth + change);
    document.documentElement.classList.toggle("dragging", depth > 0);
    if (event.type === "drop") {
      depth = 0;
      document.documentElement.classList.remove("dragging");
      add([...event.dataTransfer.files]);
    }
  };
  document.addEventListener("dragenter", drag(1));
  document.addEventListener("dragleave", drag(-1));
  document.addEventListener("dragover", drag(0));
  document.addEventListener("drop", drag(-1));
}

function fillIn() {
  document.documentElement.classList.add("started");
  document.title = byId("title").textContent = BUILD.title;
  for (const one of document.querySelectorAll("[data-string]")) one.textContent = strings[one.dataset.string];
  for (const one of document.querySelectorAll("[data-string-label]")) one.setAttribute("aria-label", strings[one.dataset.stringLabel]);
  byId("camera").hidden = !navigator.mediaDevices;
  setThreshold(undefined);
}

fillIn();
listen();
showProgress();
await keepForOffline(() => photos.length === 0);
await loadModel();
