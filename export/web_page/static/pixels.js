// A photo's file → the pixels that the model sees, and a smaller picture to show.

import { Resizer } from "./resize.js";

const STRIP_PIXELS = 1 << 21; // read at a time: some browsers have no canvas of a whole photo's size
const SHOWN = 720;

/**
 * {pixels, picture, decode, resize}: uint8 RGB `[size, size, 3]`, an ImageBitmap of at most SHOWN pixels a side, and
 * milliseconds. The photo comes upright by EXIF; like evaluation, colour profiles are left alone.
 */
export async function readPhoto(file, size) {
  const started = performance.now();
  const photo = await createImageBitmap(file, { imageOrientation: "from-image", colorSpaceConversion: "none" });
  try {
    const decoded = performance.now();
    const pixels = resized(photo, size);
    const done = performance.now();
    return { pixels, picture: await smaller(photo), decode: decoded - started, resize: done - decoded };
  } finally {
    photo.close();
  }
}

function resized(photo, size) {
  const { width, height } = photo;
  const resizer = new Resizer(width, height, size);
  const rows = Math.max(1, Math.min(height, Math.floor(STRIP_PIXELS / width)));
  const context = new OffscreenCanvas(width, rows).getContext("2d", { willReadFrequently: true });
  context.globalCompositeOperation = "copy";
  for (let top = 0; top < height; top += rows) {
    const count = Math.min(rows, height - top);
    context.drawImage(photo, 0, top, width, count, 0, 0, width, count);
    resizer.add(context.getImageData(0, 0, width, count).data);
  }
  return resizer.result();
}

function smaller(photo) {
  const scale = Math.min(1, SHOWN / Math.max(photo.width, photo.height));
  const [resizeWidth, resizeHeight] = [photo.width, photo.height].map((side) => Math.max(1, Math.round(side * scale)));
  return createImageBitmap(photo, { resizeWidth, resizeHeight, resizeQuality: "high" });
}
