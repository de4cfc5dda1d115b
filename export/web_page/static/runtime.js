// LiteRT.js: which of its WebAssembly files this browser can use, and whether the graphics card is right.

import * as litert from "./litert/index.js";
import { ModelFault } from "./model_file.js";

const FOLDER = new URL("litert/", self.location.href).href;
const MOST_THREADS = 8;
const TOLERANCE = 0.01; // how far WebGPU's scores may be from the processor's

/** {name, threads}: of the WebAssembly file for this browser. */
export async function chooseVariant() {
  if (!(await litert.supportsFeature("relaxedSimd"))) return { name: "litert_wasm_compat_internal", simd: false, threads: 1 };
  // Only a page that is isolated from others gets the shared memory that threads need (service_worker.js).
  const threads = self.crossOriginIsolated && (await litert.supportsFeature("threads"));
  if (!threads) return { name: "litert_wasm_internal", simd: true, threads: 1 };
  return { name: "litert_wasm_threaded_internal", simd: true, threads: Math.min(MOST_THREADS, navigator.hardwareConcurrency || 1) };
}

/** Starts the runtime; `binary` is the chosen WebAssembly file. What it logs is kept for the sentence of a failure. */
export async function startRuntime(variant, binary) {
  const log = (line) => lines.push(line);
  self.Module = {
    wasmBinary: binary,
    mainScriptUrlOrBlob: `${FOLDER}${variant.name}.js`, // of the threads
    locateFile: (path) => FOLDER + path,
    print: log,
    printErr: log,
  };
  await litert.loadLiteRt(FOLDER, { threads: variant.threads > 1 });
}

const lines = [];

/** What went wrong, in the runtime's words. */
function reasonOf(error) {
  const said = lines.filter((line) => line.startsWith("ERROR")).at(-1);
  return (said ?? String(error?.message ?? error)).replace(/\s+/g, " ").slice(0, 200);
}

/**
 * A compiled model: `run(pixels)` gives {scores, attention} as arrays, `backend` says what it runs on. The graphics
 * card is taken where every operation runs there and its scores of a drawn picture are those of the processor.
 * Throws ModelFault.
 */
export async function compile(bytes, file, variant) {
  let onProcessor;
  try {
    onProcessor = new Runner(await litert.loadAndCompile(bytes, { accelerator: "wasm", cpuOptions: { numThreads: variant.threads } }), file, "wasm");
    const expected = await onProcessor.run(drawnPixels(file.size)); // also a warm-up
    const { runner, why, difference } = await onGraphicsCard(bytes, file, expected.scores);
    if (!runner) return Object.assign(onProcessor, { backend: { kind: "wasm", ...variant, why, difference } });
    onProcessor.delete();
    return Object.assign(runner, { backend: { kind: "webgpu" } });
  } catch (error) {
    throw new ModelFault("notRunnable", reasonOf(error));
  }
}

async function onGraphicsCard(bytes, file, expected) {
  if (!litert.getDefaultEnvironment().webGpuDevice) return { why: "no adapter" };
  let runner;
  const give = (result) => {
    runner?.delete();
    return result;
  };
  try {
    runner = new Runner(await litert.loadAndCompile(bytes, { accelerator: "webgpu", gpuOptions: { precision: "fp32" } }), file, "webgpu");
    if (!runner.compiled.isFullyAccelerated) return give({ why: "operations" });
    const { scores } = await runner.run(drawnPixels(file.size));
    const difference = Math.max(...scores.map((score, label) => Math.abs(score - expected[label])));
    return difference <= TOLERANCE ? { runner } : give({ why: "differs", difference });
  } catch {
    return give({ why: "failed" });
  }
}

/** A picture with detail of many sizes, the same everywhere. */
function drawnPixels(size) {
  return Uint8Array.from({ length: size * size * 3 }, (_, index) => {
    const [x, y, channel] = [Math.floor(index / 3) % size, Math.floor(index / 3 / size), index % 3];
    return 127.5 + 60 * Math.sin((x * (channel + 1)) / 9) + 60 * Math.cos((y * (3 - channel)) / 5);
  });
}

class Runner {
  constructor(compiled, file, place) {
    this.compiled = compiled;
    this.file = file;
    this.place = place;
    this.shape = [1, file.size, file.size, 3];
  }

  async run(pixels) {
    let input = new litert.Tensor(pixels, this.shape);
    if (this.place === "webgpu") input = await input.moveTo("webgpu");
    const outputs = await this.compiled.run([input]);
    input.delete();
    const found = {};
    for (const output of outputs) {
      const rank = output.type.layout.dimensions.length;
      const name = rank === 2 ? "scores" : "attention";
      found[name] = numbersOf(await output.data(), this.file[name]);
      output.delete();
    }
    return found;
  }

  delete() {
    this.compiled.delete();
  }
}

/** float32 of an output, which may be in integers. */
function numbersOf(values, { scale, zeroPoint }) {
  return scale ? Float32Array.from(values, (value) => (value - zeroPoint) * scale) : Float32Array.from(values);
}
