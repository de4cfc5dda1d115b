// The page's worker: loads the model and looks at photos, so that the page itself never waits.
//
// A classic worker, since LiteRT.js loads its WebAssembly by importScripts. Messages are {id, call, …}; the answer is
// {id, result} or {id, fault: {kind, reason}}, and {progress} comes in between.

"use strict";
importScripts("build.js");

const modules = Promise.all(["./model_file.js", "./runtime.js", "./pixels.js", "./download.js"].map((path) => import(path)));
let model;

const calls = {
  /** Loads `content`, or the page's own model; {labels, thresholds, size, bytes, hasAttention, backend}. */
  async load({ content }) {
    const [{ readModelFile, ModelFault }, { chooseVariant, startRuntime, compile }, , { download }] = await modules;
    const variant = await chooseVariant();
    const wasm = `litert/${variant.name}.wasm`;
    const urls = content ? [wasm] : [BUILD.model, wasm];
    const done = urls.map(() => 0);
    const total = urls.reduce((sum, url) => sum + BUILD.sizes[url], 0);
    const fetched = urls.map((url, index) =>
      download(url, (bytes) => {
        done[index] = bytes;
        postMessage({ progress: { done: done[0] + (done[1] ?? 0), total } });
      }).catch((error) => {
        throw Object.assign(new ModelFault("notFetched", error.message), { file: url });
      }),
    );
    const contents = await Promise.all(fetched);
    const bytes = content ?? contents[0];
    const file = await readModelFile(bytes);
    await startRuntime(variant, contents.at(-1));
    const runner = await compile(bytes, file, variant);
    model = { file, runner };
    const { labels, thresholds, size, attention } = file;
    return { labels, thresholds, size, bytes: bytes.length, hasAttention: Boolean(attention), backend: runner.backend };
  },

  /** Looks at one photo; {scores, maps: {values, height, width}, picture, times}. */
  async look({ file }) {
    const [, , { readPhoto }] = await modules;
    const { pixels, picture, decode, resize } = await readPhoto(file, model.file.size).catch((error) => {
      throw Object.assign(error, { kind: "notAPhoto" });
    });
    const started = performance.now();
    const { scores, attention } = await model.runner.run(pixels).catch((error) => {
      throw Object.assign(error, { kind: "notRun" });
    });
    const run = performance.now() - started;
    const [, , height, width] = model.file.attention?.shape ?? [];
    const maps = attention && { values: Uint8Array.from(attention, (value) => 255 * value + 0.5), height, width };
    return { scores, maps, picture, times: { decode, resize, run } };
  },
};

onmessage = async ({ data: { id, call, ...given } }) => {
  try {
    const result = await calls[call](given);
    postMessage({ id, result }, result.picture ? [result.picture] : []);
  } catch (error) {
    postMessage({ id, fault: { kind: error.kind ?? "notRun", reason: error.reason ?? String(error.message ?? error), file: error.file } });
  }
};
