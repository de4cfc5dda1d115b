// A photo at the model's size: bilinear with antialiasing, in the fixed-point numbers of Pillow, which evaluation uses.
//
// A pixel of the result is the mean of the photo's pixels around it, weighted by a triangle as wide as two pixels of
// the result (two of the photo where it is enlarged). First along rows, then along columns, with bytes between.

const PRECISION = 22; // bits behind the point: 8 + 22 bits and a sign are an int32
const HALF = 1 << (PRECISION - 1);

/** For each of `out` places: where its weights start among `size` pixels, how many they are, and the weights. */
function weightsOf(size, out) {
  const scale = size / out;
  const reach = Math.max(scale, 1);
  return Array.from({ length: out }, (_, place) => {
    const centre = (place + 0.5) * scale;
    const start = Math.max(0, Math.trunc(centre - reach + 0.5));
    const end = Math.min(size, Math.trunc(centre + reach + 0.5));
    const triangle = Array.from({ length: end - start }, (_, i) => Math.max(0, 1 - Math.abs((start + i - centre + 0.5) / reach)));
    const sum = triangle.reduce((a, b) => a + b, 0);
    return { start, weights: Int32Array.from(triangle, (weight) => Math.trunc((weight / sum) * (1 << PRECISION) + 0.5)) };
  });
}

/** Takes a photo's rows from top to bottom, a few at a time, so that none of it is held twice at full size. */
export class Resizer {
  constructor(width, height, size) {
    this.width = width;
    this.size = size;
    this.across = weightsOf(width, size);
    this.down = weightsOf(height, size);
    this.rows = new Uint8Array(height * size * 3);
    this.filled = 0;
  }

  /** Adds rows of RGBA bytes. */
  add(rgba) {
    const { width, size, across, rows } = this;
    const count = rgba.length / (4 * width);
    for (let row = 0; row < count; row++) {
      let to = (this.filled + row) * size * 3;
      for (const { start, weights } of across) {
        let red = HALF, green = HALF, blue = HALF; // prettier-ignore
        for (let i = 0, from = 4 * (row * width + start); i < weights.length; i++, from += 4) {
          red += rgba[from] * weights[i];
          green += rgba[from + 1] * weights[i];
          blue += rgba[from + 2] * weights[i];
        }
        rows[to++] = Math.min(255, red >> PRECISION);
        rows[to++] = Math.min(255, green >> PRECISION);
        rows[to++] = Math.min(255, blue >> PRECISION);
      }
    }
    this.filled += count;
  }

  /** RGB bytes, `[size, size, 3]`. */
  result() {
    const { size, down, rows } = this;
    const line = size * 3;
    const pixels = new Uint8Array(size * line);
    down.forEach(({ start, weights }, row) => {
      for (let column = 0; column < line; column++) {
        let sum = HALF;
        for (let i = 0, from = start * line + column; i < weights.length; i++, from += line) sum += rows[from] * weights[i];
        pixels[row * line + column] = Math.min(255, sum >> PRECISION);
      }
    });
    return pixels;
  }
}
