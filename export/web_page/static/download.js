// A file of this page, with progress.

/** The file's bytes; `onProgress(bytes so far)`. */
export async function download(url, onProgress = () => {}) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`status ${response.status}`);
  const parts = [];
  let length = 0;
  for (const reader = response.body.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) break;
    parts.push(value);
    onProgress((length += value.length));
  }
  const bytes = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}
