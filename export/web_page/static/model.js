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
      return fault ? reject(faultOf(fault)) : resolve(result);
    };
    // A worker that ends (memory, a damaged file of the page) answers nothing: all that wait or come later are told.
    this.worker.onerror = (event) => {
      event.preventDefault();
      this.end("notRun", event.message);
    };
    this.count = 0;
  }

  call(call, given = {}, transferred = []) {
    if (this.ended) return Promise.reject(faultOf(this.ended));
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
    this.end("closed", "another model took its place");
  }

  end(kind, reason) {
    this.worker.terminate();
    this.ended = { kind, reason };
    for (const { reject } of this.waiting.values()) reject(faultOf(this.ended));
    this.waiting.clear();
  }
}

function faultOf(fault) {
  return Object.assign(new Error(fault.reason), fault);
}
