// A .tflite of export.tflite: its labels and thresholds (a ZIP behind the model) and its tensors (a FlatBuffer).

const LARGEST_TEXT = 2 ** 24;
const TYPES = { 0: "float32", 3: "uint8", 9: "int8" };

/** What is wrong with a file; `kind` names the sentence in strings.js, `reason` is a part of it. */
export class ModelFault extends Error {
  constructor(kind, reason = "") {
    super(reason || kind);
    this.kind = kind;
    this.reason = reason;
  }
}

/**
 * {labels, thresholds, size, scores, attention}: `scores` and `attention` are tensors {shape, type, scale, zeroPoint},
 * `attention` is undefined where the model has none. Throws ModelFault.
 */
export async function readModelFile(bytes) {
  if (String.fromCharCode(...bytes.subarray(4, 8)) !== "TFL3") throw new ModelFault("notATflite");
  let lines, numbers;
  try {
    lines = await textOf(bytes, "labels.txt");
    numbers = await textOf(bytes, "thresholds.txt");
  } catch (error) {
    throw new ModelFault("noMetadata", error.message);
  }
  const thresholds = Float32Array.from(numbers, (line) => (line.trim() ? Number(line) : NaN));
  if (lines.length !== thresholds.length) {
    throw new ModelFault("labelsDoNotFit", `has ${lines.length} labels and ${thresholds.length} thresholds`);
  }
  if (new Set(lines).size < lines.length || !thresholds.every(Number.isFinite)) {
    throw new ModelFault("labelsDoNotFit", "has a label twice, or a threshold that is not a number");
  }
  const { input, scores, attention } = tensorsOf(bytes);
  if (scores?.shape[1] !== lines.length) {
    throw new ModelFault("labelsDoNotFit", `has ${scores?.shape[1] ?? 0} scores and ${lines.length} labels`);
  }
  return { labels: lines, thresholds, size: input.shape[1], scores, attention };
}

// ---- The ZIP (PKWARE's APPNOTE: end of central directory, central directory, local headers)

async function textOf(bytes, name) {
  const entry = entriesOf(bytes).get(name);
  if (!entry) throw new Error(`there is no ${name} in it`);
  if (entry.size > LARGEST_TEXT) throw new Error(`${name} would unpack to more than ${LARGEST_TEXT} bytes`);
  const view = viewOf(bytes);
  const start = entry.offset + 30 + view.getUint16(entry.offset + 26, true) + view.getUint16(entry.offset + 28, true);
  const packed = bytes.subarray(start, start + entry.packedSize);
  if (view.getUint32(entry.offset, true) !== 0x04034b50 || packed.length < entry.packedSize) throw new Error(`${name} is cut short`);
  const content = entry.method === 0 ? packed : await inflated(packed, entry);
  if (content.length !== entry.size || crc32(content) !== entry.crc) throw new Error(`${name} is damaged`);
  const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(content);
  return (text.endsWith("\n") ? text.slice(0, -1) : text).split("\n");
}

function entriesOf(bytes) {
  const view = viewOf(bytes);
  let end = bytes.length - 22; // where it is without a comment
  while (end >= 0 && bytes.length - end < 65558 && view.getUint32(end, true) !== 0x06054b50) end--;
  if (end < 0 || view.getUint32(end, true) !== 0x06054b50) throw new Error("it ends with no ZIP");
  const entries = new Map();
  let at = view.getUint32(end + 16, true);
  for (let count = view.getUint16(end + 10, true); count > 0; count--) {
    if (at + 46 > bytes.length || view.getUint32(at, true) !== 0x02014b50) throw new Error("its ZIP is damaged");
    const lengths = [28, 30, 32].map((field) => view.getUint16(at + field, true));
    const name = new TextDecoder().decode(bytes.subarray(at + 46, at + 46 + lengths[0]));
    if (view.getUint16(at + 8, true) & 1) throw new Error(`${name} is encrypted`);
    entries.set(name, {
      method: view.getUint16(at + 10, true),
      crc: view.getUint32(at + 16, true),
      packedSize: view.getUint32(at + 20, true),
      size: view.getUint32(at + 24, true),
      offset: view.getUint32(at + 42, true),
    });
    at += 46 + lengths[0] + lengths[1] + lengths[2];
  }
  return entries;
}

async function inflated(packed, entry) {
  if (entry.method !== 8) throw new Error("it is packed in a way that is not known");
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  const content = new Uint8Array(entry.size); // no more than what it says, whatever comes
  let filled = 0;
  for (const reader = stream.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) return content.subarray(0, filled);
    if (filled + value.length > content.length) throw new Error("it unpacks to more than it says");
    content.set(value, filled);
    filled += value.length;
  }
}

function crc32(content) {
  let crc = ~0;
  for (const byte of content) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return ~crc >>> 0;
}

// ---- The FlatBuffer (TFLite's schema.fbs: the numbers are the fields' places in their tables)

function tensorsOf(bytes) {
  try {
    const file = new FlatBuffer(bytes);
    const [graph] = file.tables(file.root(), 2);
    const tensors = file.tables(graph, 0);
    const [inputs, outputs] = [1, 2].map((field) => file.integers(graph, field).map((index) => file.tensor(tensors[index])));
    const [input] = inputs;
    const [batch, height, width, channels] = input?.shape ?? [];
    if (inputs.length !== 1 || input.type !== "uint8" || batch !== 1 || height !== width || channels !== 3) {
      throw new ModelFault("notRunnable", "it does not take one uint8 RGB photo");
    }
    return { input, scores: outputs.find(({ shape }) => shape.length === 2), attention: outputs.find(({ shape }) => shape.length === 4) };
  } catch (error) {
    if (error instanceof ModelFault) throw error;
    throw new ModelFault("notRunnable", "it is damaged");
  }
}

/** Tables, vectors and numbers of a FlatBuffer; DataView throws where an offset leads out of the file. */
class FlatBuffer {
  constructor(bytes) {
    this.view = viewOf(bytes);
  }

  root() {
    return this.view.getUint32(0, true);
  }

  field(table, number) {
    const entries = table - this.view.getInt32(table, true);
    const place = 4 + 2 * number;
    const offset = place < this.view.getUint16(entries, true) ? this.view.getUint16(entries + place, true) : 0;
    return offset && table + offset;
  }

  vector(table, number, width, read) {
    const field = this.field(table, number);
    if (!field) return [];
    const start = field + this.view.getUint32(field, true);
    const length = this.view.getUint32(start, true);
    if (start + 4 + length * width > this.view.byteLength) throw new RangeError("a vector leads out of the file");
    return Array.from({ length }, (_, index) => read(start + 4 + index * width));
  }

  tables(table, number) {
    return this.vector(table, number, 4, (at) => at + this.view.getUint32(at, true));
  }

  integers(table, number) {
    return this.vector(table, number, 4, (at) => this.view.getInt32(at, true));
  }

  tensor(table) {
    const type = this.field(table, 1);
    const quantization = this.field(table, 4);
    const parameters = quantization && quantization + this.view.getUint32(quantization, true);
    const [scale] = parameters ? this.vector(parameters, 2, 4, (at) => this.view.getFloat32(at, true)) : [];
    const [zeroPoint] = parameters ? this.vector(parameters, 3, 8, (at) => Number(this.view.getBigInt64(at, true))) : [];
    return { shape: this.integers(table, 0), type: TYPES[type ? this.view.getInt8(type) : 0], scale, zeroPoint };
  }
}

function viewOf(bytes) {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
