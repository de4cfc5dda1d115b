// The model as the page sees it: a worker that answers calls one after the other.

export class Model {
  /** `onProgress({done, total})` while it is loaded. */
  constructor(onProgress) {
    this.worker = new Worker("worker.js");
    this.waiting = new Map();
    this.worker.onmessage = ({ data: { id, result, fault, progress } }) => {
      if (progress) return onProgress(progress);
      const { resolve, reject } = this.waiting.get(id);
      this.waiting.delete(id);
      return fault ? reject(Object.assign(new Error(fault.reason), fault)) : resolve(result);
    };
    // A worker that ends (memory, a damaged file of the page) answers nothing: all that wait are told.
    this.worker.onerror = (event) => {
      event.preventDefault();
      this.rejectAll("notRun", event.message);
    };
    this.count = 0;
  }

  call(call, given = {}, transferred = []) {
    const id = ++this.count;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject });
      this.worker.postMessage({ id, call, ...given }, transferred);
    });
  }

  /** Loads the page's model, or `content`, a Uint8Array of another one. */
  async load(content) {
    Object.assign(this, await this.call("load", { content }, content ? [content.buffer] : []));
  }

  look(file) {
    return this.call("look", { file });
  }

  close() {
    this.worker.terminate();
    this.rejectAll("closed", "another model took its place");
  }

  rejectAll(kind, reason) {
    for (const { reject } of this.waiting.values()) reject(Object.assign(new Error(reason), { kind, reason }));
    this.waiting.clear();
  }
}
